"""What a replay says of two charts of one window, and what calc and inference make of a request that is replayed."""

import dataclasses
from typing import Any

import pytest

from agents.calc.scorekeeping import calibrated_as
from agents.core import recalibration
from agents.inference import intake
from schemas.errors import MalformedRecordError
from schemas.fan_chart import FanCalibration, FanChart
from schemas.replay import ReplayedForecast
from schemas.tables import FAN_CHART_TABLES, SCORES_TABLE
from schemas.topics import FAN_CHARTS, REPLAYS, REQUEST_OUTCOMES
from streams.replays import Report, compare, differences
from tests.kit.charts import fan_chart
from tests.kit.forecasts import LIVE
from tests.kit.requests import request_of
from tests.kit.workbench import NOW_MS, Workbench, built, of

CALC = built("calc")
RULE = FanCalibration(version=recalibration.VERSION, readings=90.0, score_shifts=((0.1,) * 9,) * 5)
REPLAYED = dataclasses.replace(LIVE, replay_id="replay-1")


def rounded(**changes: Any) -> FanChart:
    chart = fan_chart(**changes)
    rows = [tuple(round(value, 1) for value in row) for row in chart.quantiles_mgdl]
    return chart.model_copy(update={"quantiles_mgdl": tuple(rows)})


async def test_a_replayed_forecast_reaches_the_replay_and_nothing_else() -> None:
    bench = Workbench()
    await bench.run(CALC, LIVE.to_arrow())
    rows = {table: dict(bench.rows(table)) for table in (*FAN_CHART_TABLES.values(), SCORES_TABLE)}
    (first,) = of(FAN_CHARTS, bench.sent)
    sends = await bench.run(CALC, REPLAYED.to_arrow(), timestamp_ms=NOW_MS + 60_000)
    assert [send.topic for send in sends] == [REPLAYS]
    answer = ReplayedForecast.from_json(sends[0].value)
    assert (answer.replay_id, answer.request_id, answer.status) == ("replay-1", LIVE.request_id, "charted")
    assert answer.chart is not None
    assert differences(answer.chart, FanChart.from_json(first)) == ()
    assert {table: bench.rows(table) for table in rows} == rows


async def test_a_replay_is_told_why_there_is_no_chart_and_nobody_else_is() -> None:
    broken = dataclasses.replace(REPLAYED, residual_sd_mgdl=[1e9] * 12)
    sends = await Workbench().run(CALC, broken.to_arrow())
    (value,) = of(REPLAYS, sends)
    assert of(REQUEST_OUTCOMES, sends) == []
    answer = ReplayedForecast.from_json(value)
    assert (answer.status, answer.chart) == ("implausible", None)
    assert answer.reason is not None


@pytest.mark.parametrize("changes", [{"replay_id": "a/b"}, {"replay_id": ""}, {"replay_id": "r" * 600}])
async def test_a_name_that_is_none_is_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedRecordError):
        await Workbench().run(CALC, dataclasses.replace(LIVE, **changes).to_arrow())


def test_samples_are_not_replayed() -> None:
    with pytest.raises(MalformedRecordError):
        intake.read_request(request_of(1, replay_id="replay-1").to_arrow())


@pytest.mark.parametrize(
    ("replay_id", "model", "serving", "trial"),
    [(None, None, True, True), ("r", None, True, False), ("r", "ab", True, True), ("r", "cd", False, False)],
)
def test_a_replay_asks_one_model(replay_id: str | None, model: str | None, serving: bool, trial: bool) -> None:
    request = request_of(1, replay_id=replay_id, replay_model=model)
    assert (intake.asks(request, "ab" * 32, True), intake.asks(request, "ab" * 32, False)) == (serving, trial)


def test_a_replayed_request_takes_nobodys_place() -> None:
    live: dict[str, Any] = {"kind": "live", "series_key": "ada", "subject_id": "ada", "handle": None, "index": None}
    places = [intake.entry_of(request_of(1, **live, replay_id=name), "backfill", 0, "f" * 64, 0.0).slot
              for name in (None, "replay-1")]  # fmt: skip
    assert places[0] is not None
    assert places[1] is None


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({}, ()),
        ({"model_serves": False}, ()),
        ({"mean_mgdl": (120.0,) * 11 + (120.1,)}, ("mean_mgdl",)),
        ({"p_below_70": (0.5,) * 12, "warnings": ("w",)}, ("p_below_70", "warnings")),
    ],
)
def test_what_differs_is_named_once_the_fan_is_fitted_alike(
    changes: dict[str, Any], differing: tuple[str, ...]
) -> None:
    issued = calibrated_as(rounded(), RULE)
    assert differences(rounded(**changes), issued) == differing


def test_a_fan_that_moved_is_told() -> None:
    moved = rounded(median_mgdl=(120.1,) + (120.0,) * 11)
    assert differences(moved, calibrated_as(rounded(), RULE))[0] == "median_mgdl"


def test_another_rule_of_recalibration_is_named() -> None:
    issued = rounded().model_copy(update={"calibration": RULE.model_copy(update={"version": 0})})
    assert differences(rounded(), issued) == (f"calibration (rule 0 then, {recalibration.VERSION} now)",)


def test_the_report_counts_equal_differing_other_and_new_ones() -> None:
    report = Report("replay-1")
    chart, other = rounded(), rounded(model_fingerprint="1" * 64, median_mgdl=(120.0,) * 11 + (120.5,))
    compare(chart, chart, chart, report)
    compare(rounded(mean_mgdl=(119.0,) * 12), chart, chart, report)
    compare(other, None, chart, report)
    compare(chart, None, None, report)
    assert (report.equal, len(report.differing), report.other_model.total(), report.not_issued) == (1, 1, 1, 1)
    assert report.apart_mgdl == [0.5]
    assert not report.is_clean
    text = "\n".join(report.lines())
    assert "test (111111111111)" in text
    assert "anna" not in text
