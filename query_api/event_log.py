"""The latest events of all subjects, in the order in which this replica applied them, and who is told of them.

v/<number>                an event: what it is about and where its record lies
w/<source>/<partition>    the lowest offset from which all events are held

An event holds no more than it takes to find what it tells: of a forecast its row's key, of alerts and scores nothing,
because the read model's row is what is told of them. It is written with the rows of its record, so a client that comes
back after a restart is told what it has missed, and what nobody may see any more goes from here with everything else.
"""

import asyncio
import itertools
import struct
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import orjson

from query_api.event_place import SOURCES, Place
from query_api.projections.fan_charts import ChartRow
from query_api.projections.projection import Notification
from query_api.store import Store
from schemas.alert import AlertState
from schemas.reading import ReadingOutcome
from schemas.score_state import ScoreState

Kind = Literal["reading", "forecast", "alerts", "scores", "reset"]

KEPT_EVENTS = 8192
"""Of all subjects together, a few hundred bytes each: hours of a few people, ten minutes of a thousand."""
MOST_WAITING = 256
"""Events that wait for one client, of a hundred bytes here: one that lets more come together is cut."""

_DIGEST_BYTES = 32
"""Of the chart's id before its key, in a forecast's event."""
_NUMBER = struct.Struct(">Q")
_OF_SUBJECTS = ("subject/", "alerts/", "scores/")
"""How the keys of notifications begin that are about a subject: the rest of them names it."""
_SOURCE_OF = {topic: place for place, topic in enumerate(SOURCES)}


class Event(NamedTuple):
    """One record that concerns a subject."""

    number: int
    """Its place in this replica's log; no other replica's."""
    source: int
    partition: int
    offset: int
    subject_id: str
    kind: Kind
    body: bytes
    """Of a reading its outcome, of a forecast its chart's id and its key, of a reset the reason."""

    @property
    def chart(self) -> tuple[str, str]:
        """Of a forecast: its chart's id, and the key of its row."""
        return self.body[:_DIGEST_BYTES].hex(), self.body[_DIGEST_BYTES:].decode()

    def to_row(self) -> bytes:
        head = orjson.dumps([self.source, self.partition, self.offset, self.subject_id, self.kind])
        return head + b"\n" + self.body

    @classmethod
    def from_row(cls, number: int, row: bytes) -> "Event":
        head, _, body = row.partition(b"\n")
        source, partition, offset, subject_id, kind = orjson.loads(head)
        return cls(number, source, partition, offset, subject_id, kind, body)


