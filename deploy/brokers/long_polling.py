"""Stands before a broker that answers a waiting fetch only at its end, and answers it as soon as there is something.

``python -m deploy.brokers.long_polling HOST:PORT BROKER_PORT`` takes Kafka's clients at HOST:PORT. Every frame is
handed on as it comes, in order, but a fetch that finds nothing: it is kept here, asked again when somebody has added to
one of its topics, and answered with nothing when its time is over or its client asks something else. So a client may
wait for long, and hears at once. A process of its own, of the standard library alone: it is there before any role.
"""

import asyncio
import contextlib
import struct
import sys
from collections import deque
from collections.abc import Callable

from deploy.brokers.fetch_frames import (
    END_TXN,
    PRODUCE,
    Fetch,
    Head,
    brings_nothing,
    fetch_of,
    head_of,
    produced_by,
)

MOST_FRAME_BYTES = 128 << 20
MOST_TOPICS = 10_000
"""Whose last ring is known; clients may name as many as they like."""
LOOK_MILLISECONDS, GLANCE_MILLISECONDS = 10, 1
"""Time for all partitions of a consumer; and where nothing was added to its topics since such a look."""
_LENGTH = struct.Struct(">i")
_CORRELATION = struct.Struct(">i")


class Frames:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete now. Raises ValueError for a length that no frame has."""
        self._rest += data
        frames, at = [], 0
        while len(self._rest) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest, at)
            if not _CORRELATION.size <= length <= MOST_FRAME_BYTES:
                raise ValueError("no frame of Kafka's")
            end = at + _LENGTH.size + length
            if len(self._rest) < end:
                break
            frames.append(bytes(self._rest[at + _LENGTH.size : end]))
            at = end
        del self._rest[:at]
        return frames


class Side(asyncio.Protocol):
    """One of the two connections of a session. What it cannot write yet holds back what the other one reads."""

    def __init__(self, take: Callable[[bytes], None], gone: Callable[[], None]) -> None:
        self._take, self._gone = take, gone
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self.other: Side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        early, self._early = self._early, []
        for frame in early:
            self.put(frame)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._take(frame)
        except (ValueError, struct.error):  # no Kafka
            self._gone()

    def put(self, frame: bytes) -> None:
        """Send a frame, or keep it until there is a connection."""
        if self._transport is None:
            self._early.append(frame)
        else:
            self._transport.writelines((_LENGTH.pack(len(frame)), frame))

    def pause_writing(self) -> None:
        if self.other._transport is not None:
            self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other._transport is not None and not self.other._transport.is_closing():
            self.other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()

    def close(self) -> None:
        """Once what was put has been sent."""
        if self._transport is not None:
            self._transport.close()


class Bell:
    """Tells fetches that are held of topics that were added to."""

    def __init__(self) -> None:
        self.rings = 0
        self._rung: dict[bytes, int] = {}
        self._any = 0
        self._of: dict[bytes, set[Session]] = {}
        self._listening: dict[Session, frozenset[bytes]] = {}

    def listen(self, session: "Session", topics: frozenset[bytes]) -> None:
        """From now on for these topics and no others."""
        before = self._listening.get(session, frozenset())
        if topics == before:
            return
        for topic in before - topics:
            of_topic = self._of[topic]
            of_topic.discard(session)
            if not of_topic:
                del self._of[topic]
        for topic in topics - before:
            self._of.setdefault(topic, set()).add(session)
        self._listening[session] = topics
        if not topics:
            del self._listening[session]

    def ring(self, topics: frozenset[bytes] | None) -> None:
        """`topics` None: nobody knows which."""
        self.rings += 1
        if topics is None or len(self._rung) > MOST_TOPICS:
            self._any = self.rings
            self._rung.clear()
        else:
            self._rung |= dict.fromkeys(topics, self.rings)
        heard = list(self._listening) if topics is None else {s for topic in topics for s in self._of.get(topic, ())}
        for session in heard:
            session.hear()

    def newest(self, topic: bytes) -> int:
        """Which ring was the last that may have told of this topic; 0 where none has."""
        return max(self._any, self._rung.get(topic, 0))


class _Asked:
    """A request that the broker has not answered yet."""

    __slots__ = ("adds_to", "after", "fetch", "frame", "head", "rings")

    def __init__(self, frame: bytes) -> None:
        self.head: Head = head_of(frame)
        self.fetch: Fetch | None = fetch_of(self.head, frame)
        self.rings = self.head.key in (PRODUCE, END_TXN)
        self.adds_to = produced_by(self.head, frame) if self.rings else None
        self.frame = frame
        self.after = 0
        """The last ring before a fetch was handed on."""


class Session:
    """One client's connection, and one to the broker for it alone."""

    def __init__(self, bell: Bell) -> None:
        self._bell, self._loop = bell, asyncio.get_running_loop()
        self._asked: deque[_Asked] = deque()
        self._held: tuple[_Asked, bytes] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._heard = False
        self._searched: tuple[object, int] = (None, 0)
        """What was fetched when a look found nothing, and the last ring before it."""
        self.client = Side(self.request, self.close)
        self.broker = Side(self.answer, self.close)
        self.client.other, self.broker.other = self.broker, self.client

    def request(self, frame: bytes) -> None:
        """Of the client."""
        asked = _Asked(frame)
        self._release()  # answers come in the order of the questions
        if asked.fetch is not None:
            self._bell.listen(self, asked.fetch.topics)
            self._until = self._loop.time() + asked.fetch.wait_milliseconds / 1000
            self._heard = False
        self._ask(asked)

    def _ask(self, asked: _Asked) -> None:
        self._asked.append(asked)
        if (fetch := asked.fetch) is not None:
            asked.after = self._bell.rings
            searched, after = self._searched
            is_new = searched != _extent(asked) or any(self._bell.newest(topic) > after for topic in fetch.topics)
            milliseconds = LOOK_MILLISECONDS if is_new else GLANCE_MILLISECONDS
            self.broker.put(fetch.look(asked.frame, milliseconds, self._bell.newest))
        else:
            self.broker.put(asked.frame)
            asked.frame = b""  # it may be large, and is not needed again

    def answer(self, frame: bytes) -> None:
        """Of the broker. Raises ValueError for one that answers nothing."""
        (correlation,) = _CORRELATION.unpack_from(frame)
        while (asked := self._next()).head.correlation != correlation:
            if asked.rings:  # who wants no confirmation gets none
                self._bell.ring(asked.adds_to)
        if self._is_held(asked, frame):
            self._held, self._searched = (asked, frame), (_extent(asked), asked.after)
            if self._heard:
                self.hear()
            elif self._timer is None:
                self._timer = self._loop.call_at(self._until, self._release)
            return
        if asked.fetch is not None and not self._asked:
            self._stop_listening()
        self.client.put(frame)
        if asked.rings:
            self._bell.ring(asked.adds_to)

    def _next(self) -> _Asked:
        if not self._asked:
            raise ValueError("an answer without a question")
        return self._asked.popleft()

    def _is_held(self, asked: _Asked, frame: bytes) -> bool:
        return (
            asked.fetch is not None
            and not self._asked
            and self._loop.time() < self._until
            and brings_nothing(asked.head, frame)
        )

    def hear(self) -> None:
        """Somebody has added to a topic that is fetched here."""
        self._heard = self._held is None  # then the broker is looking already, and may have looked too early
        if self._held is not None:
            (asked, _), self._held = self._held, None
            self._ask(asked)

    def _release(self) -> None:
        """Answer what is held with nothing."""
        self._stop_listening()
        if self._held is not None:
            (_, frame), self._held = self._held, None
            self.client.put(frame)

    def _stop_listening(self) -> None:
        self._bell.listen(self, frozenset())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Either side has gone: so goes the other."""
        self._held = None
        self._stop_listening()
        for side in (self.client, self.broker):
            side.close()


def _extent(asked: _Asked) -> object:
    """Equal for fetches of equally many partitions of the same topics."""
    return None if asked.fetch is None else (asked.fetch.topics, len(asked.frame))


async def serve(host: str, port: int, broker_port: int) -> None:
    """Take clients until cancelled."""
    loop, bell = asyncio.get_running_loop(), Bell()
    connecting: set[asyncio.Task[None]] = set()

    async def connect(session: Session) -> None:
        try:
            await loop.create_connection(lambda: session.broker, host, broker_port)
        except OSError:  # it is still starting, or gone: the client asks again
            session.close()

    def accept() -> Side:
        session = Session(bell)
        task = loop.create_task(connect(session))
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return session.client

    server = await loop.create_server(accept, host, port, backlog=256)
    async with server:
        await server.serve_forever()


def main() -> None:
    """The program."""
    host, _, port = sys.argv[1].rpartition(":")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(host, int(port), int(sys.argv[2])))


if __name__ == "__main__":
    main()
