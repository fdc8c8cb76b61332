"""The batcher under any sequence of arrivals, batches and revocations: nothing lost, nothing twice, nobody starves."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agents.core.turns import TURNS_PER_SHARE
from agents.inference.batcher import OWNERS_WITH_ROOM, Batch, Batcher, Budget, Entry
from schemas.errors import OverloadedError
from schemas.forecast import ForecastRequest
from schemas.lanes import LANES, Lane

ONE_WINDOW = Budget(windows=1, seconds=0.0, seconds_per_sample=1.0)
WIDE = Budget(windows=1000, seconds=1e9, seconds_per_sample=1e-3)


def entry(
    lane: Lane,
    computation: str,
    partition: int = 0,
    deadline_ms: int | None = None,
    num_samples: int = 10,
    owner: str = "s",
    slot: int | None = None,
    revision: int = 0,
) -> Entry[int]:
    """A sample's request, or with a slot a live one."""
    request = ForecastRequest(
        request_id="r", kind="sample" if slot is None else "live", series_key=owner, end_seconds=0,
        past_centi_mgdl=[10_000] * 96, truth_centi_mgdl=[], input_hash="0" * 64, num_samples=num_samples, seed=0,
        deadline_ms=deadline_ms, revision=revision,
    )  # fmt: skip
    return Entry(request, computation, lane, partition, 0.0, slot)


def filled(**depths: int) -> Batcher[int]:
    batcher = Batcher[int](capacity=10_000, clock=lambda: 0.0)
    for lane in LANES:
        for number in range(depths.get(lane, 0)):
            batcher.add(entry(lane, f"{lane}-{number}"))
    return batcher


class AnySequence(RuleBasedStateMachine):
    """Arrivals, batches, time and revocations in any order, against a plain list of what ought to wait."""

    @initialize(capacity=st.integers(1, 6))
    def start(self, capacity: int) -> None:
        self.capacity = capacity
        self.now = 0.0
        self.batcher = Batcher[int](capacity, lambda: self.now)
        self.waiting: list[Entry[int]] = []

    @rule(
        lane=st.sampled_from(LANES),
        computation=st.sampled_from("abcdefgh"),
        partition=st.integers(0, 2),
        lifetime=st.none() | st.integers(-2, 5),
        owner=st.sampled_from("xyz"),
        slot=st.none() | st.integers(0, 2),
        revision=st.integers(0, 3),
    )
    def arrive(
        self,
        lane: Lane,
        computation: str,
        partition: int,
        lifetime: int | None,
        owner: str,
        slot: int | None,
        revision: int,
    ) -> None:
        deadline = None if lifetime is None else int((self.now + lifetime) * 1000)
        arriving = entry(lane, computation, partition, deadline, owner=owner, slot=slot, revision=revision)
        if sum(each.lane == lane for each in self.waiting) < self.capacity:
            assert self.batcher.has_room(lane)
            rivals = [each for each in self.waiting if _rivals(each, arriving)]
            if any(each.request.revision > revision for each in rivals):
                gone = [arriving]
            else:
                gone = rivals
                self.waiting.append(arriving)
            assert Counter(map(id, self.batcher.add(arriving))) == Counter(map(id, gone))
            self.waiting = [each for each in self.waiting if each not in gone]
        else:
            assert not self.batcher.has_room(lane)
            with pytest.raises(OverloadedError):
                self.batcher.add(arriving)

    @rule(windows=st.integers(1, 5), seconds=st.sampled_from([0.0, 10.0, 30.0, 1e9]))
    def take(self, windows: int, seconds: float) -> None:
        batch = self.batcher.next_batch(Budget(windows, seconds, seconds_per_sample=1.0))
        if batch is None:
            assert self.waiting == []
            return
        started = [each for group in batch.groups for each in group]
        for each in (*started, *batch.expired, *batch.deferred):
            self.waiting.remove(each)
        assert all(_late(each, self.now) and each.slot is None for each in batch.expired)
        assert all(_late(each, self.now) and each.slot is not None for each in batch.deferred)
        assert not any(each.lane == "backfill" for each in batch.deferred)
        assert all(any(not _late(each, self.now) for each in group) for group in batch.groups)
        assert not any(_late(each, self.now) and each.slot is None for each in started)
        computations = [{each.forecast_id for each in group} for group in batch.groups]
        assert all(len(names) == 1 for names in computations)
        assert len(set.union(set(), *computations)) == len(batch.groups), "a computation appears twice"
        assert len(batch.groups) <= windows
        assert len(batch.groups) <= max(1, seconds // 10)
        for names in computations:
            assert not any(each.forecast_id in names for each in self.waiting), "a sharer was left behind"

    @rule(owner=st.sampled_from("xyz"))
    def defer(self, owner: str) -> None:
        gone = self.batcher.defer_excess(owner)
        self.waiting = [each for each in self.waiting if each not in gone]
        assert all((each.lane, each.owner) == ("live", owner) for each in gone)
        assert all(each.slot is not None and each.request.deadline_ms is not None for each in gone)
        left = [
            each
            for each in self.waiting
            if (each.lane, each.owner) == ("live", owner)
            and each.slot is not None
            and each.request.deadline_ms is not None
        ]
        assert len(left) == 1 if gone else len(left) <= 1
        assert all((one.slot or 0) <= (other.slot or 0) for one in gone for other in left)

    @rule(partition=st.integers(0, 2))
    def revoke(self, partition: int) -> None:
        released = self.batcher.release(lambda each: each.origin == partition)
        assert Counter(map(id, released)) == Counter(id(each) for each in self.waiting if each.origin == partition)
        self.waiting = [each for each in self.waiting if each.origin != partition]

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: hasattr(self, "batcher"))
    @invariant()
    def holds_exactly_what_waits(self) -> None:
        assert Counter(map(id, self.batcher)) == Counter(map(id, self.waiting))
        for lane in LANES:
            assert self.batcher.depth(lane) == sum(each.lane == lane for each in self.waiting) <= self.capacity


