"""Turns of lanes: priority, and a share for each that waits."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agents.core.turns import TURNS_PER_SHARE, Turns
from schemas.lanes import LANES, Lane


def drawn(turns: Turns, waiting: list[Lane], count: int) -> list[Lane]:
    """Who has the next turns while the same lanes wait."""
    found = []
    for _ in range(count):
        lane = turns.next(waiting)
        assert lane is not None
        turns.taken(lane, waiting)
        found.append(lane)
    return found


def test_nobody_waits_nobody_has_a_turn() -> None:
    assert Turns().next([]) is None


@given(st.sets(st.sampled_from(LANES), min_size=1), st.integers(1, 200))
def test_each_waiting_lane_has_its_share_and_the_highest_the_rest(waiting: set[Lane], rounds: int) -> None:
    ordered = [lane for lane in LANES if lane in waiting]
    taken = drawn(Turns(), ordered, rounds * TURNS_PER_SHARE)
    counts = Counter(taken)
    for lane in ordered:
        assert counts[lane] >= rounds - 1
    assert counts[ordered[0]] >= rounds * (TURNS_PER_SHARE - len(ordered) + 1) - len(ordered)
    for start in range(len(taken) - TURNS_PER_SHARE + 1):
        assert ordered[-1] in taken[start : start + TURNS_PER_SHARE]


@given(st.lists(st.sets(st.sampled_from(LANES)), max_size=100))
def test_a_lane_that_comes_when_lower_ones_wait_is_next_but_for_what_they_are_owed(waits: list[set[Lane]]) -> None:
    turns = Turns()
    for waiting in waits:
        lane = turns.next(waiting)
        if lane is not None:
            turns.taken(lane, waiting)
    arrived = drawn(turns, ["interactive", "backfill"], 3)
    assert arrived.count("interactive") >= 2
