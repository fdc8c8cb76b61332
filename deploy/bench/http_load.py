"""Requests a second of one route: a few clients on connections of their own, each asking again when it was answered."""

import asyncio
import dataclasses
import json
import re
from typing import Any
from urllib.parse import urlsplit

from schemas.errors import UnavailableError

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"
ANSWER_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What was answered, and in which time."""

    answers: int
    seconds: float
    each_seconds: tuple[float, ...]

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


def post(url: str, path: str, body: dict[str, Any], accept: str = "*/*") -> bytes:
    """A POST as bytes."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\naccept: {accept}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, until: float) -> None:
        self._request, self._until = request, until
        self._loop = asyncio.get_running_loop()
        self._came, self._wanted = bytearray(), 0
        self.took: list[float] = []
        self.done: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._ask()

    def _ask(self) -> None:
        self._began = self._loop.time()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._came += data
        if not self._wanted and (end := self._came.find(_END)) >= 0:
            head = bytes(self._came[: end + len(_END)])
            length = _LENGTH.search(head)
            if not head.startswith(b"HTTP/1.1 200 ") or length is None:
                self._end(UnavailableError(f"an answer that is not counted: {head[:200].decode(errors='replace')}"))
                return
            self._wanted = len(head) + int(length[1])
        if self._wanted and len(self._came) >= self._wanted:
            now = self._loop.time()
            self.took.append(now - self._began)
            self._came.clear()
            self._wanted = 0
            if now < self._until:
                self._ask()
            else:
                self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(UnavailableError("a connection was closed under load"))

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None) if error is None else self.done.set_exception(error)
            self._transport.close()


async def load(url: str, request: bytes, clients: int = 8, seconds: float = 3.0) -> Load:
    """Ask for so long. Raises `UnavailableError` for an answer that is no 200."""
    where, loop = urlsplit(url), asyncio.get_running_loop()
    host, port = where.hostname or "127.0.0.1", where.port or 80
    began = loop.time()
    made = [
        (await loop.create_connection(lambda: _Client(request, began + seconds), host, port))[1] for _ in range(clients)
    ]
    async with asyncio.timeout(seconds + ANSWER_SECONDS):
        await asyncio.gather(*(client.done for client in made))
    took = [each for client in made for each in client.took]
    return Load(len(took), loop.time() - began, tuple(took))