AnySequence.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnySequence = AnySequence.TestCase


def _late(each: Entry[int], now: float) -> bool:
    if each.slot is not None and each.lane == "backfill":
        return False
    return each.request.deadline_ms is not None and each.request.deadline_ms < now * 1000


def _rivals(one: Entry[int], other: Entry[int]) -> bool:
    """Whether they are for one time of one subject, and not the same computation."""
    same_place = one.slot is not None and (one.owner, one.slot) == (other.owner, other.slot)
    return same_place and one.forecast_id != other.forecast_id


def lanes_of(batch: Batch[int] | None) -> list[Lane]:
    assert batch is not None
    return [group[0].lane for group in batch.groups]


@given(windows=st.integers(1, 12), upper=st.sampled_from([("interactive",), ("live",), ("interactive", "live")]))
@settings(deadline=None)
def test_the_lowest_lane_gets_one_of_any_eight_slots(windows: int, upper: tuple[str, ...]) -> None:
    batcher = filled(backfill=40, **dict.fromkeys(upper, 400))
    budget = Budget(windows, 1e9, 1e-3)
    order: list[Lane] = []
    while batcher.depth("backfill"):
        order += lanes_of(batcher.next_batch(budget))
    order = order[: len(order) - order[::-1].index("backfill")]  # what follows the last one says nothing
    for start in range(len(order) - TURNS_PER_SHARE + 1):
        assert "backfill" in order[start : start + TURNS_PER_SHARE]


def test_each_waiting_lane_gets_its_share_and_the_highest_the_rest() -> None:
    batcher = filled(interactive=1000, live=1000, backfill=1000)
    order = [lane for _ in range(400) for lane in lanes_of(batcher.next_batch(ONE_WINDOW))]
    counts = Counter(order)
    assert counts["live"] >= 400 // TURNS_PER_SHARE - 1
    assert counts["backfill"] >= 400 // TURNS_PER_SHARE - 1
    assert counts["interactive"] >= 400 * (TURNS_PER_SHARE - 2) // TURNS_PER_SHARE - 2


def test_a_newcomer_of_a_higher_lane_is_next() -> None:
    batcher = filled(backfill=50)
    lanes_of(batcher.next_batch(ONE_WINDOW))
    batcher.add(entry("live", "now"))
    batcher.add(entry("interactive", "now too"))
    assert lanes_of(batcher.next_batch(ONE_WINDOW)) == ["interactive"]
    assert lanes_of(batcher.next_batch(ONE_WINDOW)) == ["live"]


def test_a_lane_is_served_in_the_order_of_arrival() -> None:
    batcher = filled(live=20)
    batch = batcher.next_batch(WIDE)
    assert batch is not None
    assert [group[0].forecast_id for group in batch.groups] == [f"live-{number}" for number in range(20)]


def test_the_time_cap_counts_draws() -> None:
    batcher = Batcher[int](capacity=10, clock=lambda: 0.0)
    for computation, num_samples in (("a", 10), ("b", 200), ("c", 10)):
        batcher.add(entry("live", computation, num_samples=num_samples))
    budget = Budget(windows=10, seconds=0.1, seconds_per_sample=0.001)
    sizes = [len(lanes_of(batcher.next_batch(budget))) for _ in range(3)]
    assert sizes == [1, 1, 1], "10 + 200 draws exceed 100, and 200 alone must still be allowed"


