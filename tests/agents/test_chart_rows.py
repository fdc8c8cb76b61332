"""Rows of the fan-chart table: one chart of the served model a place, those of models on trial beside it.

Served charts replace served ones, whichever model has made them. A chart on trial replaces its own model's and nothing
else: whoever looks a forecast up never notices that a second model is tried.
"""

import dataclasses

import pytest

from schemas.command import CacheCommand
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import from_row
from schemas.forecast import Forecast
from schemas.tables import FAN_CHART_TABLES, ChartKey
from schemas.topics import FAN_CHARTS
from streams.settings import Settings
from tests.kit import forecasts
from tests.kit.workbench import NOW_MS, Workbench, built, of

CALC, COMMANDS = built("calc"), built("chart_commands")
RING_SECONDS = Settings().subject_history_steps * 300
HANDLE = "e" * 64
OLD, NEW, TRIED = (digit * 64 for digit in "123")
LIVE = dataclasses.replace(forecasts.LIVE, timezone="UTC", model_fingerprint=OLD)
SAMPLE = dataclasses.replace(LIVE, kind="sample", series_key="tail", subject_id=None, handle=HANDLE, index=-3)
PLACES = {
    "live": f"subject/ada/{1_710_000_000 // 300 % Settings().subject_history_steps}",
    "sample": f"handle/{HANDLE}/-3",
}

both_kinds = pytest.mark.parametrize("at", [LIVE, SAMPLE], ids=["live", "sample"])


def rows_of(bench: Workbench) -> dict[str, bytes]:
    """The rows of all lanes; no place may have its row twice."""
    tables = [bench.rows(table) for table in FAN_CHART_TABLES.values()]
    assert sum(map(len, tables)) == len(set().union(*tables))
    return {key: row for table in tables for key, row in table.items()}


def by(model: str, at: Forecast, serves: bool = True, **changes: object) -> Forecast:
    """The same forecast by another model; one on trial does not serve."""
    return dataclasses.replace(at, model_fingerprint=model, model_serves=serves, **changes)  # type: ignore[arg-type]


def on_trial(at: Forecast, **changes: object) -> Forecast:
    return by(TRIED, at, serves=False, **changes)


async def stored(*forecasts: Forecast, bench: Workbench | None = None) -> dict[str, tuple[str, bool]]:
    """After these forecasts, in their order: the model of each row, and whether it is served."""
    bench = bench or Workbench()
    for forecast in forecasts:
        assert len(of(FAN_CHARTS, await bench.run(CALC, forecast.to_arrow()))) == 1, "every chart is published"
    charts = {key: from_row(row) for key, row in rows_of(bench).items() if ChartKey.parse(key)}
    for key, chart in charts.items():
        assert key.endswith(f"/{chart.model_fingerprint[:16]}"), "a row lies under its model"
    return {key: (chart.model_fingerprint, chart.model_serves) for key, chart in charts.items()}


def row(at: Forecast, model: str, serves: bool = True) -> dict[str, tuple[str, bool]]:
    return {f"{PLACES[at.kind]}/{model[:16]}": (model, serves)}


@both_kinds
async def test_a_served_chart_replaces_that_of_the_model_before(at: Forecast) -> None:
    assert await stored(by(OLD, at)) == row(at, OLD)
    assert await stored(by(OLD, at), by(NEW, at)) == row(at, NEW)
    assert await stored(by(OLD, at), by(NEW, at), by(OLD, at)) == row(at, OLD), "and back again"


@both_kinds
async def test_a_chart_on_trial_lies_beside_the_served_one_whichever_comes_first(at: Forecast) -> None:
    beside = row(at, OLD) | row(at, TRIED, serves=False)
    assert await stored(by(OLD, at), on_trial(at)) == beside
    assert await stored(on_trial(at), by(OLD, at)) == beside
    assert await stored(on_trial(at), by(OLD, at), on_trial(at)) == beside


@both_kinds
async def test_a_change_of_the_served_model_leaves_the_trial_alone(at: Forecast) -> None:
    found = await stored(by(OLD, at), on_trial(at), by(NEW, at))
    assert found == row(at, NEW) | row(at, TRIED, serves=False)


@both_kinds
async def test_several_models_on_trial_do_not_touch_each_other(at: Forecast) -> None:
    found = await stored(on_trial(at), by(NEW, at, serves=False), by(OLD, at))
    assert found == row(at, OLD) | row(at, TRIED, serves=False) | row(at, NEW, serves=False)


