"""A forecast is the present one only while it is."""

import datetime
import math

import pytest

from query_api.present import HEADERS, present
from query_api.projections.fan_charts import ChartRow
from schemas.errors import NoForecastError
from schemas.grid import PRESENT
from schemas.reading import Reading, ReadingOutcome
from tests.kit.charts import ISSUE, fan_chart
from tests.kit.query import Client
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

MINUTE = datetime.timedelta(minutes=1)
UTC = datetime.UTC


def row(**changes: object) -> ChartRow:
    chart = fan_chart(**changes)
    return ChartRow(int(chart.issue_time.timestamp()), 0, chart.chart_id, chart.to_json())


def outcome(minutes: int, status: str = "no_forecast", reason: str = "5 min of readings since a gap") -> ReadingOutcome:
    return ReadingOutcome(
        outcome_id="a" * 64, subject_id="anna", status=status, reason=reason, time=ISSUE + minutes * MINUTE
    )


def test_a_forecast_says_its_age_and_how_long_it_holds() -> None:
    found = present(row(), outcome(0, "forecast_requested"), ISSUE + 7 * MINUTE)
    assert (found.age_seconds, found.valid_until, found.newest_reading) == (420, ISSUE + PRESENT, ISSUE)
    assert found.fields()["age_seconds"] == 420


def test_an_old_forecast_is_not_served_as_the_present_one() -> None:
    assert present(row(), None, ISSUE + PRESENT).age_seconds == 900
    with pytest.raises(NoForecastError, match="13:05 UTC, 6 h ago, and no longer holds"):
        present(row(), None, ISSUE + 360 * MINUTE)


def test_a_newer_reading_without_a_forecast_ends_the_one_before() -> None:
    with pytest.raises(NoForecastError, match="reading of 2026-03-01 13:10 UTC: 5 min of readings since a gap"):
        present(row(), outcome(5), ISSUE + 6 * MINUTE)
    assert present(row(), outcome(1), ISSUE + 6 * MINUTE), "a second reading of the same five minutes"
    assert present(row(), outcome(-30), ISSUE + 6 * MINUTE), "a late reading"
    assert present(row(), outcome(5, "forecast_requested"), ISSUE + 6 * MINUTE), "its forecast is on its way"


