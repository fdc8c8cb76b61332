"""Forecasts of the past beside what came of them."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from query_api.past_forecast import past_forecast
from schemas.errors import NoForecastError
from schemas.fan_chart import PathChances
from schemas.reading import Reading
from tests.kit.charts import ISSUE, STEP, fan_chart
from tests.kit.followed import Followed, day, forecast, reading

MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    table = Followed(tmp_path / "table")
    yield table
    table.model.close()


def test_a_past_forecast_has_what_counted_at_its_target_times_and_nothing_else(followed: Followed) -> None:
    followed.apply(forecast("anna", 0), forecast("anna", 2), day("bert", {5: 300.0}))
    assert past_forecast(followed.model, "anna", ISSUE).chart.truth_mgdl == (None,) * 12
    followed.apply(day("anna", {step: 100.0 + step for step in range(8) if step != 5}))
    found = past_forecast(followed.model, "anna", ISSUE + MINUTE)
    assert found.chart.issue_time == ISSUE
    assert found.chart.truth_mgdl == (101, 102, 103, 104, None, 106, 107, *[None] * 5)
    assert (found.earlier, found.later) == (None, ISSUE + 2 * STEP)
    later = past_forecast(followed.model, "anna", ISSUE + datetime.timedelta(days=1))
    assert (later.chart.issue_time, later.earlier, later.later) == (ISSUE + 2 * STEP, ISSUE, None)
    assert later.chart.truth_mgdl[0] == 103


def test_what_another_device_says_than_the_preferred_one_is_no_truth(followed: Followed) -> None:
    """It is among the readings, and nearer to the time: its 131 was told beside a low of 68 that had come."""
    other = Reading(subject_id="anna", time=ISSUE + STEP, glucose=131, unit="mg/dL", device="leg")
    followed.apply(reading("anna", 1, reading=other, status="no_forecast", code="other_device"))
    followed.apply(day("anna", {1: 68.0}), forecast("anna", 0))
    assert past_forecast(followed.model, "anna", ISSUE).chart.truth_mgdl[:2] == (68, None)


def test_of_a_chart_that_was_made_again_the_newer_is_shown_and_before_the_first_there_is_none(
    followed: Followed,
) -> None:
    followed.apply(forecast("anna", 0), forecast("anna", 0, made=1))
    assert past_forecast(followed.model, "anna", ISSUE).chart.chart_id == f"{1000:064x}"
    for subject, at in (("anna", ISSUE - MINUTE), ("bert", ISSUE)):
        with pytest.raises(NoForecastError, match="no forecast of that time is kept"):
            past_forecast(followed.model, subject, at)


def test_the_risk_of_an_hour_is_of_the_whole_path_where_that_is_known() -> None:
    chart = fan_chart(p_below_70=[0.1] * 11 + [0.2], p_above_180=[0.0] * 12)
    assert chart.within_hour == (0.2, 0.0)
    path = PathChances(below_54=(0,) * 4, below_70=(0, 0, 0.1, 0.3), above_180=(0.4,) * 4, above_250=(0,) * 4)
    assert chart.model_copy(update={"p_path": path}).within_hour == (0.3, 0.4)
