"""An order of days ago, read again because the group was set back, or late: what began behind it stays."""

import dataclasses
import datetime
import json
from typing import Any

import pytest

from agents.calc.alert_rows import keep
from agents.core.rolling_window import RollingWindow
from agents.work import Message, Work
from schemas.alert import Alert, AlertSettings, AlertState, Episode, RecentAlert, RuleChange, Snooze
from schemas.command import CacheCommand
from schemas.glucose_day import GlucoseDay
from schemas.reading import ERASE, RESET, ReadingOutcome
from schemas.tables import ALERTS_TABLE, DAYS_TABLE, SOURCES_TABLE, SUBJECTS_TABLE
from schemas.topics import ARRIVALS, CACHE_COMMANDS, READING_OUTCOMES
from streams import topology
from streams.settings import Settings
from tests.kit.forecasts import LIVE as FORECAST
from tests.kit.workbench import NOW_MS, Built, Workbench, built, of

WINDOW, WATCH = built("window", Settings(partitions=1)), built("watch")
CALC, COMMANDS, SERIES = built("calc"), built("chart_commands"), built("series_commands")
NOW = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)
MINUTE_MS = 60_000
TABLES = tuple(dict.fromkeys(table for step in topology.STEPS for table in step.tables))


def rows(bench: Workbench) -> dict[str, dict[str, bytes]]:
    return {table: dict(bench.rows(table)) for table in TABLES}


async def deliver(bench: Workbench, offset: int, minute: float, **message: Any) -> None:
    """A message of ``cgm.readings``, and what it brings to the other steps."""
    message = {"key": b"ada", "value": None, "offset": offset, "topic": "cgm.readings"} | message
    sends = await bench.run(WINDOW, timestamp_ms=NOW_MS + round(minute * MINUTE_MS), **message)
    for arrival in of(ARRIVALS, sends):
        await bench.run(WATCH, arrival)
    for command in of(CACHE_COMMANDS, sends):
        for step in (COMMANDS, SERIES):
            await bench.run(step, command, timestamp_ms=NOW_MS + 4 * 1440 * MINUTE_MS)


def reading(minute: float) -> bytes:
    time = (NOW + datetime.timedelta(minutes=minute)).isoformat()
    document = {"subject_id": "ada", "time": time, "glucose": 120 + minute % 20, "unit": "mg/dL", "device": "arm"}
    return json.dumps(document).encode()


async def change(bench: Workbench, minute: float, action: str, **fields: Any) -> None:
    command = CacheCommand(action=action, command_id="c", up_to_ms=0, series_key="ada", **fields)  # type: ignore[arg-type]
    for step in (COMMANDS, SERIES):
        await bench.run(step, command.to_json(), timestamp_ms=NOW_MS + round(minute * MINUTE_MS))


@pytest.mark.parametrize("header", [ERASE, RESET])
async def test_read_again_after_days_an_order_changes_nothing(header: str) -> None:
    bench = Workbench()
    log: list[tuple[float, dict[str, Any]]] = [(-60, {"value": reading(-60)}), (0, {"headers": {header: b"1"}})]
    log += [(minute, {"value": reading(minute)}) for minute in range(5, 2 * 1440, 40)]
    for offset, (minute, message) in enumerate(log[:2]):
        await deliver(bench, offset, minute, **message)
    low = AlertSettings(low=RuleChange(threshold_mgdl=80))
    await change(bench, 1, "alerts", alert_settings=low)
    await change(bench, 1, "snooze", snooze=Snooze(direction="high", until_ms=NOW_MS + 2**40))
    for offset, (minute, message) in enumerate(log[2:], 2):
        bench.tables.committed = offset
        await deliver(bench, offset, minute, **message)
    live = dataclasses.replace(FORECAST, began_ms=NOW_MS + 600 * MINUTE_MS)
    await bench.run(CALC, live.to_arrow(), timestamp_ms=NOW_MS + 600 * MINUTE_MS)
    before = rows(bench)
    assert RollingWindow.from_bytes(before[SUBJECTS_TABLE]["ada"], 24).hours
    assert all(key in before[table] for table, key in ((SOURCES_TABLE, "ada"), ("scores", "ada"), ("watch", "ada")))
    assert len(before[DAYS_TABLE]) == 3
    state = AlertState.from_json(before[ALERTS_TABLE]["ada"])
    assert (state.settings, list(state.snoozed_until_ms)) == (low, ["high"])
    await deliver(bench, 1, 0, **log[1][1])
    assert rows(bench) == before, "the order again"
    for offset, (minute, message) in enumerate(log):
        await deliver(bench, offset, minute, **message)
    assert {**rows(bench), SUBJECTS_TABLE: {}} == {**before, SUBJECTS_TABLE: {}}, "and all that followed it"


