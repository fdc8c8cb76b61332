"""Which requests the model answers next: lanes by priority, a guaranteed share for each, batches bounded by time.

Pure and synchronous: the clock is passed in, and whoever owns the model asks for a batch when it is free.

Each window of a batch is one turn of its lane, in the order of `agents.core.turns`.

Within a lane those whose windows wait, subjects and series, take turns, one window each: nobody waits behind another
one's backlog. Of the requests for one time of one subject the newest counts; it takes the place of an older one that
still waits. A live request that waits until its forecast can no longer be the present one leaves its lane. So do the
oldest of a subject that fills the lane, as with a flood of readings that say they are of now: what a lane has no room
for waits in the log, in front of everybody.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from agents.core.turns import Turns
from schemas.errors import OverloadedError
from schemas.forecast import ForecastRequest
from schemas.lanes import LANES, Lane

Origin = TypeVar("Origin", bound=Hashable)
OWNERS_WITH_ROOM = 8
"""So many floods find room in the live lane beside each other: a subject may have one part in so many of it."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Entry(Generic[Origin]):
    """A request in a lane. `origin` says where it came from (a partition); the batcher never looks into it.

    `forecast_id` names its computation: entries of one id share the samples. `arrived` is in the clock's seconds.
    `slot` is the 5-minute slot that a live window ends in; None for others.
    """

    request: ForecastRequest
    forecast_id: str
    lane: Lane
    origin: Origin
    arrived: float
    slot: int | None = None

    @property
    def owner(self) -> str:
        """Whose turn it takes: a subject's or a series'."""
        return self.request.series_key