def test_sharers_of_a_computation_ride_along_for_free() -> None:
    batcher = filled(live=3)
    batcher.add(entry("backfill", "live-0", partition=2))
    batch = batcher.next_batch(ONE_WINDOW)
    assert batch is not None
    assert [each.lane for each in batch.groups[0]] == ["live", "backfill"]
    assert batcher.depth("backfill") == 0


@given(
    backlogs=st.dictionaries(st.sampled_from("uvwxyz"), st.integers(1, 30), min_size=2),
    windows=st.integers(1, 9),
    lane=st.sampled_from(LANES),
)
@settings(deadline=None)
def test_nobody_waits_more_turns_than_there_are_owners(backlogs: dict[str, int], windows: int, lane: Lane) -> None:
    batcher = Batcher[int](capacity=10_000, clock=lambda: 0.0)
    for owner, count in backlogs.items():
        for number in range(count):
            batcher.add(entry(lane, f"{owner}-{number}", owner=owner))
    order: list[str] = []
    while batch := batcher.next_batch(Budget(windows, 1e9, 1e-3)):
        order += [group[0].owner for group in batch.groups]
    assert Counter(order) == Counter(backlogs)
    for owner in backlogs:
        turns = [-1] + [turn for turn, each in enumerate(order) if each == owner]
        assert all(after - before <= len(backlogs) for before, after in itertools.pairwise(turns))


def test_a_live_request_comes_before_another_persons_backlog() -> None:
    batcher = Batcher[int](capacity=60_000, clock=lambda: 0.0)
    for number in range(50_000):
        batcher.add(entry("live", f"backlog-{number}", owner="ada", slot=number))
    batcher.add(entry("live", "now", owner="eve", slot=1))
    batch = batcher.next_batch(Budget(2, 1e9, 1e-3))
    assert batch is not None
    assert [group[0].owner for group in batch.groups] == ["ada", "eve"]


def test_of_a_flood_no_more_than_a_share_waits_in_the_live_lane() -> None:
    batcher = Batcher[int](capacity=512, clock=lambda: 0.0)
    gone: list[Entry[int]] = []
    for number in range(2016):
        batcher.add(entry("live", f"flood-{number}", owner="ada", slot=number, deadline_ms=1))
        gone += batcher.defer_excess("ada")
    assert [each.slot for each in gone] == list(range(2016 - 64))
    assert batcher.depth("live") == 512 // OWNERS_WITH_ROOM == 64
    late = entry("live", "late", owner="ada", slot=1000, deadline_ms=1)
    batcher.add(late)
    assert batcher.defer_excess("ada") == [late]
    batcher.add(entry("live", "somebody else's", owner="eve", slot=1))
    batch = batcher.next_batch(Budget(2, 1e9, 1e-3))
    assert batch is not None
    assert [group[0].owner for group in batch.groups] == ["ada", "eve"]


@pytest.mark.parametrize(("lane", "deadline_ms"), [("interactive", 1), ("backfill", 1), ("live", None)])
def test_nobody_passes_on_what_is_in_another_lane_or_has_no_deadline(lane: Lane, deadline_ms: int | None) -> None:
    batcher = Batcher[int](capacity=512, clock=lambda: 0.0)
    for number in range(512):
        batcher.add(entry(lane, f"c{number}", owner="ada", slot=number, deadline_ms=deadline_ms))
    assert (batcher.defer_excess("ada"), batcher.depth(lane)) == ([], 512)


def test_of_one_time_the_newest_request_counts_whichever_comes_first() -> None:
    for order in ((1, 2), (2, 1)):
        batcher = Batcher[int](capacity=10, clock=lambda: 0.0)
        entries = {number: entry("live", f"c{number}", owner="ada", slot=7, revision=number) for number in order}
        gone = [each for number in order for each in batcher.add(entries[number])]
        assert gone == [entries[1]]
        assert list(batcher) == [entries[2]]


def test_a_live_request_that_waited_too_long_leaves_its_lane_and_is_never_late_in_the_lowest() -> None:
    batcher = Batcher[int](capacity=10, clock=lambda: 100.0)
    late, low = (entry(lane, lane, deadline_ms=99_000, slot=1, owner=lane) for lane in LANES[1:])
    for each in (late, low):
        batcher.add(each)
    assert batcher.next_batch(WIDE) == Batch(((low,),), (), (late,))
