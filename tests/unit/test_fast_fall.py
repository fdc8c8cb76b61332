"""A fast fall is told once, where it leads to a low, and not beside an alert that says more."""

import numpy as np
import pytest

from agents.core.alert_policy import Seen, judge
from schemas.alert import THRESHOLD_MGDL, AlertSettings, AlertState, FallChange, RecentAlert

BEFORE = [150.0] * 91


def seen(slot: int, *last: float, low: float = 0.0, fresh: bool = True, unmeasured: tuple[int, ...] = ()) -> Seen:
    past = np.array([*BEFORE, *last])[-96:]
    past = np.concatenate([np.full(96 - past.size, 150.0), past])
    measured = np.ones(96, dtype=bool)
    measured[list(unmeasured)] = False
    chances = {kind: (low if kind == "low" else 0.0,) * 4 for kind in THRESHOLD_MGDL}
    return Seen("ada", slot, slot, 600, fresh, past, measured, chances)


def run(*forecasts: Seen, settings: AlertSettings | None = None) -> tuple[AlertState, list[RecentAlert]]:
    state, told = AlertState(settings=settings or AlertSettings()), []
    for one in forecasts:
        state, new = judge(state, one)
        told += new
    return state, told


FALLING = (148.0, 145.0, 130.0, 115.0, 100.0)


def places(told: list[RecentAlert]) -> list[tuple[str, str, int]]:
    return [(each.kind, each.status, each.slot) for each in told]


def test_a_fall_of_three_a_minute_is_told_once_and_ends_when_it_slows_down() -> None:
    state, told = run(
        seen(100, *FALLING), seen(101, *FALLING[1:], 86.0), seen(102, *FALLING[2:], 86.0, 84.0),
        seen(103, 115.0, 100.0, 86.0, 84.0, 84.0), seen(104, 100.0, 86.0, 84.0, 84.0, 84.0),
    )  # fmt: skip
    assert places(told) == [("falling_fast", "raised", 100), ("falling_fast", "ended", 100)]
    raised, ended = told
    assert (raised.rate_mgdl_per_minute, raised.glucose_mgdl) == (-3.0, 100.0)
    assert (ended.alert_id, ended.ended_slot) == (raised.alert_id, 103)
    assert state.episodes == {}


@pytest.mark.parametrize(
    "forecast",
    [
        seen(100, 148.0, 144.0, 130.0, 115.0, 100.0),  # 2.93 a minute
        seen(100, 199.0, 198.0, 182.0, 166.0, 151.0),  # far from any low
        seen(100, 148.0, 146.0, 110.0, 100.0, 101.0),  # over already
        seen(100, 130.0, 114.0, 98.0, 82.0, 66.0),  # who is low knows
        seen(100, *FALLING, fresh=False),
        seen(100, *FALLING, unmeasured=(95,)),
        seen(100, *FALLING, unmeasured=(92,)),
    ],
)
def test_what_is_no_fast_fall_of_now_is_not_told(forecast: Seen) -> None:
    assert run(forecast)[1] == []


def test_points_between_measured_ends_may_be_interpolated() -> None:
    assert len(run(seen(100, *FALLING, unmeasured=(93, 94)))[1]) == 1


def test_an_alert_of_the_low_says_more_and_silences_it_for_its_cooldown() -> None:
    assert places(run(seen(100, *FALLING, low=0.9))[1]) == [("low", "raised", 100)]
    told = run(seen(99, low=0.9), seen(100, *FALLING), seen(103, *FALLING))[1]
    assert places(told) == [("low", "raised", 99)]


def test_a_fast_fall_does_not_hold_back_the_alert_of_a_low() -> None:
    told = run(seen(100, *FALLING), seen(101, *FALLING[1:], 84.0, low=0.9))[1]
    assert places(told) == [("falling_fast", "raised", 100), ("low", "raised", 101)]


def test_it_has_a_cooldown_of_its_own_and_lasts_no_longer_than_an_hour() -> None:
    level = (100.0,) * 5
    told = run(seen(100, *FALLING), seen(101, *level), seen(105, *FALLING), seen(106, *FALLING))[1]
    assert [place for place in places(told) if place[1] == "raised"] == [
        ("falling_fast", "raised", 100),
        ("falling_fast", "raised", 106),
    ]
    told = run(seen(100, *FALLING), seen(112, *FALLING))[1]
    assert places(told)[1:] == [("falling_fast", "ended", 100), ("falling_fast", "raised", 112)]


def test_settings_change_rate_level_and_whether() -> None:
    slower = seen(100, 148.0, 130.0, 120.0, 110.0, 100.0)
    assert len(run(slower, settings=AlertSettings(falling_fast=FallChange(rate_mgdl_per_minute=2.0)))[1]) == 1
    lower = AlertSettings(falling_fast=FallChange(below_mgdl=90.0))
    assert run(seen(100, *FALLING), settings=lower)[1] == []
    assert run(seen(100, *FALLING), settings=AlertSettings(preset="quiet"))[1] == []
    on = AlertSettings(preset="quiet", falling_fast=FallChange(enabled=True))
    assert len(run(seen(100, *FALLING), settings=on)[1]) == 1


def test_who_snoozes_lows_snoozes_it_too() -> None:
    state = AlertState(snoozed_until_ms={"low": 101})
    assert judge(state, seen(100, *FALLING)).told == ()
    assert len(judge(state, seen(101, *FALLING)).told) == 1


def test_a_fall_from_one_sensor_to_another_is_none() -> None:
    told = run(seen(100, *FALLING)._replace(one_sensor=False))[1]
    assert told == []
    assert [each.kind for each in run(seen(100, *FALLING))[1]] == ["falling_fast"]
