"""Which requests the model answers next: lanes by priority, a guaranteed share for each, batches bounded by time.

Pure and synchronous: the clock is passed in, and whoever owns the model asks for a batch when it is free.

Each window of a batch is one slot. The highest lane that holds requests takes it, except that a lane that has been
passed over for 7 slots takes the next one (the lowest such lane first): each waiting lane gets at least an eighth of
the slots in the long run, the lowest one at least one of any 8 in a row.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from schemas.errors import OverloadedError
from schemas.forecast import ForecastRequest
from schemas.lanes import LANES, Lane

SLOTS_PER_SHARE = 8

Origin = TypeVar("Origin", bound=Hashable)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Entry(Generic[Origin]):
    """A request in a lane. `origin` says where it came from (a partition); the batcher never looks into it.

    `forecast_id` names its computation: entries of one id share the samples. `arrived` is in the clock's seconds.
    """

    request: ForecastRequest
    forecast_id: str
    lane: Lane
    origin: Origin
    arrived: float


@dataclasses.dataclass(frozen=True, slots=True)
class Batch(Generic[Origin]):
    """What to compute now, `groups` of entries that share their samples, and what nobody waits for any more."""

    groups: tuple[tuple[Entry[Origin], ...], ...]
    expired: tuple[Entry[Origin], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """How much one batch may take: `windows` at most, and `seconds` by the measured `seconds_per_sample`.

    One window is always allowed, however long it takes.
    """

    windows: int
    seconds: float
    seconds_per_sample: float

    def allows(self, windows: int, samples: int) -> bool:
        """Whether a batch of so many windows, with so many samples in all, stays within the budget."""
        return windows <= 1 or (windows <= self.windows and samples * self.seconds_per_sample <= self.seconds)


class MeasuredCost:
    """Seconds a sample, as measured: an exponential mean over the latest batches, each weighted by its samples."""

    def __init__(self, samples: int, seconds: float, memory_samples: int = 1000) -> None:
        """Starts with one measurement; what lies further back than `memory_samples` counts less and less."""
        self._memory_samples = memory_samples
        self.seconds_per_sample = seconds / samples

    def observe(self, samples: int, seconds: float) -> None:
        """A batch of so many samples took so long."""
        if samples > 0:
            weight = samples / (samples + self._memory_samples)
            self.seconds_per_sample += weight * (seconds / samples - self.seconds_per_sample)


class Batcher(Generic[Origin]):
    """Bounded lanes of requests. Every entry leaves exactly once: in a batch, as expired, or released."""

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        """`capacity`: entries a lane holds. `clock`: Unix time in seconds, which deadlines are compared with."""
        self._capacity = capacity
        self._clock = clock
        self._lanes: dict[Lane, dict[str, list[Entry[Origin]]]] = {lane: {} for lane in LANES}
        self._depths: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._passed_over: dict[Lane, int] = dict.fromkeys(LANES, 0)

    def depth(self, lane: Lane) -> int:
        """Entries that wait in a lane."""
        return self._depths[lane]

    def has_room(self, lane: Lane) -> bool:
        return self._depths[lane] < self._capacity

    def __len__(self) -> int:
        return sum(self._depths.values())

    def __iter__(self) -> Iterator[Entry[Origin]]:
        for lane in self._lanes.values():
            for entries in lane.values():
                yield from entries

    def add(self, entry: Entry[Origin]) -> None:
        """Queue an entry. Raises `OverloadedError` where its lane is full: whoever adds waits for `has_room`."""
        if not self.has_room(entry.lane):
            raise OverloadedError(f"the {entry.lane} lane holds {self._capacity} requests already")
        self._lanes[entry.lane].setdefault(entry.forecast_id, []).append(entry)
        self._depths[entry.lane] += 1

    def next_batch(self, budget: Budget) -> Batch[Origin] | None:
        """The next entries in order of priority, or None where nothing waits."""
        groups: list[tuple[Entry[Origin], ...]] = []
        expired: list[Entry[Origin]] = []
        samples, now_ms = 0, self._clock() * 1000
        while lane := self._next_lane():
            first, *_ = next(iter(self._lanes[lane].values()))
            if groups and not budget.allows(len(groups) + 1, samples + first.request.num_samples):
                break
            entries = self._take(first.forecast_id)
            late = [entry for entry in entries if _is_late(entry, now_ms)]
            expired += late
            if len(late) < len(entries):
                groups.append(tuple(entry for entry in entries if not _is_late(entry, now_ms)))
                samples += first.request.num_samples
                self._count_slot(lane)
        return Batch(tuple(groups), tuple(expired)) if groups or expired else None

    def release(self, concerns: Callable[[Entry[Origin]], bool]) -> list[Entry[Origin]]:
        """Remove and return the waiting entries that `concerns` holds for: their partition is somebody else's now."""
        released = [entry for entry in self if concerns(entry)]
        for entry in released:
            siblings = self._lanes[entry.lane][entry.forecast_id]
            siblings.remove(entry)
            if not siblings:
                del self._lanes[entry.lane][entry.forecast_id]
            self._depths[entry.lane] -= 1
        return released

    def _next_lane(self) -> Lane | None:
        waiting = [lane for lane in LANES if self._depths[lane]]
        owed = [lane for lane in waiting if self._passed_over[lane] >= SLOTS_PER_SHARE - 1]
        return owed[-1] if owed else waiting[0] if waiting else None

    def _take(self, forecast_id: str) -> list[Entry[Origin]]:
        taken = []
        for lane, entries in self._lanes.items():
            found = entries.pop(forecast_id, [])
            self._depths[lane] -= len(found)
            taken += found
        return taken

    def _count_slot(self, taken: Lane) -> None:
        for lane in LANES:
            waits = self._depths[lane] > 0 and lane != taken
            self._passed_over[lane] = self._passed_over[lane] + 1 if waits else 0


def _is_late(entry: Entry[Origin], now_ms: float) -> bool:
    deadline = entry.request.deadline_ms
    return deadline is not None and deadline < now_ms