def test_every_refusal_says_when_the_next_can_come() -> None:
    def refused(newest: ReadingOutcome | None, minutes: int, **changes: object) -> datetime.datetime | None:
        with pytest.raises(NoForecastError) as caught:
            present(row(**changes), newest, ISSUE + minutes * MINUTE)
        if caught.value.expected is not None:
            assert str(caught.value).endswith(
                f"the next is of {caught.value.expected.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            )
        return caught.value.expected

    warming = outcome(5).model_copy(update={"expected_time": ISSUE + 300 * MINUTE})
    assert refused(warming, 6) == ISSUE + 300 * MINUTE
    assert refused(outcome(10, "forecast_requested"), 16) == ISSUE + 17 * MINUTE, "at once: one is overdue"
    eight_hours = 475 * MINUTE
    assert refused(warming, 60) == ISSUE + 61 * MINUTE + eight_hours, "a gap meanwhile"
    assert refused(None, 360) == ISSUE + 361 * MINUTE + eight_hours
    reading = Reading(subject_id="anna", time=ISSUE, glucose=120, unit="mg/dL", simulated=True)
    assert refused(warming.model_copy(update={"reading": reading}), 6) is None


def test_a_simulated_forecast_has_the_age_of_its_computation() -> None:
    computed = ISSUE + datetime.timedelta(days=7)
    simulated = row(simulated=True, computed_at=computed)
    assert present(simulated, None, computed + 3 * MINUTE).age_seconds == 180
    with pytest.raises(NoForecastError):
        present(simulated, None, computed + 16 * MINUTE)


def test_a_clock_that_went_back_makes_no_old_forecast_the_present_one() -> None:
    """An hour after the forecast the clock goes back a day: for it the forecast is of tomorrow."""
    assert present(row(), None, ISSUE - 10 * MINUTE).age_seconds == 0, "so far ahead readings are taken"
    words = "of 2026-03-01 13:05 UTC, 23 h ahead of this machine's clock: one of the clocks is wrong"
    with pytest.raises(NoForecastError, match=words):
        present(row(), None, ISSUE - 23 * 60 * MINUTE)
    assert present(row(), None, ISSUE - 30 * MINUTE, ahead=40 * MINUTE), "where readings are taken from further ahead"
    computed = ISSUE + datetime.timedelta(days=7)
    with pytest.raises(NoForecastError, match="ahead of this machine's clock"):
        present(row(simulated=True, computed_at=computed), None, computed - 23 * 60 * MINUTE)


async def test_six_hours_later_nothing_is_served_as_the_present(client: Client, pipeline: SmallPipeline) -> None:
    """110 mg/dL until six hours ago, a gap, five hours at 45: the last forecast says 110, and is not shown."""
    now = datetime.datetime.now(UTC).replace(second=0, microsecond=0)
    until_gap = [(now - (14 * 60 - 5 * step) * MINUTE, 110.0) for step in range(97)]
    low = [(now - (300 - 5 * step) * MINUTE, 45.0) for step in range(61)]
    for part in (until_gap, low):
        body = [{"time": time.isoformat(), "glucose": glucose, "unit": "mg/dL"} for time, glucose in part]
        answer = await client.post("/subjects/anna/readings", json=body)
        assert answer.json()["accepted"] == len(part)
    model = client.services.read_model
    await until_async(lambda: model.fan_charts.latest("anna"), "the forecast before the gap")
    newest = low[-1][0]
    await until_async(lambda: (it := model.readings.newest("anna")) and it.time == newest, "all readings")
    for path in ("forecast", "forecast/plot"):
        answer = await client.get(f"/subjects/anna/{path}")
        assert answer.status_code == 404
        assert "5 h of readings since a gap of 1 h" in answer.json()["detail"]
        expected = datetime.datetime.fromisoformat(answer.json()["expected_time"])
        on_the_grid = datetime.datetime.fromtimestamp(round(newest.timestamp() / 300) * 300, UTC)
        assert expected - on_the_grid == 175 * MINUTE, "8 h less the 5 h and the reading that begins them"
    history = (await client.get("/subjects/anna/forecasts")).json()["forecasts"]
    assert {round(chart["past_mgdl"][-1]) for chart in history} == {110}


async def test_the_present_forecast_tells_its_age_over_http(client: Client, pipeline: SmallPipeline) -> None:
    now = datetime.datetime.now(UTC)
    body = [
        {"time": (now - 5 * (95 - step) * MINUTE).isoformat(), "glucose": 120, "unit": "mg/dL"} for step in range(96)
    ]
    await client.post("/subjects/anna/readings", json=body)
    await until_async(lambda: client.services.read_model.fan_charts.latest("anna"), "a forecast")
    answer = (await client.get("/subjects/anna/forecast")).json()
    assert -150 <= answer["age_seconds"] <= 150 + math.ceil((datetime.datetime.now(UTC) - now).total_seconds())
    assert datetime.datetime.fromisoformat(answer["valid_until"]) > now
    assert datetime.datetime.fromisoformat(answer["newest_reading_time"]) == now

    (glance,) = (await client.get("/overview")).json()["subjects"]
    assert -150 <= glance["forecast"]["age_seconds"] - answer["age_seconds"] <= 60
    assert glance["forecast"]["valid_until"][:19] == answer["valid_until"][:19]

    until = datetime.datetime.fromisoformat(answer["valid_until"])
    drawn = [await client.get("/subjects/anna/forecast/plot?format=json") for _ in "12"]
    unchanged = await client.get(
        "/subjects/anna/forecast/plot?format=json", headers={"if-none-match": drawn[0].headers["etag"]}
    )
    assert [each.status_code for each in (*drawn, unchanged)] == [200, 200, 304]
    assert f"holds until {until.astimezone(UTC):%H:%M}" in drawn[0].text
    for each in (*drawn, unchanged):  # the route's own answer, one that was known, and none that is sent again
        issued, valid, newest = (datetime.datetime.fromisoformat(each.headers[name]) for name in HEADERS)
        assert issued == datetime.datetime.fromisoformat(answer["issue_time"])
        assert valid == until == issued + PRESENT
        assert newest == now.replace(microsecond=0)
