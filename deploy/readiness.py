"""Asks a role's ``/readyz``: one small HTTP request on this machine."""

import asyncio
import dataclasses
import json
import ssl
from typing import Any

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Given to each client, which else loads all that it trusts: 20 ms of computing for a question without encryption."""


@dataclasses.dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a role is ready; if not, why, as far as it says."""

    ready: bool
    reason: str = ""


def reached_at(bound: str) -> str:
    """Where this machine asks who listens at an address: of all addresses the loopback of their kind."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound, bound)  # noqa: S104 - nothing is bound here


async def get(port: int, path: str, host: str = "127.0.0.1", timeout_seconds: float = 2.0) -> tuple[int, bytes]:
    """Status and body of a GET; status 0 where nothing answers, or no HTTP, or not all of it in time."""
    import httpx  # here, because the first question comes while the roles are starting anyway

    url = httpx.URL(scheme="http", host=host, port=port, path=path)
    try:
        # Whatever proxy the environment names, it does not lead to this machine.
        client = httpx.AsyncClient(trust_env=False, verify=NO_CERTIFICATES, timeout=timeout_seconds)
        async with asyncio.timeout(timeout_seconds), client:  # of the whole: httpx allows it anew for each read
            answer = await client.get(url)
    except (httpx.HTTPError, TimeoutError):
        return 0, b""
    return answer.status_code, answer.content


async def probe(port: int, host: str = "127.0.0.1") -> Readiness:
    """The role that listens on this port. A role that does not listen yet is starting."""
    status, body = await get(port, "/readyz", host)
    if status == 200:
        return Readiness(True)
    return Readiness(False, _reason(body) if status else "starting")


def _reason(body: bytes) -> str:
    try:
        told: Any = json.loads(body)
    except ValueError:
        return "not ready"
    reasons = told.get("reasons") if isinstance(told, dict) else None
    if isinstance(reasons, dict):
        reasons = list(reasons.values())
    if not isinstance(reasons, list) or not reasons:
        return "not ready"
    return ", ".join(
        str(item.get("text") or item.get("code")) if isinstance(item, dict) else str(item) for item in reasons
    )