@pytest.mark.parametrize("header", [ERASE, RESET])
async def test_again_an_order_repeats_what_a_crash_lost_of_it(header: str) -> None:
    """The marker was written, and the tables beside it were not."""
    bench = Workbench()
    await deliver(bench, 0, -60, value=reading(-60))
    lost = {table: dict(bench.rows(table)) for table in (DAYS_TABLE, SOURCES_TABLE)}
    assert all(lost.values())
    order: dict[str, Any] = {"headers": {header: b"1"}}
    await deliver(bench, 1, 0, **order)
    assert (bench.rows(DAYS_TABLE), bench.rows(SOURCES_TABLE)) == ({}, {})
    for table, of_before in lost.items():
        bench.tables.table(table).rows |= of_before
    await deliver(bench, 1, 0, **order)
    assert (bench.rows(DAYS_TABLE), bench.rows(SOURCES_TABLE)) == ({}, {})
    for table, of_before in lost.items():
        bench.tables.table(table).rows |= of_before
    await deliver(bench, 2, -1, value=reading(-1))  # by a broker whose clock is behind
    bench.tables.table(DAYS_TABLE).rows |= lost[DAYS_TABLE]
    await deliver(bench, 1, 0, **order)
    (day,) = bench.rows(DAYS_TABLE).values()
    assert sum(1 for centi in GlucoseDay.from_bytes(day).centi if centi) == 1


async def test_another_order_at_an_offset_that_was_given_out_again_is_done() -> None:
    """By a Kafka that has lost the end of its log."""
    bench = Workbench()
    for minute, header in enumerate((RESET, ERASE)):
        await deliver(bench, 2, minute, headers={header: b"1"})
    sends = await bench.run(WINDOW, reading(-60), key=b"ada", offset=1, timestamp_ms=NOW_MS)
    assert [ReadingOutcome.from_json(value).code for value in of(READING_OUTCOMES, sends)] == ["erased"]


async def test_the_marker_is_written_behind_what_it_stands_for() -> None:
    """A crash keeps the first of a table's writes: else it would say that something was done that is not."""
    bench = Workbench()
    await deliver(bench, 0, -60, value=reading(-60))
    message = Message(
        topic="cgm.readings", key=b"ada", value=None, offset=1, headers={ERASE: b"1"}, timestamp_ms=NOW_MS
    )
    work = await bench.tables.run(*WINDOW, message)
    written = [key.partition("/")[0] for table, key in work.writes if table == SUBJECTS_TABLE]
    assert written[-2:] == ["forgotten", "forgotten-since"]
    assert written.index("ada") < written.index("forgotten")


async def test_who_was_heard_of_since_is_still_known_to_have_been() -> None:
    """Or what came since would never go, however long the subject is silent."""
    erase = CacheCommand(action="reset", command_id="r", up_to_ms=NOW_MS, series_key="ada", erases=True).to_json()
    for days, seen in ((0, 0), (2, 1)):
        bench = Workbench()
        await change(bench, days * 1440, "alerts")
        await bench.run(SERIES, erase, timestamp_ms=NOW_MS + 3 * 1440 * MINUTE_MS)
        assert [key for key in bench.rows(SUBJECTS_TABLE) if key.startswith("ada/")] == ["ada/seen"] * seen


ALERT = RecentAlert(alert_id="a" * 64, kind="low", status="raised", slot=1)
STALE = RecentAlert(alert_id="b" * 64, kind="stale_data", status="raised", slot=2)


