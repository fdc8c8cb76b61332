"""What every request passes before it reaches a route, as plain ASGI so that bodies stream through unread.

Order: headers and the access log, then who calls (key, origin, rate), then the size of the body. What a route asks of
its callers stands at the route: see `query_api.access`.
"""

import asyncio
import dataclasses
import time
import traceback

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from query_api.access import Access, OwnRate, access_for
from query_api.auth import Keys
from query_api.origins import Fault, Origins, is_loopback
from query_api.problems import problem, unexpected
from query_api.rate_limit import RateLimit
from query_api.request_metrics import RequestMetrics
from schemas.errors import ConfigurationError
from streams.settings import Settings

log = structlog.get_logger("query_api.access")

DRAIN_SECONDS = 10.0
DRAIN_FACTOR, DRAIN_LEAST_BYTES = 8, 8 << 20
"""A body that is refused for its size is read on, unheard: so many times the limit, and at least so many bytes."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "cache-control": "no-store",
}
"""Of every answer that does not say otherwise itself."""


def check_exposure(settings: Settings) -> None:
    """Raises `ConfigurationError` for an address that others reach while anybody may ask anything."""
    if is_loopback(settings.host) or needs_keys(settings) or settings.allow_unauthenticated:
        return
    raise ConfigurationError(
        f"{settings.host} is reachable from other machines: configure GLUCAST_API_KEYS_FILE, "
        "or set GLUCAST_ALLOW_UNAUTHENTICATED=1 where something in front of glucast checks who calls"
    )


def needs_keys(settings: Settings) -> bool:
    """Keys are on when they are asked for or configured."""
    return settings.enable_api_keys or settings.api_keys_file is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes no further."""

    status: int
    code: str
    detail: str
    retry_after_seconds: int | None = None


_FAULTS: dict[Fault, tuple[int, str]] = {
    "malformed_host": (400, "the header Host is not one host name or address, with or without a port"),
    "malformed_origin": (400, "the header Origin is not scheme://host, with or without a port"),
    "foreign_host": (403, "not served under this name: ask for localhost, or list it in GLUCAST_ALLOWED_HOSTS"),
    "foreign_origin": (403, "this origin is not allowed: list it in GLUCAST_CORS_ORIGINS"),
}


class Callers:
    """Decides whether a request may go on, from its headers alone, before its body is read."""

    def __init__(self, settings: Settings) -> None:
        """Raises `ConfigurationError` where keys are wanted and cannot be read."""
        if settings.enable_api_keys and settings.api_keys_file is None:
            raise ConfigurationError("API keys are on and there are none: set GLUCAST_API_KEYS_FILE")
        self._keys = Keys(settings.api_keys_file) if settings.api_keys_file else None
        limited = self._keys is not None or not is_loopback(settings.host)
        self._limit = RateLimit(settings.rate_limit) if limited else None
        self._own_limits: dict[OwnRate, RateLimit] = {"convert_rate_limit": RateLimit(settings.convert_rate_limit)}
        only_local = self._keys is None and is_loopback(settings.host)
        self._origins = Origins((*settings.allowed_hosts, settings.host), settings.cors_origins, only_local)

    def refusal(self, scope: Scope, headers: Headers, access: Access) -> Refusal | None:
        """None where the request may go on; `scope["caller"]` then names who makes it."""
        scope["caller"] = "anonymous"
        fault = self._origins.fault(headers, scope.get("http_version", "1.1"))
        if fault is not None:
            status, detail = _FAULTS[fault]
            return Refusal(status, fault, detail)
        if self._keys is not None and access.audience == "key":
            key = headers.get("x-api-key")
            if not key:
                return Refusal(401, "api_key_required", "API key required: send it in the header X-API-Key")
            name = self._keys.name_of(key)
            if name is None:
                wait = self._wait(scope, "wrong key")
                return wait or Refusal(403, "invalid_api_key", "Invalid API key")
            scope["caller"] = name
        return self._wait(scope, scope["caller"], access.own_rate) if access.counted else None

    def _wait(self, scope: Scope, caller: str, own_rate: OwnRate | None = None) -> Refusal | None:
        limit = self._limit
        if limit is None:
            return None
        if own_rate is not None:
            limit = self._own_limits[own_rate]
        address = scope["client"][0] if scope.get("client") else "unknown"
        by_address = own_rate is not None or caller in ("anonymous", "wrong key")
        seconds = limit.wait_seconds(address if by_address else caller)
        if seconds is None:
            return None
        return Refusal(429, "too_many_requests", f"too many requests; try again in {seconds} s", seconds)


class Gate:
    """The ASGI application around the routes."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: RequestMetrics) -> None:
        self._app = app
        self._settings = settings
        self._callers = Callers(settings)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing can be declared of these yet, so they are closed
            await WebSocketClose()(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        access = access_for(scope)
        begin = time.perf_counter()
        status, started = 500, False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._guarded(scope, access, receive, send_with_headers)
        except Exception as error:
            # Here, because whoever else caught it would log what it says, and that may be about a person.
            stack = "".join(traceback.format_tb(error.__traceback__))
            log.error("request failed", error=type(error).__name__, stack=stack)
            if started:
                raise ConnectionAbortedError from None
            await unexpected()(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - begin
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(route, scope["method"], status, seconds)
            if access.counted:
                log.info(
                    "request", method=scope["method"], route=route, status=status, ms=round(1000 * seconds, 1),
                    caller=scope.get("caller", "anonymous"),
                )  # fmt: skip

    async def _guarded(self, scope: Scope, access: Access, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refusal = self._callers.refusal(scope, headers, access)
        limit = access.largest_body_bytes(self._settings)
        declared = headers.get("content-length", "0")
        if refusal is None and declared.isdecimal() and int(declared) > limit:
            refusal = _too_large(limit)
        if refusal is not None:
            await _refuse(refusal, limit, scope, receive, send)
            return
        await self._app(scope, _limited(receive, limit), send)


def _too_large(limit: int) -> Refusal:
    most = f"{limit / (1 << 20):.1f} MiB" if limit >= 1 << 20 else f"{limit / (1 << 10):.0f} KiB"
    return Refusal(413, "too_large", f"the body is larger than the {most} that are accepted here")


def _limited(receive: Receive, limit: int) -> Receive:
    """Counts a body of unknown length as it streams and ends it at the limit."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, _too_large(limit).detail, {"Connection": "close"})
        return message

    return limited


async def _refuse(refusal: Refusal, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once; then let a client that still sends its body finish, unread, so that it sees the answer."""
    headers = {"Retry-After": str(refusal.retry_after_seconds)} if refusal.retry_after_seconds else {}
    if refusal.status == 413:
        headers["Connection"] = "close"
    answer = problem(refusal.status, refusal.detail, refusal.code, headers)

    async def send_then_drain(message: Message) -> None:
        if refusal.status != 413 or message["type"] != "http.response.body":
            await send(message)
            return
        await send({**message, "more_body": True})
        await _drain(receive, max(DRAIN_LEAST_BYTES, DRAIN_FACTOR * limit))
        await send({"type": "http.response.body", "body": b""})

    await answer(scope, receive, send_then_drain)


async def _drain(receive: Receive, most_bytes: int) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while most_bytes > 0:
                message = await receive()
                most_bytes -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return
