"""Markers of what was deleted never lie ahead of the command, and what a wrong clock stored can be deleted."""

import dataclasses

import pytest

from agents.work import CLOCKS_DIFFER_MS
from schemas.command import CacheCommand
from schemas.fan_chart import FanChart
from schemas.outcome import RequestOutcome
from schemas.tables import FAN_CHART_TABLES
from schemas.topics import FAN_CHARTS, REQUEST_OUTCOMES
from tests.kit.forecasts import LIVE
from tests.kit.workbench import NOW_MS, Workbench, built, of

CALC, COMMANDS = built("calc"), built("chart_commands")
HANDLE = "e" * 64
YEAR_MS = 365 * 86_400_000
SAMPLE = dataclasses.replace(
    LIVE, kind="sample", series_key="tail", subject_id=None, handle=HANDLE, index=-3, began_ms=NOW_MS
)


def command(action: str, up_to_ms: int, **fields: object) -> bytes:
    return CacheCommand(action=action, command_id="c1", up_to_ms=up_to_ms, **fields).to_json()  # type: ignore[arg-type]


def charts(bench: Workbench) -> set[str]:
    return {key for key in bench.rows(FAN_CHART_TABLES["backfill"]) if not key.startswith("gone")}


@pytest.mark.parametrize("action", ["delete", "flush"])
async def test_a_command_of_the_future_rejects_nothing_that_comes_later(action: str) -> None:
    bench = Workbench()
    await bench.run(CALC, SAMPLE.to_arrow())
    await bench.run(COMMANDS, command(action, NOW_MS + YEAR_MS, handle=HANDLE))
    assert charts(bench) == set()
    later = dataclasses.replace(SAMPLE, began_ms=NOW_MS + 1)
    assert of(FAN_CHARTS, await bench.run(CALC, later.to_arrow()))
    assert not of(FAN_CHARTS, await bench.run(CALC, SAMPLE.to_arrow())), "it was under way when the command came"


@pytest.mark.parametrize("action", ["delete", "flush"])
async def test_delivered_again_a_command_of_the_future_takes_nothing_that_came_since(action: str) -> None:
    bench = Workbench()
    later = dataclasses.replace(SAMPLE, began_ms=NOW_MS + CLOCKS_DIFFER_MS)
    value = command(action, NOW_MS + CLOCKS_DIFFER_MS - 1, handle=HANDLE)
    await bench.run(COMMANDS, value)
    await bench.run(CALC, later.to_arrow())
    before = charts(bench)
    await bench.run(COMMANDS, value)
    assert charts(bench) == before


@pytest.mark.parametrize("action", ["delete", "flush"])
async def test_what_a_wrong_clock_stored_can_be_deleted(action: str) -> None:
    bench = Workbench()
    await bench.run(CALC, dataclasses.replace(SAMPLE, began_ms=NOW_MS + YEAR_MS).to_arrow())
    assert charts(bench)
    await bench.run(COMMANDS, command(action, NOW_MS, handle=HANDLE))
    assert charts(bench) == set()


@pytest.mark.parametrize(("action", "marker"), [("delete", f"gone/{HANDLE}"), ("flush", "gone/*")])
async def test_a_marker_that_lies_ahead_gives_way_to_the_next(action: str, marker: str) -> None:
    bench = Workbench()
    bench.tables.table(FAN_CHART_TABLES["backfill"]).rows[marker] = b'{"epoch_ms": %d}' % (NOW_MS + YEAR_MS)
    later = dataclasses.replace(SAMPLE, began_ms=NOW_MS + 1)
    assert not of(FAN_CHARTS, await bench.run(CALC, later.to_arrow()))
    await bench.run(COMMANDS, command(action, NOW_MS, handle=HANDLE))
    assert of(FAN_CHARTS, await bench.run(CALC, later.to_arrow()))


async def test_a_reset_removes_the_forecasts_of_one_subject_and_drops_what_is_under_way() -> None:
    bench = Workbench()
    live = dataclasses.replace(LIVE, began_ms=NOW_MS)
    other = dataclasses.replace(live, series_key="eve", subject_id="eve")
    for forecast in (live, other, SAMPLE):
        await bench.run(CALC, forecast.to_arrow())
    await bench.run(COMMANDS, command("reset", NOW_MS, series_key="ada"))
    assert sorted(key.split("/")[:2] for key in charts(bench)) == [["handle", HANDLE], ["subject", "eve"]]
    (value,) = of(REQUEST_OUTCOMES, await bench.run(CALC, live.to_arrow()))
    assert RequestOutcome.from_json(value).status == "dropped"
    for forecast in (other, SAMPLE, dataclasses.replace(live, began_ms=NOW_MS + 1)):
        (value,) = of(FAN_CHARTS, await bench.run(CALC, forecast.to_arrow()))
        assert FanChart.from_json(value).series_key == forecast.series_key


async def test_a_flush_of_handles_does_not_touch_subjects() -> None:
    bench = Workbench()
    await bench.run(COMMANDS, command("flush", NOW_MS))
    assert of(FAN_CHARTS, await bench.run(CALC, dataclasses.replace(LIVE, began_ms=NOW_MS).to_arrow()))