class Reader:
    """What waits for one client. Bounded: whoever does not take it in time is cut, and comes back with its id."""

    def __init__(self, place: Place, backlog: Sequence[Event], most_waiting: int) -> None:
        self.place = place
        self._waiting = deque(backlog)
        self._most_waiting, self._most = most_waiting, len(backlog) + most_waiting
        self._came = asyncio.Event()
        self._is_cut = False
        if backlog:
            self._came.set()

    @property
    def is_cut(self) -> bool:
        """Whether it is over: too slow, or what its place counts by is not there any more."""
        return self._is_cut

    def offer(self, event: Event) -> None:
        if len(self._waiting) >= self._most:
            self.cut()
        else:
            self._waiting.append(event)
            self._came.set()

    def cut(self) -> None:
        self._is_cut = True
        self._waiting.clear()
        self._came.set()

    async def next(self, seconds: float) -> list[Event]:
        """All that waits, in order, nothing that the place has behind it; empty where nothing came for so long.

        Of one subject's alerts, and of its scores, the last alone: an event tells how they are, not what changed.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._came.wait()
        except TimeoutError:
            return []
        self._came.clear()
        events, self._waiting = list(self._waiting), deque()
        self._most = self._most_waiting
        return [
            event for event in _last_states(events) if self.place.lacks(event.source, event.partition, event.offset)
        ]


def _last_states(events: Sequence[Event]) -> Iterator[Event]:
    last = {(event.subject_id, event.kind): event.number for event in events}
    for event in events:
        if event.kind not in ("alerts", "scores") or last[event.subject_id, event.kind] == event.number:
            yield event


class EventLog:
    """The log. `stage` and `flush` are called by the read model before it commits, `publish` after."""

    def __init__(self, store: Store, kept: int = KEPT_EVENTS) -> None:
        self._store, self._kept = store, kept
        self._events: deque[Event] = deque()
        self._staged: list[Event] = []
        self._removed: dict[tuple[int, bytes], int] = {}
        self._floors: dict[tuple[int, int], int] = {}
        self._changed_floors: set[tuple[int, int]] = set()
        self._readers: defaultdict[str | None, set[Reader]] = defaultdict(set)
        self._load()
        self._next_number = self._events[-1].number + 1 if self._events else 0

    def _load(self) -> None:
        """As it is on disk."""
        for key, row in self._store.scan(b"v/"):
            self._events.append(Event.from_row(_NUMBER.unpack(key[2:])[0], row))
        for key, row in self._store.scan(b"w/"):
            _, source, partition = key.decode().split("/")
            self._floors[int(source), int(partition)] = _NUMBER.unpack(row)[0]

    # what the read model tells

    def stage(
        self, topic: str, partition: int, offset: int, key: str, value: bytes | None, told: Iterable[Notification]
    ) -> None:
        """The events of one record that was applied."""
        source = _SOURCE_OF.get(topic)
        if source is None:
            return
        if (source, partition) not in self._floors:  # what lay before it was gone when this table began
            self._raise_floor(source, partition, offset)
        if value is None:
            self._removed[source, key.encode()] = offset
        for about, item in told:
            subject_id = about.partition("/")[2]
            kind, body = _told(about, item, key, value)
            if kind is None:
                continue
            event = Event(self._next_number, source, partition, offset, subject_id, kind, body)
            self._next_number += 1
            if kind == "reset":
                self._forget(event)
            else:
                self._store.stage(_row(event.number), event.to_row())
            self._staged.append(event)

    def _forget(self, reset: Event) -> None:
        """Nothing of before is told any more; who comes back from before is told that, and no name is kept for it."""
        self._raise_floor(reset.source, reset.partition, reset.offset + 1)
        for event in (*self._events, *self._staged):
            if event.subject_id == reset.subject_id:
                self._store.stage(_row(event.number), None)
                self._raise_floor(event.source, event.partition, event.offset + 1)
        self._events = deque(event for event in self._events if event.subject_id != reset.subject_id)
        self._staged = [
            event for event in self._staged if event.subject_id != reset.subject_id or event.kind == "reset"
        ]

    def _raise_floor(self, source: int, partition: int, offset: int) -> None:
        self._floors[source, partition] = max(offset, self._floors.get((source, partition), 0))
        self._changed_floors.add((source, partition))

    def flush(self) -> None:
        """Stage what goes with its row or because there is no room for it, and from where on all is held then."""
        self._drop_removed()
        excess = len(self._events) + len(self._staged) - self._kept
        for event in itertools.islice(itertools.chain(self._events, self._staged), max(0, excess)):
            self._store.stage(_row(event.number), None)
            self._raise_floor(event.source, event.partition, event.offset + 1)
        for source, partition in self._changed_floors:
            floor = _NUMBER.pack(self._floors[source, partition])
            self._store.stage(f"w/{source}/{partition}".encode(), floor)

    def _drop_removed(self) -> None:
        """Forecasts whose rows have gone: nothing could be told of them, and a key names its subject."""
        removed, self._removed = self._removed, {}

        def stays(event: Event) -> bool:
            if event.offset > removed.get((event.source, event.body[_DIGEST_BYTES:]), -1):
                return True
            self._store.stage(_row(event.number), None)
            return False

        if removed:
            self._events = deque(filter(stays, self._events))
            self._staged = list(filter(stays, self._staged))

    def publish(self) -> None:
        """It is all on disk now: tell whoever reads."""
        staged, self._staged = self._staged, []
        self._changed_floors.clear()
        self._events.extend(event for event in staged if event.kind != "reset")
        while len(self._events) > self._kept:
            self._events.popleft()
        for event in staged:
            for reader in (*self._readers.get(event.subject_id, ()), *self._readers.get(None, ())):
                reader.offer(event)

    def discard(self) -> None:
        """It could not be written: the same records come again, and find what they found before."""
        self._emptied()
        self._load()

    def clear(self) -> None:
        """The table was emptied to be built anew: offsets may begin anew too, so nobody's place counts any more."""
        self._emptied()
        self.cut_readers()

    def _emptied(self) -> None:
        self._staged.clear()
        self._removed.clear()
        self._events.clear()
        self._floors.clear()
        self._changed_floors.clear()

    # who reads

    @contextmanager
    def reading(
        self, place: Place, subjects: Collection[str] | None, most_waiting: int = MOST_WAITING
    ) -> Iterator[Reader]:
        """Everything from a place on that concerns these subjects, or everybody: what is held, then what comes."""
        whose = None if subjects is None else frozenset(subjects)
        backlog = [
            event
            for event in self._events
            if (whose is None or event.subject_id in whose) and place.lacks(event.source, event.partition, event.offset)
        ]
        reader = Reader(place, backlog, most_waiting)
        keys: Collection[str | None] = (None,) if subjects is None else subjects
        for key in keys:
            self._readers[key].add(reader)
        try:
            yield reader
        finally:
            for key in keys:
                self._readers[key].discard(reader)
                if not self._readers[key]:
                    del self._readers[key]

    def holds_all_since(self, place: Place) -> bool:
        """Whether nothing of what lies behind a place has gone."""
        return all(
            place.next(source, partition) >= floor
            for (source, partition), floor in self._floors.items()
            if partition in place.partitions
        )

    def cut_readers(self) -> None:
        for reader in {reader for readers in self._readers.values() for reader in readers}:
            reader.cut()


def _told(about: str, item: object, key: str, value: bytes | None) -> tuple[Kind | None, bytes]:
    """What an event of a projection's notification is, and what it holds; None where there is none."""
    if isinstance(item, ReadingOutcome):
        if item.status in ("reset", "erased"):
            return "reset", b"the subject was erased" if item.status == "erased" else b"the subject begins anew"
        # Of an erased one nothing is kept that names it; who reads its readings was told when it was erased.
        return (None, b"") if item.code == "erased" else ("reading", item.to_json())
    if about.startswith(_OF_SUBJECTS) and value is None:
        return "reset", b"what was known is gone"
    if isinstance(item, ChartRow) and about.startswith(_OF_SUBJECTS):
        return "forecast", bytes.fromhex(item.chart_id) + key.encode()
    if isinstance(item, AlertState):
        return "alerts", b""
    return ("scores", b"") if isinstance(item, ScoreState) else (None, b"")


def _row(number: int) -> bytes:
    return b"v/" + _NUMBER.pack(number)
