"""Clients that are told: one that follows events and resumes where it was, and a receiver of webhooks.

They are as a browser's `EventSource` and a plain web server are, and keep nothing: what comes is handed on.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
import orjson
from aiohttp import web

from deploy.brokers.wire import LOOPBACK

AGAIN_SECONDS = 0.5
"""Between the end of a stream and the next attempt; sooner than the API asks for, so that more is seen of an outage."""
SILENCE_SECONDS = 40.0
"""Two heartbeats and a bit: who hears nothing for so long begins anew."""


class Event(NamedTuple):
    """One event as it came, at this Unix time."""

    at: float
    kind: str
    id: str
    data: Any


class Follower:
    """Follows events until cancelled."""

    def __init__(self, session: aiohttp.ClientSession, url: str, told: Callable[[Event], None]) -> None:
        self._session, self._url, self._told = session, url, told
        self._last: str | None = None
        self.streams = 0
        """How often it has begun; one more than it has been cut off."""
        self.refusals = 0

    async def run(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                await self._follow()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _follow(self) -> None:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last} if self._last else {})
        limits = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)
        async with self._session.get(self._url, headers=headers, timeout=limits) as answer:
            if answer.status != 200:
                self.refusals += 1
                return
            self.streams += 1
            async for fields in blocks(answer.content.iter_any()):
                self._last = fields.get("id") or self._last
                if "event" in fields:
                    event = Event(time.time(), fields["event"], fields.get("id", ""), orjson.loads(fields["data"]))
                    self._told(event)


async def blocks(pieces: AsyncIterable[bytes]) -> AsyncIterator[Mapping[str, str]]:
    """The fields of each block of a stream, https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    text = b""
    async for piece in pieces:
        text += piece
        *whole, text = text.split(b"\n\n")
        for block in whole:
            pairs = (line.partition(": ") for line in block.decode().split("\n"))
            yield {name: value for name, _, value in pairs if name}


class Delivery(NamedTuple):
    """A webhook as it came, at this Unix time."""

    at: float
    path: str
    id: str
    body: Mapping[str, Any]


class Receiver:
    """A web server that takes webhooks; until it is mended, at `hangs` it never answers, at `fails` with 500."""

    def __init__(self, told: Callable[[Delivery], None], hangs: str = "", fails: str = "") -> None:
        self._told, self._hangs, self._fails = told, hangs, fails
        application = web.Application(client_max_size=1 << 20)
        application.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        self._ended = asyncio.Event()
        self._is_mended = False
        self.asked_in_vain = 0

    async def start(self) -> str:
        """The address that it listens at."""
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, 0).start()
        return f"http://{LOOPBACK}:{self._runner.addresses[0][1]}"

    def mend(self) -> None:
        """From now on every path answers; whoever was left hanging gets 500."""
        self._is_mended = True
        self._ended.set()

    async def close(self) -> None:
        self._ended.set()
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        now = time.time()
        if request.path in (self._hangs, self._fails) and not self._is_mended:
            self.asked_in_vain += 1
            if request.path == self._hangs:
                await self._ended.wait()
            return web.Response(status=500)
        self._told(Delivery(now, request.path, request.headers["webhook-id"], orjson.loads(body)))
        return web.Response(status=204)
