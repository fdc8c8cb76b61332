"""One attempt to send one delivery over HTTP: signed, to an allowed address, in time, with no redirect followed."""

import dataclasses
import datetime
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from standardwebhooks import Webhook as Signer

from agents.core.local_time import spoken
from schemas.fan_chart import DISCLAIMER
from schemas.webhook import Delivery
from streams.notify.addresses import Network, is_allowed, is_public, parsed
from streams.notify.events import UNTIL_ENDED
from streams.notify.schedule import asked_seconds
from streams.notify.webhook_file import Endpoint

_GONE = "it answers 410: it wants nothing more"
"""Ever: the webhook is disabled (Standard Webhooks)."""
_URGENT = {"urgent_low": "urgent", "falling_fast": "high", "low": "high", "urgent_high": "high"}
"""ntfy's priorities; default for all others."""
_LATE = datetime.timedelta(minutes=5)
"""From then on a message says how old it is: its text says "now"."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt ended: an answer's status, if there was one, and why it failed, in words without the address."""

    status: int | None
    reason: str | None
    asked_seconds: float | None = None
    over: str | None = None
    """Why nothing is to be sent there any more."""

    @property
    def ok(self) -> bool:
        return self.reason is None


class _RefusedAddressError(OSError):
    """Where a name leads, or what a URL names, is no place to send to."""


class Sender:
    """Sends to one webhook, one delivery at a time; connections are not kept, so each is judged by its address."""

    def __init__(self, endpoint: Endpoint, timeout_seconds: float, networks: tuple[Network, ...]) -> None:
        self._endpoint = endpoint
        self._networks = networks
        self._encrypted = endpoint.url.get_secret_value().startswith("https:")
        self._refused: str | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, force_close=True, use_dns_cache=False, socket_factory=self._socket),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._timeout_seconds = timeout_seconds

    async def send(self, delivery: Delivery, now: datetime.datetime) -> Attempt:
        """Never raises for what the other side does."""
        body, headers = request_of(self._endpoint, delivery, now)
        attempt, _ = await self._ask("POST", self._endpoint.url.get_secret_value(), headers, now, body)
        return attempt

    async def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        now: datetime.datetime,
        body: bytes | None = None,
        most_bytes: int = 0,
    ) -> tuple[Attempt, bytes]:
        """One request, and as much of its answer as is wanted: an answer could go on for ever."""
        self._refused = None
        try:
            async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
                wish = asked_seconds(answer.headers.get("Retry-After"), now)
                attempt = Attempt(
                    answer.status, reason_of(answer.status), wish, _GONE if answer.status == 410 else None
                )
                return attempt, await _first(answer.content, most_bytes) if attempt.ok else b""
        except TimeoutError:
            return Attempt(None, f"no answer within {self._timeout_seconds:g} s"), b""
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Attempt(None, self._refused or _words(error)), b""

    async def close(self) -> None:
        await self._session.close()

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Called with the address that is about to be connected to: whatever a name said before does not count."""
        family, kind, protocol, _, place = info
        self._refused = why_refused(str(place[0]), self._encrypted, self._networks)
        if self._refused is not None:
            raise _RefusedAddressError(self._refused)
        return socket.socket(family, kind, protocol)


async def _first(content: aiohttp.StreamReader, most_bytes: int) -> bytes:
    """The beginning of an answer, or all of it."""
    found = b""
    while len(found) < most_bytes and (more := await content.read(most_bytes - len(found))):
        found += more
    return found


def why_refused(address: str, encrypted: bool, networks: tuple[Network, ...]) -> str | None:
    """Why nothing is sent to an address; None where it may be."""
    place = parsed(address)
    if is_allowed(place, networks):
        return None
    if not is_public(place):
        return "it leads to an address that is not public: GLUCAST_WEBHOOK_PRIVATE_NETWORKS may allow its network"
    if not encrypted:
        return "it would be sent in the clear: use https"
    return None


def request_of(endpoint: Endpoint, delivery: Delivery, now: datetime.datetime) -> tuple[bytes, Mapping[str, str]]:
    """Body and headers of an attempt."""
    text = delivery.body or ""
    secret = None if endpoint.secret is None else endpoint.secret.get_secret_value()
    if endpoint.channel == "ntfy":
        return _for_ntfy(delivery, now, secret)
    assert secret is not None  # noqa: S101  the file has been checked
    moment = now.astimezone(datetime.UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "glucast",
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Signer(secret).sign(delivery.event_id, moment, text),
    }
    return text.encode(), headers


def _for_ntfy(delivery: Delivery, now: datetime.datetime, token: str | None) -> tuple[bytes, Mapping[str, str]]:
    """A message for a person: who, what, why, and of when where that is not now. https://docs.ntfy.sh/publish/"""
    event = orjson.loads(delivery.body or "")
    alert = event["data"]
    kind = str(alert["kind"])
    said = "" if event["type"] == "alert.raised" else f" ({alert['status']})"
    telling = event["type"] in ("alert.raised", "alert.repeated")
    issued, began = datetime.datetime.fromisoformat(alert["issue_time"]), delivery.began_at or delivery.queued_at
    is_of_issue_time = not alert["simulated"] and kind not in UNTIL_ENDED
    age = now - (min(issued, began) if telling and is_of_issue_time else began)
    ago = f"{spoken(int(age.total_seconds()) // 60)} ago" if age >= _LATE else ""
    headers = {
        "User-Agent": "glucast",
        "Title": f"{alert['subject_id']}: {kind.replace('_', ' ')}{said}{ago and f', {ago}'}",
        "Priority": _URGENT.get(kind, "default") if telling else "low",
        "Tags": "warning" if telling else "information_source",
    }
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    at = f"At {issued:%H:%M}, " if telling and is_of_issue_time else ""
    return f"{ago and f'{at}{ago}: '}{alert['reason']}. {DISCLAIMER}".encode(), headers


def reason_of(status: int) -> str | None:
    """Why an answer is a failure; None where it is none."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"it answers {status}: redirects are not followed, give the address that it leads to"
    return f"it answers {status}"


def _words(error: Exception) -> str:
    """Without the address, of which the path may be a secret."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    if isinstance(error, aiohttp.ClientSSLError):
        return "its certificate or its TLS does not work"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "it cannot be connected to"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return "it hung up"
    return f"it cannot be sent to ({type(error).__name__})"
