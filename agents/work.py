"""The unit of work of one message: what a step reads, and what it wants to happen, held back until it has returned.

A step only collects effects; whoever runs it applies them together. So a step that raises half-way has done nothing and
can be tried again. And it reaches only what the topology page declares of it: anything else is refused at once.
"""

import dataclasses
import heapq
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from schemas.dead_letter import REPLAY_OF, Place
from schemas.errors import MessageTooLargeError, UndeclaredEffectError
from schemas.event import PublicRecord, cloud_event, traced
from schemas.metrics import Metric
from schemas.topics import DEAD_LETTERS, Topic


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as a step sees it. `timestamp_ms` is its Unix time, of a topic that is `stamped` the broker's."""

    topic: str
    partition: int = 0
    offset: int = 0
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    timestamp_ms: int = 0

    @property
    def first(self) -> Place | None:
        """Of one that was sent again from a dead letter: where it lay first, and which step failed at it there.

        Anybody may write the header. What it says counts in this partition alone, and never ahead of the message.
        """
        header = self.headers.get(REPLAY_OF)
        place = None if header is None else Place.from_header(header)
        if place is None or (place.topic, place.partition) != (self.topic, self.partition):
            return None
        return place._replace(offset=min(place.offset, self.offset), came_ms=min(place.came_ms, self.timestamp_ms))

    @property
    def first_offset(self) -> int:
        """Its offset, by which what it says is before or after what others say: that of its letter, if it has one."""
        return self.offset if self.first is None else self.first.offset

    @property
    def came_ms(self) -> int:
        """Unix time at which it came first."""
        return self.timestamp_ms if self.first is None else self.first.came_ms


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """A message to be sent. `partition` is None for the hash of the key; a `value` of None is a tombstone."""

    topic: Topic
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    partition: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a message becomes a dead letter: a stable code, words for a person, and how often it was tried."""

    code: str
    reason: str
    attempts: int


class Measurement(NamedTuple):
    """One observation of a metric: counted by 1, or a value for its histogram. Labels in the order of the metric's."""

    metric: Metric
    labels: tuple[str, ...]
    value: float = 1.0


class Table(Protocol):
    """What a step may see of a table: the values of its message's partition, as bytes under text keys."""

    def get(self, key: str) -> bytes | None: ...
    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in order, of a snapshot."""


class Declared(Protocol):
    """What the topology page says of a step."""

    @property
    def name(self) -> str: ...
    @property
    def writes(self) -> tuple[Topic, ...]: ...
    @property
    def tables(self) -> tuple[str, ...]: ...


class Progress(Protocol):
    """How far the messages of a message's partition are done with."""

    @property
    def committed(self) -> int:
        """Messages of lower offsets are never delivered again."""

    @property
    def goes_on(self) -> bool:
        """False where the message will be delivered again, here or elsewhere, because the worker gives it back."""

    async def settled(self) -> None:
        """Return once all messages before this one are committed, or this one is no longer ours to process."""


