"""The unit of work of one message: what a step reads, and what it wants to happen, held back until it has returned.

A step only collects effects; the guard applies them together. So a step that raises half-way has done nothing and
can be tried again.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Protocol

from schemas.errors import MessageTooLargeError
from schemas.topics import Topic


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as a step sees it. `timestamp_ms` is the broker's or producer's Unix time."""

    topic: str
    partition: int = 0
    offset: int = 0
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    timestamp_ms: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """A message to be sent. `partition` is None for the hash of the key; a `value` of None is a tombstone."""

    topic: Topic
    key: str
    value: bytes | None
    headers: Mapping[str, bytes]
    partition: int | None


class Table(Protocol):
    """What a step may see of a table: the values of its message's partition, as bytes under text keys."""

    def get(self, key: str) -> bytes | None: ...
    def keys(self) -> Iterator[str]: ...


class Work:
    """The message, read access to the tables as they will be after this work, and the collected effects."""

    def __init__(self, message: Message, tables: Mapping[str, Table]) -> None:
        self.message = message
        self.sends: list[Send] = []
        self.writes: dict[tuple[str, str], bytes | None] = {}
        self._tables = tables

    def get(self, table: str, key: str) -> bytes | None:
        """The value under `key`, including what this work has put or deleted."""
        if (table, key) in self.writes:
            return self.writes[table, key]
        return self._tables[table].get(key)

    def keys(self, table: str) -> Iterator[str]:
        """All keys of this partition: a scan, for commands, not for each message."""
        return self._tables[table].keys()

    def put(self, table: str, key: str, value: bytes) -> None:
        """Set `key` when the work is done."""
        self.writes[table, key] = value

    def delete(self, table: str, key: str) -> None:
        """Remove `key` when the work is done."""
        self.writes[table, key] = None

    def send(
        self,
        topic: Topic,
        key: str,
        value: bytes | None,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> None:
        """Send when the work is done. Raises `MessageTooLargeError` here, before anything has happened."""
        check_size(topic, value)
        self.sends.append(Send(topic, key, value, headers or {}, partition))


def check_size(topic: Topic, value: bytes | None) -> None:
    """Raises `MessageTooLargeError` for a value that the topic would not take."""
    if value is not None and len(value) > topic.max_message_bytes - ENVELOPE_BYTES:
        raise MessageTooLargeError(
            f"{len(value)} bytes for {topic.name}, which takes {topic.max_message_bytes - ENVELOPE_BYTES} a message"
        )


ENVELOPE_BYTES = 16 * 1024
"""Room for key, headers and the record batch around a value."""

StepFunction = Callable[[Work], Awaitable[None]]
"""What ``agents.<name>.build(settings)`` returns. Raises `RejectedError` for a message that can never work."""
