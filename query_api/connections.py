"""How many connections there may be, and how long each may keep us waiting: uvicorn's protocol, with limits.

uvicorn ends a connection that stays silent after an answer, and no other: who sends nothing, half a header or a body
byte by byte would hold a place for ever, and a thousand of them all places. Here every wait for a client ends, and when
all places are taken the connection that has kept us waiting the longest makes room for a new one. Those that are being
answered are never touched.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
"""From the connection, or the first byte of a further request, to the end of its header."""
HEADER_BYTES = 64 << 10
"""Of a header that is not complete yet; a packet more may have been read."""
BODY_SECONDS, BODY_BYTES = 20.0, 20 << 10
"""A body brings so many bytes in so many seconds, or its end."""
IDLE_SECONDS = 5.0
"""Between an answer and the next request."""
READ_SECONDS = 60.0
"""A client that reads nothing of its answer for so long is given up."""

SPARE_PLACES = 64
"""Beyond all that are taken by requests in the making: there a new one is told 503 instead of nothing."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_OTHER_FILES = 512
"""Files that the rest of the process may hold open: the table, connections to Kafka."""


def most_connections(wanted: int) -> int:
    """So many as wanted, if the operating system lets the process hold them beside its files; asks it to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(16, min(wanted, soft - _OTHER_FILES))


class Places:
    """The places for connections. An address may take half of them, so that it leaves some to the others."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._of_address: Counter[str] = Counter()
        self._taken: set[PatientProtocol] = set()
        self._waiting: dict[PatientProtocol, None] = {}  # for their clients, the longest first

    def take(self, new: "PatientProtocol") -> None:
        """A place for a new connection, at the cost of one that waits. An address with half of all pays itself."""
        self._taken.add(new)
        self._of_address[new.address] += 1
        if self._of_address[new.address] > self.most // 2:
            own = (other for other in self._waiting if other.address == new.address)
            self._end(next(own, new))
        elif len(self._taken) > self.most and (self._waiting or len(self._taken) > self.most + SPARE_PLACES):
            self._end(next(iter(self._waiting), new))

    def leave(self, gone: "PatientProtocol") -> None:
        if gone in self._taken:
            self._taken.remove(gone)
            self._waiting.pop(gone, None)
            self._of_address[gone.address] -= 1
            if not self._of_address[gone.address]:
                del self._of_address[gone.address]

    def waits(self, protocol: "PatientProtocol") -> None:
        """It is the client's turn."""
        self._waiting.pop(protocol, None)
        if protocol in self._taken:
            self._waiting[protocol] = None

    def answers(self, protocol: "PatientProtocol") -> None:
        """It is our turn."""
        self._waiting.pop(protocol, None)

    def _end(self, protocol: "PatientProtocol") -> None:
        self.leave(protocol)
        protocol.transport.abort()


class PatientProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, places: Places, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._places = places
        self._deadline: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._in_header = True
        self._in_body = False
        self._header_bytes = self._body_bytes = self._body_bytes_then = self._received = 0
        self.address = "unknown"

    # the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else "unknown"
        self._places.take(self)
        self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._places.leave(self)
        for timer in (self._deadline, self._reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._in_header and not self._in_body and self._is_answered:
            self._wait_for_header()  # the next request begins, if only with an empty line
        self._received += len(data)
        super().data_received(data)
        if self._in_header:
            self._header_bytes += len(data)
        around_the_body = self._received - self._body_bytes
        if self._header_bytes > HEADER_BYTES:
            self.transport.write(_TOO_LARGE)
            self._give_up()
        elif self._in_body and around_the_body > HEADER_BYTES + 8 * self._body_bytes:  # chunks' frames, trailers
            self._give_up()

    # the request

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_header:  # behind another one in the same packet
            self._wait_for_header()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_header, self._in_body = False, True
        self._header_bytes = self._body_bytes = self._body_bytes_then = self._received = 0
        self._wait(BODY_SECONDS, self._check_body)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        if self._is_answered:  # it was refused before all of it had come
            self._wait(IDLE_SECONDS, self._give_up)
        else:
            self._stop_waiting()
            self._places.answers(self)

    # the answer

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._reading = self.loop.call_later(READ_SECONDS, self.transport.abort)
        elif self._is_answered and not self._in_header and not self._in_body:
            self._wait(IDLE_SECONDS, self._give_up)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading is not None and not self.transport.is_closing():
            self._reading.cancel()

    # patience

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _wait_for_header(self) -> None:
        self._in_header, self._header_bytes = True, 0
        self._wait(HEADER_SECONDS, self._check_header)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, then)
        if not self.pipeline and (self._is_answered or self._in_body):
            self._places.waits(self)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _check_header(self) -> None:
        if self._is_answered:
            self._give_up()
        else:  # of a request behind one that is being answered
            self._wait_for_header()

    def _check_body(self) -> None:
        came = self._body_bytes - self._body_bytes_then
        if came < BODY_BYTES and not self.flow.read_paused:
            self._give_up()
            return
        self._body_bytes_then = self._body_bytes
        self._deadline = self.loop.call_later(BODY_SECONDS, self._check_body)

    def _give_up(self) -> None:
        """Close, and do not wait for ever until the client has read what it was sent before."""
        self.transport.close()
        self._reading = self.loop.call_later(READ_SECONDS, self.transport.abort)


def protocol(most: int) -> Any:
    """The protocol for uvicorn, with so many places."""
    return partial(PatientProtocol, Places(most))
