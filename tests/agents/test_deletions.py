"""Markers of what was deleted never lie ahead of the command, and what a wrong clock stored can be deleted."""

import dataclasses

import pytest

from agents.work import CLOCKS_DIFFER_MS
from schemas.command import CacheCommand
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import head_of
from schemas.outcome import RequestOutcome
from schemas.tables import ALERTS_TABLE, FAN_CHART_TABLES, SCORES_TABLE
from schemas.topics import FAN_CHARTS, REQUEST_OUTCOMES
from tests.kit.forecasts import LIVE
from tests.kit.workbench import NOW_MS, Workbench, built, of

CALC, COMMANDS = built("calc"), built("chart_commands")
HANDLE = "e" * 64
YEAR_MS = 365 * 86_400_000
STORED = (*FAN_CHART_TABLES.values(), SCORES_TABLE, ALERTS_TABLE)
SAMPLE = dataclasses.replace(
    LIVE, kind="sample", series_key="tail", subject_id=None, handle=HANDLE, index=-3, began_ms=NOW_MS
)


def command(action: str, up_to_ms: int, **fields: object) -> bytes:
    return CacheCommand(action=action, command_id="c1", up_to_ms=up_to_ms, **fields).to_json()  # type: ignore[arg-type]


def charts_of(bench: Workbench, table: str) -> dict[str, bytes]:
    return {key: row for key, row in bench.rows(table).items() if not key.startswith("gone")}


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


@pytest.mark.parametrize("action", ["delete", "flush", "reset"])
async def test_read_late_or_again_a_command_takes_nothing_that_began_long_after_it(action: str) -> None:
    """Forecasts and commands have no order between them, and clocks differ by ten minutes at most."""
    value = command(action, NOW_MS, **({"series_key": "ada"} if action == "reset" else {"handle": HANDLE}))
    for after_ms in (1, 11 * 60_000, 9 * 3_600_000):
        bench = Workbench()
        forecast = dataclasses.replace(LIVE if action == "reset" else SAMPLE, began_ms=NOW_MS + after_ms)
        await bench.run(CALC, forecast.to_arrow(), timestamp_ms=NOW_MS + after_ms)
        before = [(table, charts_of(bench, table)) for table in STORED]
        assert any(rows for _, rows in before)
        for time_ms in (NOW_MS, NOW_MS + 4 * 86_400_000):  # an order sends it anew when it is delivered again
            await bench.run(COMMANDS, value, timestamp_ms=time_ms)
            assert [(table, charts_of(bench, table)) for table in STORED] == before, after_ms


async def test_what_says_that_it_began_in_the_future_began_with_its_message() -> None:
    bench = Workbench()
    await bench.run(CALC, dataclasses.replace(SAMPLE, began_ms=NOW_MS + YEAR_MS).to_arrow())
    (chart,) = of(FAN_CHARTS, bench.sent)
    restored = FanChart.from_json(chart).model_copy(update={"began_ms": NOW_MS + YEAR_MS, "handle": "f" * 64})
    await bench.run(COMMANDS, command("restore", 0, chart=restored))
    tables = FAN_CHART_TABLES.values()
    rows = [row for table in tables for key, row in bench.rows(table).items() if not key.startswith("gone")]
    assert [head_of(row).began_ms for row in rows] == [NOW_MS] * 2


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