@dataclasses.dataclass(frozen=True, slots=True)
class Batch(Generic[Origin]):
    """What to compute now, `groups` of entries that share their samples, and what leaves without.

    `expired`: nobody waits for it any more. `deferred`: live requests that are wanted and no longer urgent.
    """

    groups: tuple[tuple[Entry[Origin], ...], ...]
    expired: tuple[Entry[Origin], ...]
    deferred: tuple[Entry[Origin], ...]


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
    """Bounded lanes of requests.

    Every entry leaves exactly once: in a batch, as expired or deferred, superseded, or released.
    """

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        """`capacity`: entries a lane holds. `clock`: Unix time in seconds, which deadlines are compared with."""
        self._capacity = capacity
        self._clock = clock
        # Ordered dictionaries: a plain one is searched from its beginning again after every removal there.
        self._lanes: dict[Lane, OrderedDict[str, OrderedDict[Entry[Origin], None]]] = {
            lane: OrderedDict() for lane in LANES
        }
        self._computations: dict[str, dict[Entry[Origin], None]] = {}
        self._places: dict[tuple[str, int], dict[Entry[Origin], None]] = {}
        self._depths: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._turns = Turns()

    def depth(self, lane: Lane) -> int:
        """Entries that wait in a lane."""
        return self._depths[lane]

    def has_room(self, lane: Lane) -> bool:
        return self._depths[lane] < self._capacity

    def __len__(self) -> int:
        return sum(self._depths.values())

    def __iter__(self) -> Iterator[Entry[Origin]]:
        for owners in self._lanes.values():
            for entries in owners.values():
                yield from entries

    def add(self, entry: Entry[Origin]) -> list[Entry[Origin]]:
        """Queue an entry. Returns those that are superseded by it, or itself where a newer one waits.

        Raises `OverloadedError` where its lane is full: whoever adds waits for `has_room`.
        """
        if not self.has_room(entry.lane):
            raise OverloadedError(f"the {entry.lane} lane holds {self._capacity} requests already")
        others = [each for each in self._at(entry) if each.forecast_id != entry.forecast_id]
        if any(each.request.revision > entry.request.revision for each in others):
            return [entry]
        for other in others:
            self._remove(other)
        self._lanes[entry.lane].setdefault(entry.owner, OrderedDict())[entry] = None
        self._computations.setdefault(entry.forecast_id, {})[entry] = None
        if entry.slot is not None:
            self._places.setdefault((entry.owner, entry.slot), {})[entry] = None
        self._depths[entry.lane] += 1
        return others

    def defer_excess(self, owner: str) -> list[Entry[Origin]]:
        """Remove and return the oldest of a subject's live requests where it has more than its share of their lane.

        Not those without a deadline, which nobody passes on. Costs as much as the subject has in the lane.
        """
        waiting = [
            each
            for each in self._lanes["live"].get(owner, ())
            if each.slot is not None and each.request.deadline_ms is not None
        ]
        excess = len(waiting) - max(1, self._capacity // OWNERS_WITH_ROOM)
        deferred = sorted(waiting, key=lambda each: each.slot or 0)[:excess] if excess > 0 else []
        for each in deferred:
            self._remove(each)
        return deferred

    def next_batch(self, budget: Budget) -> Batch[Origin] | None:
        """The next entries in order of priority, or None where nothing waits."""
        groups: list[tuple[Entry[Origin], ...]] = []
        expired: list[Entry[Origin]] = []
        deferred: list[Entry[Origin]] = []
        samples, now_ms = 0, self._clock() * 1000
        while lane := self._turns.next(self._lanes_waiting()):
            owner, waiting = next(iter(self._lanes[lane].items()))
            first = next(iter(waiting))
            if groups and not budget.allows(len(groups) + 1, samples + first.request.num_samples):
                break
            sharers = list(self._computations[first.forecast_id])
            late = {entry for entry in sharers if _is_late(entry, now_ms)}
            # Late live requests are wanted: they ride along where the window is computed anyway.
            served = [entry for entry in sharers if entry not in late or entry.request.kind == "live"]
            if len(late) < len(sharers):
                groups.append(tuple(served))
                samples += first.request.num_samples
            else:
                deferred += served
            expired += [entry for entry in sharers if entry in late and entry.request.kind != "live"]
            for entry in sharers:
                self._remove(entry)
            if len(late) < len(sharers):
                if owner in self._lanes[lane]:
                    self._lanes[lane].move_to_end(owner)
                self._turns.taken(lane, self._lanes_waiting())
        return Batch(tuple(groups), tuple(expired), tuple(deferred)) if groups or expired or deferred else None

    def release(self, concerns: Callable[[Entry[Origin]], bool]) -> list[Entry[Origin]]:
        """Remove and return the waiting entries that `concerns` holds for: their partition is somebody else's now."""
        released = [entry for entry in self if concerns(entry)]
        for entry in released:
            self._remove(entry)
        return released

    def _at(self, entry: Entry[Origin]) -> list[Entry[Origin]]:
        """What waits for the same time of the same subject."""
        return [] if entry.slot is None else list(self._places.get((entry.owner, entry.slot), ()))

    def _remove(self, entry: Entry[Origin]) -> None:
        owners = self._lanes[entry.lane]
        del owners[entry.owner][entry]
        if not owners[entry.owner]:
            del owners[entry.owner]
        _discard(self._computations, entry.forecast_id, entry)
        if entry.slot is not None:
            _discard(self._places, (entry.owner, entry.slot), entry)
        self._depths[entry.lane] -= 1

    def _lanes_waiting(self) -> list[Lane]:
        return [lane for lane in LANES if self._depths[lane]]


Key = TypeVar("Key", bound=Hashable)


def _discard(index: dict[Key, dict[Entry[Origin], None]], key: Key, entry: Entry[Origin]) -> None:
    del index[key][entry]
    if not index[key]:
        del index[key]


def _is_late(entry: Entry[Origin], now_ms: float) -> bool:
    """Of the lowest lane no live request is: it waits for nothing but its turn there."""
    deadline = entry.request.deadline_ms
    if deadline is None or (entry.request.kind == "live" and entry.lane == LANES[-1]):
        return False
    return deadline < now_ms
