"""Pressure on the sensor is suspected where a low at night falls and rises like a step, and nowhere else."""

import dataclasses
import datetime

import numpy as np
import pytest

from agents.calc.fan_chart import fan_chart
from agents.core.compression import MOST_WARNINGS, Squeezed, suspected, warnings_of
from tests.kit.forecasts import LIVE

MORNING = datetime.datetime(2026, 3, 1, 7, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))


def night(*lows: tuple[int, list[float]], level: float = 110.0) -> list[float]:
    """Eight hours at one level, with other values from a place on."""
    past = [level] * 96
    for place, values in lows:
        past[place : place + len(values)] = values
    return past


STEP_DOWN = [84.0, 62.0, 58.0, 60.0, 88.0, 104.0]


def test_a_low_that_falls_and_rises_within_a_quarter_of_an_hour_is_suspected() -> None:
    assert list(suspected(night((40, STEP_DOWN)), ())) == [Squeezed(41, 43)]
    assert warnings_of(night((40, STEP_DOWN)), (), MORNING) == [
        "COMPRESSION: the low from 02:30 to 02:40 fell and rose as under pressure on the sensor"
    ]


@pytest.mark.parametrize(
    "past",
    [
        night((40, [100, 92, 84, 76, 68, 64, 66, 88, 104])),  # falls slowly
        night((40, [84, 62, 58, 60, 66, 72, 78, 84, 90, 96])),  # rises slowly
        night((40, [84, *[60.0] * 13, 88, 104])),  # lasts
        night((40, [84, 72, 71, 72, 88])),  # is no low
        night((93, [84, 62, 58])),  # is not over
        night((94, [62.0, 104.0])),  # not yet for a quarter of an hour
        night((0, [62.0, 60.0, 90.0])),  # nobody knows what came before
    ],
)
def test_other_lows_are_not(past: list[float]) -> None:
    assert list(suspected(past, ())) == []


@pytest.mark.parametrize("interpolated", [(41, 42, 43), (38, 39, 40), (44, 45, 46)])
def test_what_nobody_measured_is_no_ground(interpolated: tuple[int, ...]) -> None:
    assert list(suspected(night((40, STEP_DOWN)), interpolated)) == []
    assert list(suspected(night((40, STEP_DOWN)), interpolated[:1])) != []


def test_by_day_people_do_not_lie_on_it_and_the_newest_count() -> None:
    assert warnings_of(night((40, STEP_DOWN)), (), MORNING + datetime.timedelta(hours=9)) == []
    many = night(*((place, STEP_DOWN) for place in range(10, 60, 12)))
    assert len(warnings_of(many, (), MORNING)) == MOST_WARNINGS
    assert "from 04:00 to 04:10" in warnings_of(many, (), MORNING)[-1]


def test_a_live_chart_says_it_and_changes_nothing_else() -> None:
    past = night((40, STEP_DOWN))
    live = dataclasses.replace(
        LIVE, timezone="+01:00", end_seconds=1_772_348_400, past_centi_mgdl=[round(100 * value) for value in past]
    )
    now = datetime.datetime.now(datetime.UTC)
    chart = fan_chart(live, now)
    assert [warning.split(":")[0] for warning in chart.warnings if warning not in live.warnings] == ["COMPRESSION"]
    assert len(chart.to_json()) <= 4096
    sample = dataclasses.replace(live, kind="sample", subject_id=None, handle="e" * 64, index=0, series_key="t")
    other = fan_chart(sample, now)
    assert list(other.warnings) == list(live.warnings)
    assert np.array_equal(chart.median_mgdl, other.median_mgdl)
