"""A worker's small HTTP server: is it alive, is it ready, what does it measure. No data, no tables."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp import web


@dataclasses.dataclass(frozen=True, slots=True)
class NotReady:
    """One reason why a worker is not ready: a stable code and words for a person."""

    code: str
    text: str


class Exposing(Protocol):
    """What a process measures."""

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""


class HealthServer:
    """``/livez`` (a worker that stalls ends itself), ``/readyz`` (200, or 503 with reasons), ``/metrics``."""

    def __init__(self, metrics: Exposing, reasons: Callable[[], Sequence[NotReady]]) -> None:
        self._metrics, self._reasons = metrics, reasons
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen on `port` of the address `host`, on any free one for 0; `self.port` tells which."""
        application = web.Application()
        application.add_routes(
            [web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._scrape)]
        )
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = [dataclasses.asdict(reason) for reason in self._reasons()]
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _scrape(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})
