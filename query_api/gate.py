"""What every request passes before it reaches a route, as plain ASGI so that bodies stream through unread.

Order: headers and the access log, then who calls (key, origin, rate), then the size of the body. What a route asks of
its callers stands at the route: see `query_api.access`.
"""

import asyncio
import time
import traceback
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from query_api import trace
from query_api.access import Access, found_for
from query_api.audit import Audit
from query_api.callers import Callers, Refusal
from query_api.problems import answer_of, unexpected
from query_api.request_metrics import RequestMetrics
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
_RAW_HEADERS = tuple((name.encode(), value.encode()) for name, value in _HEADERS.items())


class Gate:
    """The ASGI application around the routes."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: RequestMetrics) -> None:
        self._app = app
        self._settings = settings
        self._callers = Callers(settings)
        self._audit = Audit(settings.state_dir)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing can be declared of these yet, so they are closed
            await WebSocketClose()(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        access, in_path = found_for(scope)
        begin = time.perf_counter()
        status, started = 500, False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                headers = message.get("headers", ())
                said = {name for name, _ in headers}
                message["headers"] = [*headers, *(item for item in _RAW_HEADERS if item[0] not in said)]
                if access.streams:
                    self._tell(scope, access, in_path, status, time.perf_counter() - begin)
            await send(message)

        try:
            with trace.of_request(Headers(scope=scope)):
                await self._guarded(scope, access, in_path, receive, send_with_headers)
        except Exception as error:
            # Here, because whoever else caught it would log what it says, and that may be about a person.
            stack = "".join(traceback.format_tb(error.__traceback__))
            log.error("request failed", error=type(error).__name__, stack=stack)
            if started:
                raise ConnectionAbortedError from None
            await unexpected(scope)(scope, receive, send_with_headers)
        finally:
            if not (access.streams and started):
                self._tell(scope, access, in_path, status, time.perf_counter() - begin)

    def _tell(self, scope: Scope, access: Access, in_path: Mapping[str, Any], status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.answered(route, scope["method"], status, seconds)
        if access.counted:
            log.info(
                "request", method=scope["method"], route=route, status=status, ms=round(1000 * seconds, 1),
                caller=scope.get("caller", "anonymous"),
            )  # fmt: skip
        if access.audit is not None:
            self._audit.tell(scope, access.audit, in_path, status)

    async def _guarded(
        self, scope: Scope, access: Access, in_path: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        headers = Headers(scope=scope)
        refusal = self._callers.refusal(scope, headers, access, in_path)
        limit = access.largest_body_bytes(self._settings)
        declared = headers.get("content-length", "0")
        if refusal is None and declared.isdecimal() and int(declared) > limit:
            refusal = _too_large(limit)
        if refusal is not None:
            await _refuse(refusal, limit, scope, receive, send)
            return
        counted = _Limited(receive, limit)
        try:
            await self._app(scope, counted, send)
        finally:
            if "content-length" not in headers:
                self._callers.received(scope, counted.seen)


def _too_large(limit: int) -> Refusal:
    most = f"{limit / (1 << 20):.1f} MiB" if limit >= 1 << 20 else f"{limit / (1 << 10):.0f} KiB"
    return Refusal(
        413,
        "too_large",
        f"the body is larger than the {most} accepted here: send less at once, or a file of a shorter time range",
    )


class _Limited:
    """Counts a body as it streams, and ends it at the limit."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self.seen = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.seen += len(message.get("body", b""))
            if self.seen > self._limit:
                raise HTTPException(413, _too_large(self._limit).detail, {"Connection": "close"})
        return message


async def _refuse(refusal: Refusal, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once; then let a client that still sends its body finish, unread, so that it sees the answer."""
    headers = {"Retry-After": str(refusal.retry_after_seconds)} if refusal.retry_after_seconds else {}
    if refusal.status == 413:
        headers["Connection"] = "close"
    answer = answer_of(scope, refusal.status, refusal.detail, refusal.code, headers)

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