class Work:
    """The message, read access to the tables as they will be after this work, and the collected effects.

    `failure` makes the message a dead letter, beside the effects. `sends_first` has the sends confirmed before any
    table write goes out: for a step that could not find out again, from what it wrote, what it has to tell. `erases`
    has the tables' files written anew: what this work deletes or replaces shall not be left in one.
    """

    def __init__(
        self,
        message: Message,
        tables: Mapping[str, Table],
        step: Declared,
        partition_of: Callable[[bytes], int],
        progress: Progress | None = None,
    ) -> None:
        """`tables` are those of the message's partition; `partition_of` tells where a key's messages belong.

        Without `progress` nothing is ever delivered again.
        """
        self.message = message
        self.step = step
        self.partition_of = partition_of
        self.sends_first = False
        self.erases = False
        self.sends: list[Send] = []
        self.writes: dict[tuple[str, str], bytes | None] = {}
        self.measured: list[Measurement] = []
        self.failure: Failure | None = None
        self._tables = tables
        self._progress = progress

    @property
    def committed(self) -> int:
        """Messages of this partition with lower offsets are never delivered again."""
        return self.message.offset if self._progress is None else self._progress.committed

    @property
    def goes_on(self) -> bool:
        """False where the worker gives the message back: whatever waits for something need wait no longer."""
        return self._progress is None or self._progress.goes_on

    async def settled(self) -> None:
        """Wait until all messages before this one are committed; not for long, but never for every message."""
        if self._progress is not None:
            await self._progress.settled()

    def get(self, table: str, key: str) -> bytes | None:
        """The value under `key`, including what this work has put or deleted."""
        self._require_table(table)
        if (table, key) in self.writes:
            return self.writes[table, key]
        return self._tables[table].get(key)

    def keys(self, table: str, prefix: str) -> Iterator[str]:
        """The keys of this partition that begin with `prefix`, in order, as this work has left them so far.

        Costs what is taken from it, not what the table holds; putting and deleting while iterating is safe.
        """
        self._require_table(table)
        changed = {key: value for (name, key), value in self.writes.items() if name == table and key.startswith(prefix)}
        if not changed:
            return self._tables[table].keys(prefix)
        stored = (key for key in self._tables[table].keys(prefix) if key not in changed)
        return heapq.merge(stored, sorted(key for key, value in changed.items() if value is not None))

    def put(self, table: str, key: str, value: bytes) -> None:
        """Set `key` when the work is done. Raises `UndeclaredEffectError` for another step's table."""
        self._require_table(table)
        self.writes[table, key] = value

    def delete(self, table: str, key: str) -> None:
        """Remove `key` when the work is done. Raises `UndeclaredEffectError` for another step's table."""
        self._require_table(table)
        self.writes[table, key] = None

    def send(
        self,
        topic: Topic,
        key: str,
        value: bytes | None,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
        in_trace: bool = True,
    ) -> None:
        """Send when the work is done; in the trace of the message, if it belongs to one and this is about the same.

        Raises `UndeclaredEffectError` for a topic that the step does not declare.
        """
        if topic not in self.step.writes:
            raise UndeclaredEffectError(
                f"step {self.step.name} does not declare that it writes to {topic.name}: see streams/topology.py"
            )
        trace = traced(self.message.headers) if in_trace else {}
        self.sends.append(Send(topic, key.encode(), value, trace | {**(headers or {})}, partition))

    def publish(self, topic: Topic, key: str, record: PublicRecord, in_trace: bool = True) -> None:
        """Send a record that others read, with headers that say what it is. Raises as `send` does."""
        headers = cloud_event(topic.record, record.event_id, self.step.name, self.message.timestamp_ms)
        self.send(topic, key, record.to_json(), headers, in_trace=in_trace)

    def measure(self, metric: Metric, *labels: str, value: float = 1.0) -> None:
        """Add to a metric when the work is done. Labels are of closed sets: never a subject's name."""
        self.measured.append(Measurement(metric, labels, value))

    def bury(self, key: bytes | None, letter: bytes, headers: Mapping[str, bytes]) -> None:
        """Send a dead letter; open to every step, because whoever runs it writes them."""
        self.sends.append(Send(DEAD_LETTERS, key, letter, traced(self.message.headers) | {**headers}, None))

    def clear(self) -> None:
        """Forget everything that was collected: the step failed, or is tried again."""
        self.sends.clear()
        self.writes.clear()
        self.measured.clear()
        self.sends_first = self.erases = False
        self.failure = None

    def _require_table(self, table: str) -> None:
        if table not in self.step.tables:
            raise UndeclaredEffectError(
                f"step {self.step.name} does not declare the table {table}: see streams/topology.py"
            )


def check_size(topic: Topic, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]) -> None:
    """Raises `MessageTooLargeError` for a message that the topic would not take, key and headers included."""
    size = len(key or b"") + len(value or b"") + sum(len(name.encode()) + len(text) for name, text in headers.items())
    if size > topic.max_message_bytes - ENVELOPE_BYTES:
        raise MessageTooLargeError(
            f"{size} bytes for {topic.name}, which takes {topic.max_message_bytes - ENVELOPE_BYTES} a message"
        )


CLOCKS_DIFFER_MS = 600_000
"""How far apart the clocks of machines may be: a message's time further ahead than that is no time at all."""

ENVELOPE_BYTES = 16 * 1024
"""Room for the record batch around a message."""

StepFunction = Callable[[Work], Awaitable[None]]
"""What ``agents.<role>.<name>.build(settings)`` returns. Raises `RejectedError` for a message that can never work."""


@runtime_checkable
class Helped(Protocol):
    """A step function that has helpers, such as processes: have them ready, and let them go."""

    async def start(self) -> None:
        """Before the first message, if there is time for it. Raises `UnavailableError`."""

    async def close(self) -> None:
        """After the last message."""
