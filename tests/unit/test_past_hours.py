"""The hours before a window, told by their sums alone."""

import numpy as np
import pytest

from agents.core.past_hours import SLOTS_AN_HOUR, add, hours_before
from schemas.grid import PAST_HOURS, PAST_POINTS

WEEK = PAST_HOURS * SLOTS_AN_HOUR


def sums_of(readings: dict[int, int]) -> dict[int, tuple[int, int]]:
    sums: dict[int, tuple[int, int]] = {}
    add(sums, readings.items())
    return sums


@pytest.mark.parametrize("end", [50_000, 50_003, 50_011])
def test_a_steady_level_is_its_own_mean_wherever_a_window_begins(end: int) -> None:
    steady = sums_of(dict.fromkeys(range(end - PAST_POINTS - WEEK - 12, end + 1), 12_345))
    assert hours_before(steady, end) == [12_345] * PAST_HOURS


def test_a_window_that_begins_with_an_hour_has_the_hours_themselves() -> None:
    end = 4_000 * SLOTS_AN_HOUR + PAST_POINTS - 1  # the last slot before the window ends hour 3999
    level = {slot: 10_000 + slot % 997 for slot in range(end - PAST_POINTS - 35, end + 1)}
    first = end - PAST_POINTS - 35
    wanted = [sum(level[first + 12 * hour + place] for place in range(12)) / 12 for hour in range(3)]
    assert hours_before(sums_of(level), end) == [int(np.floor(mean + 0.5)) for mean in wanted]


def test_between_two_hours_of_the_clock_both_have_their_share() -> None:
    end = 4_000 * SLOTS_AN_HOUR + PAST_POINTS + 2  # three slots of hour 4000 lie before the window
    sums = {4_000: (12 * 20_000, 12), 3_999: (4 * 10_000, 4)}
    assert hours_before(sums, end) == [10_000, round((3 * 240_000 + 9 * 40_000) / (36 + 36))]


def test_what_is_not_known_is_none_and_what_follows_the_last_point_is_not_read() -> None:
    end = 4_000 * SLOTS_AN_HOUR + PAST_POINTS - 1
    assert hours_before({}, end) == []
    assert hours_before({3_997: (9_000, 1), 4_000: (1, 1), 4_008: (1, 1)}, end) == [9_000, None, None]
    assert hours_before({3_999 - PAST_HOURS: (9_000, 1)}, end) == []


def test_a_full_hour_takes_no_more() -> None:
    sums = {7: (12 * 100, 12)}
    add(sums, [(7 * SLOTS_AN_HOUR, 60_000)])
    assert sums == {7: (1_200, 12)}