def told(state: AlertState, began_ms: int, *now: RecentAlert) -> Built:
    """A step that keeps what a forecast or the watch told now."""
    records = [
        Alert(
            alert_id=each.alert_id, status="raised", kind=each.kind, subject_id="ada", threshold_mgdl=None,
            probability=None, horizon_minutes=None, glucose_mgdl=None, issue_time=NOW, reason="",
        )
        for each in now
    ]  # fmt: skip

    async def step(work: Work) -> None:
        keep(work, "ada", state, began_ms, records)

    return Built(topology.step_of("watch"), step)


@pytest.mark.parametrize("erases", [False, True])
async def test_an_order_that_is_read_behind_what_followed_it_takes_what_was_before_alone(erases: bool) -> None:
    """Slots of next year go too: by them no forecast would be judged for so long."""
    bench = Workbench()
    for minute, threshold in ((-30, 90.0), (10, 80.0)):
        if minute < 0 or erases:
            settings = AlertSettings(low=RuleChange(threshold_mgdl=threshold))
            await change(bench, minute, "alerts", alert_settings=settings)
    await change(bench, -20, "snooze", snooze=Snooze(direction="low", until_ms=NOW_MS + 2**40))
    await change(bench, 11, "snooze", snooze=Snooze(direction="data", until_ms=NOW_MS + 2**40))
    state = AlertState.from_json(bench.rows(ALERTS_TABLE)["ada"]).model_copy(
        update={
            "slot": 2**29, "since": 2**29, "judged_ms": NOW_MS - 1, "recent": (ALERT,), "late": (2**29,),
            "episodes": {"low": Episode(alert_id=ALERT.alert_id, slot=1)}, "raised": {"low": 1},
        }
    )  # fmt: skip
    await bench.run(told(state, NOW_MS - 1, ALERT), b"")
    state = AlertState.from_json(bench.rows(ALERTS_TABLE)["ada"])
    assert state.recent[0].began_ms == NOW_MS - 1
    episodes = {**state.episodes, "stale_data": Episode(alert_id=STALE.alert_id, slot=2)}
    state = state.model_copy(update={"recent": (*state.recent, STALE), "episodes": episodes})
    await bench.run(told(state, NOW_MS + 21 * MINUTE_MS, STALE), b"")
    order = CacheCommand(action="reset", command_id="r", up_to_ms=NOW_MS, series_key="ada", erases=erases)
    for _ in range(2):
        await bench.run(COMMANDS, order.to_json(), timestamp_ms=NOW_MS + 1)
        state = AlertState.from_json(bench.rows(ALERTS_TABLE)["ada"])
        assert [each.alert_id for each in state.recent] == [STALE.alert_id]
        assert list(state.episodes) == ["stale_data"]
        assert (state.slot, state.since, state.late, state.raised) == (None, None, (), {})
        assert state.settings.low.threshold_mgdl == (80 if erases else 90)
        assert sorted(state.snoozed_until_ms) == (["data"] if erases else ["data", "low"])
        assert sorted(state.snoozed_from_ms) == sorted(state.snoozed_ms) == sorted(state.snoozed_until_ms)
        assert state.began_ms > NOW_MS, "or a reader that knows the order would not show the row"
    later = CacheCommand(action="reset", command_id="r", up_to_ms=NOW_MS + 2**35, series_key="ada", erases=True)
    await bench.run(COMMANDS, later.to_json(), timestamp_ms=NOW_MS + 2**35)
    assert bench.rows(ALERTS_TABLE) == {}


async def test_rows_of_before_that_do_not_say_when_go_as_a_whole() -> None:
    """By when they began, and with an order to erase in any case."""
    old = AlertState(began_ms=NOW_MS, slot=5, recent=(ALERT,), settings=AlertSettings(preset="early"))
    for up_to_ms, erases, expected in ((NOW_MS - 1, False, old), (NOW_MS, False, None), (NOW_MS, True, None)):
        bench = Workbench()
        bench.tables.table(ALERTS_TABLE).rows["ada"] = old.to_row()
        order = CacheCommand(action="reset", command_id="r", up_to_ms=up_to_ms, series_key="ada", erases=erases)
        await bench.run(COMMANDS, order.to_json(), timestamp_ms=NOW_MS)
        row = bench.rows(ALERTS_TABLE).get("ada")
        if erases:
            assert row is None
        else:
            wanted = expected or AlertState(settings=old.settings, began_ms=up_to_ms)
            assert row == wanted.to_row()
