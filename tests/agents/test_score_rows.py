"""Scores of two models of one person: each by its own forecasts, and each keeps its own when they change places."""

import dataclasses
import hashlib

from schemas.fan_chart import FanChart
from schemas.forecast import Forecast
from schemas.score import TargetScore
from schemas.score_state import ScoreState
from schemas.tables import FAN_CHART_TABLES, SCORES_TABLE, trial_key
from schemas.topics import ALERTS, FAN_CHARTS, SCORES
from tests.agents.test_calc import GLUCOSE, command_of, live_at
from tests.kit.workbench import NOW_MS, Workbench, built, of

CALC, COMMANDS = built("calc"), built("chart_commands")
OLD, NEW, THIRD = (digit * 64 for digit in "123")


def forecast_by(model: str, step: int, *, serves: bool) -> bytes:
    forecast = Forecast.from_arrow(live_at(step, GLUCOSE))
    name = hashlib.sha256((model + forecast.forecast_id).encode()).hexdigest()
    return dataclasses.replace(forecast, forecast_id=name, model_fingerprint=model, model_serves=serves).to_arrow()


async def show(bench: Workbench, model: str, step: int, *, serves: bool) -> FanChart:
    (value,) = of(FAN_CHARTS, await bench.run(CALC, forecast_by(model, step, serves=serves)))
    return FanChart.from_json(value)


async def both(bench: Workbench, steps: range, served: str = OLD, trial: str = NEW) -> None:
    for step in steps:
        await show(bench, served, step, serves=True)
        await show(bench, trial, step, serves=False)


def row(bench: Workbench, key: str) -> ScoreState:
    return ScoreState.from_bytes(bench.rows(SCORES_TABLE).get(key))


def model_of(bench: Workbench, key: str) -> str:
    return row(bench, key).model.hex()


async def test_a_model_on_trial_is_scored_beside_the_served_one_by_the_same_truths() -> None:
    bench, alone = Workbench(), Workbench()
    await both(bench, range(100, 160))
    for step in range(100, 160):
        await show(alone, OLD, step, serves=True)
    assert (model_of(bench, "ada"), model_of(bench, trial_key("ada"))) == (OLD[:16], NEW[:16])
    assert row(bench, "ada").to_bytes() == row(alone, "ada").to_bytes(), "a trial changes nothing of the served one"
    assert row(bench, trial_key("ada")).days == row(bench, "ada").days, "equal forecasts, equal scores"
    scores = [TargetScore.from_json(value) for value in of(SCORES, bench.sent)]
    served, tried = ([each for each in scores if each.model_serves == serves] for serves in (True, False))
    assert {each.model_fingerprint for each in tried} == {NEW}
    assert [each.truth_mgdl for each in tried] == [each.truth_mgdl for each in served]
    assert len({each.score_id for each in scores}) == len(scores) > 0
    assert of(ALERTS, bench.sent) == of(ALERTS, alone.sent)


async def test_a_promoted_model_brings_its_fan_along_and_the_one_before_goes_on_on_trial() -> None:
    bench = Workbench()
    await both(bench, range(100, 150))
    rows = [row(bench, key).to_bytes() for key in ("ada", trial_key("ada"))]
    chart = await show(bench, NEW, 150, serves=True)
    assert chart.calibration is not None
    assert chart.calibration.readings > 0
    assert (model_of(bench, "ada"), row(bench, trial_key("ada")).to_bytes()) == (NEW[:16], rows[0])
    await show(bench, OLD, 150, serves=False)
    assert row(bench, trial_key("ada")).newest == row(bench, "ada").newest
    await both(bench, range(151, 156), served=NEW, trial=OLD)
    await show(bench, OLD, 156, serves=True)
    assert (model_of(bench, "ada"), model_of(bench, trial_key("ada"))) == (OLD[:16], NEW[:16]), "and back again"
    assert row(bench, "ada").readings > ScoreState.from_bytes(rows[0]).readings


async def test_what_comes_again_after_a_promotion_is_what_it_was_and_changes_nothing() -> None:
    bench = Workbench()
    await both(bench, range(100, 150))
    served, tried = await show(bench, OLD, 149, serves=True), await show(bench, NEW, 149, serves=False)
    assert None not in (served.calibration, tried.calibration)
    await show(bench, NEW, 150, serves=True)
    rows, sent = dict(bench.rows(SCORES_TABLE)), len(of(SCORES, bench.sent))
    assert await show(bench, OLD, 149, serves=True) == served
    assert await show(bench, NEW, 149, serves=False) == tried
    assert (await show(bench, THIRD, 149, serves=True)).calibration is None
    assert (await show(bench, THIRD, 149, serves=False)).calibration is None
    assert (bench.rows(SCORES_TABLE), len(of(SCORES, bench.sent))) == (rows, sent)


async def test_a_forecast_that_comes_again_after_all_of_two_hours_is_what_it_was() -> None:
    """Behind a burst of one person's forecasts a worker ended: those that the scores have let go of come once more."""
    bench = Workbench()
    first = {step: await show(bench, OLD, step, serves=True) for step in range(100, 150)}
    tables = {name: dict(bench.rows(name)) for name in (SCORES_TABLE, *FAN_CHART_TABLES.values())}
    assert len({chart.calibration for chart in first.values()}) > 30
    for step, chart in first.items():
        assert await show(bench, OLD, step, serves=True) == chart
    assert {name: dict(bench.rows(name)) for name in tables} == tables


async def test_a_trial_of_what_is_still_known_as_served_takes_nobodys_row() -> None:
    """The one before is on trial already, and this person has no forecast of the promoted one yet."""
    bench = Workbench()
    await both(bench, range(100, 150))
    rows = dict(bench.rows(SCORES_TABLE))
    await show(bench, OLD, 150, serves=False)
    assert bench.rows(SCORES_TABLE) == rows


async def test_a_model_that_nobody_tried_begins_with_its_own_fan_and_its_own_days() -> None:
    bench = Workbench()
    await both(bench, range(100, 150))
    chart = await show(bench, THIRD, 150, serves=True)
    assert chart.calibration is None
    assert (model_of(bench, "ada"), row(bench, "ada").days) == (THIRD[:16], {})
    assert model_of(bench, trial_key("ada")) == NEW[:16]


async def test_another_trial_begins_anew() -> None:
    bench = Workbench()
    await both(bench, range(100, 150))
    await show(bench, THIRD, 150, serves=False)
    assert (model_of(bench, trial_key("ada")), row(bench, trial_key("ada")).scored) == (THIRD[:16], 0)


async def test_a_reset_forgets_both() -> None:
    bench = Workbench()
    await both(bench, range(100, 140))
    await bench.run(COMMANDS, command_of("reset", NOW_MS + 1000, series_key="ada"))
    assert bench.rows(SCORES_TABLE) == {}


async def test_a_reset_takes_scores_of_before_it_also_where_a_forecast_of_after_it_was_read_first() -> None:
    """The fan of who was erased would go on to be fitted by the readings of before."""
    bench = Workbench()
    await both(bench, range(100, 140))
    assert row(bench, "ada").scored
    for model, serves in ((OLD, True), (NEW, False)):
        began = dataclasses.replace(
            Forecast.from_arrow(forecast_by(model, 140, serves=serves)), began_ms=NOW_MS + 60_000
        )
        await bench.run(CALC, began.to_arrow(), timestamp_ms=NOW_MS + 60_000)
    await bench.run(COMMANDS, command_of("reset", NOW_MS + 1000, series_key="ada"))
    assert [(row(bench, key).scored, row(bench, key).readings) for key in ("ada", trial_key("ada"))] == [(0, 0.0)] * 2
