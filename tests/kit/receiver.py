"""A receiver of webhooks on loopback: keeps what it got, and answers, hangs or fails as a test says."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from tests.kit.listening import listening

NETWORK = "127.0.0.0/8"
"""What a sender has to be allowed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int


@dataclasses.dataclass(slots=True)
class Receiver:
    """`statuses`: how the next requests are answered, then 204; `hangs` while it is set to: no answer at all."""

    url: str = ""
    got: list[Received] = dataclasses.field(default_factory=list)
    statuses: list[int] = dataclasses.field(default_factory=list)
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    hangs: bool = False
    hanging: int = 0

    @property
    def accepted(self) -> list[Received]:
        return [each for each in self.got if each.status < 300]

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.hangs:
            self.hanging += 1
            await asyncio.Event().wait()
        status = self.statuses.pop(0) if self.statuses else 204
        self.got.append(Received(request.path, dict(request.headers), body, status))
        return web.Response(status=status, headers=self.headers)


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that listens while the block runs."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.answer)
    async with listening(application) as receiver.url:
        yield receiver