@both_kinds
async def test_a_model_on_trial_that_is_served_at_last_has_one_row(at: Forecast) -> None:
    assert await stored(by(OLD, at), on_trial(at), by(TRIED, at)) == row(at, TRIED)


@both_kinds
@pytest.mark.parametrize("serves", [True, False], ids=["served", "on trial"])
async def test_a_row_from_before_models_were_told_apart_was_served(at: Forecast, serves: bool) -> None:
    bench = Workbench()
    await stored(by(OLD, at), bench=bench)
    rows = bench.tables.table(FAN_CHART_TABLES["backfill"]).rows
    legacy = from_row(rows.pop(f"{PLACES[at.kind]}/{OLD[:16]}"))
    rows[PLACES[at.kind]] = legacy.model_dump_json(exclude={"model_serves"}).encode()
    await bench.run(CALC, by(NEW, at, serves).to_arrow())
    own = {f"{PLACES[at.kind]}/{NEW[:16]}"}
    assert set(rows_of(bench)) == (own if serves else own | {PLACES[at.kind]})


async def test_places_that_begin_alike_are_not_the_same() -> None:
    near = [dataclasses.replace(SAMPLE, index=index) for index in (-3, -30, -33)]
    assert len(await stored(*(by(OLD, at) for at in near), by(NEW, near[0]))) == 3


def later(at: Forecast, rounds: int) -> Forecast:
    """The same slot of the ring, so many rounds later."""
    return dataclasses.replace(at, end_seconds=at.end_seconds + rounds * RING_SECONDS)


async def issued(*forecasts: Forecast) -> dict[str, int]:
    """After these forecasts: when each row's was issued, in rounds of the ring."""
    bench = Workbench()
    await stored(*forecasts, bench=bench)
    charts = map(from_row, rows_of(bench).values())
    return {
        chart.model_fingerprint: round((chart.issue_time.timestamp() - LIVE.end_seconds) / RING_SECONDS)
        for chart in charts
    }


async def test_an_old_chart_never_takes_the_place_of_a_newer_one_of_any_served_model() -> None:
    assert await issued(by(OLD, later(LIVE, 1)), by(NEW, LIVE)) == {OLD: 1}
    assert await issued(by(OLD, LIVE), by(NEW, later(LIVE, 1))) == {NEW: 1}
    assert await issued(on_trial(later(LIVE, 1)), on_trial(LIVE)) == {TRIED: 1}


async def test_a_trial_that_is_ahead_or_behind_hinders_nobody() -> None:
    assert await issued(on_trial(later(LIVE, 1)), by(OLD, LIVE)) == {TRIED: 1, OLD: 0}
    assert await issued(by(OLD, later(LIVE, 1)), on_trial(LIVE)) == {TRIED: 0, OLD: 1}


async def test_what_a_trial_left_behind_goes_a_round_of_the_ring_later() -> None:
    assert await issued(on_trial(LIVE), by(NEW, LIVE, serves=False), by(OLD, later(LIVE, 1))) == {OLD: 1}
    assert await issued(on_trial(later(LIVE, 1)), by(OLD, later(LIVE, 1))) == {TRIED: 1, OLD: 1}


@pytest.mark.parametrize("action", ["delete", "flush"])
async def test_what_is_deleted_goes_by_whichever_model(action: str) -> None:
    bench = Workbench()
    await stored(by(OLD, SAMPLE), on_trial(SAMPLE), by(OLD, LIVE), on_trial(LIVE), bench=bench)
    command = CacheCommand(action=action, command_id="c1", up_to_ms=NOW_MS, handle=HANDLE)  # type: ignore[arg-type]
    await bench.run(COMMANDS, command.to_json())
    left = {key for key in rows_of(bench) if ChartKey.parse(key)}
    assert left == set(row(LIVE, OLD) | row(LIVE, TRIED))


async def test_a_served_chart_that_is_restored_leaves_the_trial_alone() -> None:
    bench = Workbench()
    (value,) = of(FAN_CHARTS, await bench.run(CALC, by(OLD, SAMPLE).to_arrow()))
    await stored(on_trial(SAMPLE), by(NEW, SAMPLE), bench=bench)
    command = CacheCommand(action="restore", command_id="c1", up_to_ms=NOW_MS, chart=FanChart.from_json(value))
    await bench.run(COMMANDS, command.to_json())
    assert set(rows_of(bench)) == set(row(SAMPLE, OLD) | row(SAMPLE, TRIED))
