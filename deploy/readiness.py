"""Asks a role's ``/readyz``: one small HTTP request on loopback, without a client library."""

import asyncio
import dataclasses
import json
from typing import Any

_LARGEST_ANSWER_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a role is ready; if not, why, as far as it says."""

    ready: bool
    reason: str = ""


async def get(port: int, path: str, host: str = "127.0.0.1", timeout_seconds: float = 2.0) -> tuple[int, bytes]:
    """Status and body of a GET; status 0 where nothing answers."""
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read(_LARGEST_ANSWER_BYTES)).partition(b"\r\n\r\n")
                if not reader.at_eof():
                    body += await reader.read(_LARGEST_ANSWER_BYTES)
            finally:
                writer.close()
        return int(head.split(b" ", 2)[1]), body
    except (OSError, TimeoutError, ValueError, IndexError):
        return 0, b""


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
