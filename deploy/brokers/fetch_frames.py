"""What has to be known of Kafka's requests and answers to let a fetch wait for its data: pure, on bytes.

Versions whose form is not known here are no mistake: they are handed on as they are. A frame is what follows its length
of four bytes. Forms: https://kafka.apache.org/protocol, Fetch and Produce.
"""

import dataclasses
import struct
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PRODUCE, FETCH, END_TXN = 0, 1, 26
_FETCH_VERSIONS, _PRODUCE_VERSIONS = range(4, 12), range(3, 9)
_HEAD, _INT = struct.Struct(">hhi"), struct.Struct(">i")
_NO_SESSION = (0, -1)


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """How every request begins."""

    key: int
    version: int
    correlation: int


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What is fetched of a topic, and where in the frame that stands."""

    topic: bytes
    begin: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True)
class Fetch:
    """A fetch that may be held: how long it waits, what it waits for, and where in the frame that time stands."""

    wait_milliseconds: int
    topics: frozenset[bytes]
    parts: tuple[Part, ...]
    wait_at: int

    def look(self, frame: bytes, milliseconds: int, newest: Callable[[bytes], int]) -> bytes:
        """The same question, to be answered after so long: first of the topics for which `newest` is highest.

        Whoever answers steps through the partitions until that time is over, and says of the others that they have
        nothing.
        """
        wait = _INT.pack(milliseconds)
        ordered = sorted(self.parts, key=lambda part: -newest(part.topic))
        begin, end = (self.parts[0].begin, self.parts[-1].end) if self.parts else (len(frame), len(frame))
        before = frame[: self.wait_at] + wait + frame[self.wait_at + _INT.size : begin]
        return before + b"".join(frame[part.begin : part.end] for part in ordered) + frame[end:]


class _Reader:
    """Steps through a frame. IndexError or struct.error where it ends too early."""

    def __init__(self, frame: bytes, at: int) -> None:
        self.frame, self.at = frame, at

    def int16(self) -> int:
        return self._number(">h", 2)

    def int32(self) -> int:
        return self._number(">i", 4)

    def text(self) -> bytes:
        return self._run(self.int16())

    def skip(self, size: int) -> None:
        self.at += size

    def skip_bytes(self) -> int:
        """Over a byte string; returns its length, 0 for none."""
        size = max(0, self.int32())
        self.at += size
        return size

    def _run(self, size: int) -> bytes:
        run = self.frame[self.at : self.at + max(0, size)]
        self.at += max(0, size)
        return run

    def _number(self, form: str, size: int) -> int:
        (value,) = struct.unpack_from(form, self.frame, self.at)
        self.at += size
        return int(value)


def head_of(frame: bytes) -> Head:
    """Raises `struct.error` for what is no request."""
    return Head(*_HEAD.unpack_from(frame))


def _behind_head(frame: bytes) -> _Reader:
    """Where the question itself begins, in versions whose head has a client id and nothing after it."""
    reader = _Reader(frame, _HEAD.size)
    reader.text()
    return reader


def _fetch(frame: bytes, version: int) -> Fetch | None:
    reader = _behind_head(frame)
    reader.skip(4)  # replica
    wait_at = reader.at
    wait_milliseconds = reader.int32()
    reader.skip(4 + 4 + 1)  # least and most bytes, isolation
    if version >= 7 and (reader.int32(), reader.int32()) != _NO_SESSION:
        return None  # it names only what has changed since the last one
    parts = []
    of_partition = 4 + 8 + 4 + (8 if version >= 5 else 0) + (4 if version >= 9 else 0)
    for _ in range(reader.int32()):
        begin, topic = reader.at, reader.text()
        reader.skip(of_partition * max(0, reader.int32()))
        parts.append(Part(topic, begin, reader.at))
    return Fetch(wait_milliseconds, frozenset(part.topic for part in parts), tuple(parts), wait_at)


def _produced(frame: bytes, version: int) -> frozenset[bytes]:
    reader = _behind_head(frame)
    reader.text()  # transaction
    reader.skip(2 + 4)  # acks, timeout
    topics = set()
    for _ in range(reader.int32()):
        topics.add(reader.text())
        for _ in range(reader.int32()):
            reader.skip(4)
            reader.skip_bytes()
    return frozenset(topics)


def _brings_nothing(answer: bytes, version: int) -> bool:
    reader = _Reader(answer, 4 + 4)  # correlation, throttle
    if version >= 7:
        if reader.int16():
            return False
        reader.skip(4)  # session
    for _ in range(reader.int32()):
        reader.text()
        for _ in range(reader.int32()):
            reader.skip(4)
            if reader.int16():
                return False
            reader.skip(8 + 8 + (8 if version >= 5 else 0))  # ends of the log
            reader.skip(16 * max(0, reader.int32()))  # aborted transactions
            reader.skip(4 if version >= 11 else 0)
            if reader.skip_bytes():
                return False
    return True


def fetch_of(head: Head, frame: bytes) -> Fetch | None:
    """What a request fetches; None where it is no fetch, or one that is handed on as it is."""
    if head.key != FETCH or head.version not in _FETCH_VERSIONS:
        return None
    return _or_none(_fetch, frame, head.version)


def produced_by(head: Head, frame: bytes) -> frozenset[bytes] | None:
    """The topics that a request adds to; None for "any": it is of a version that is not known here."""
    if head.key != PRODUCE or head.version not in _PRODUCE_VERSIONS:
        return None
    return _or_none(_produced, frame, head.version)


def brings_nothing(head: Head, answer: bytes) -> bool:
    """Whether the answer to a fetch that may be held has neither records nor errors."""
    return _or_none(_brings_nothing, answer, head.version) is True


def _or_none(read: Callable[[bytes, int], T], frame: bytes, version: int) -> T | None:
    try:
        return read(frame, version)
    except struct.error:
        return None
