"""Whatever arrives and however often: one alert an episode, and a crash anywhere neither loses nor doubles one."""

import asyncio
import datetime
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.alert import Alert, AlertSettings, AlertState, ErrorChange, StaleChange
from schemas.arrival import Arrival
from schemas.tables import ALERTS_TABLE, WATCH_TABLE
from schemas.topics import ALERTS
from tests.kit.workbench import NOW_MS, Workbench, built, of

WATCH = built("watch")
NOW = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)
STEP = st.tuples(st.integers(1, 2) | st.integers(1, 30),
                 st.sampled_from(["reading", "reading", "sensor_error", "tick", "tick"]),
                 st.just(0) | st.integers(0, 14))  # fmt: skip
LIVES = st.lists(STEP, min_size=1, max_size=40)
QUICK = AlertSettings(stale_data=StaleChange(minutes=15), sensor_error=ErrorChange(readings=1))
Tables = dict[str, dict[str, bytes]]


def log_of(life: list[tuple[int, str, int]]) -> list[bytes]:
    """Arrivals as they come, each so many minutes after the one before, and so old when it came."""
    minute, found = 0, []
    for after, what, late in life:
        minute += after
        came = NOW + datetime.timedelta(minutes=minute)
        whose = {} if what == "tick" else {"subject_id": "ada", "time": came - datetime.timedelta(minutes=late)}
        found.append(Arrival(what=what, came_ms=round(came.timestamp() * 1000), **whose).to_json())  # type: ignore[arg-type]
    return found


def tables_of(bench: Workbench) -> Tables:
    return {name: dict(bench.rows(name)) for name in (WATCH_TABLE, ALERTS_TABLE)}


async def play(bench: Workbench, log: list[bytes]) -> tuple[list[list[bytes]], list[Tables]]:
    """What each arrival tells, and the tables after it."""
    told, after = [], []
    for arrival in log:
        told.append(of(ALERTS, await bench.run(WATCH, arrival)))
        after.append(tables_of(bench))
    return told, after


@settings(max_examples=80, deadline=None)
@given(LIVES, st.sampled_from([AlertSettings(), QUICK]), st.data())
def test_a_crash_anywhere_neither_loses_nor_doubles_an_alert(
    life: list[tuple[int, str, int]], wanted: AlertSettings, data: st.DataObject
) -> None:
    log, first = log_of(life), Workbench()
    first.tables.table(ALERTS_TABLE).rows["ada"] = AlertState(settings=wanted).to_row()
    told, after = asyncio.run(play(first, log))
    records = [Alert.from_json(value) for sends in told for value in sends]
    ids = Counter((record.alert_id, record.status) for record in records)
    assert set(ids.values()) <= {1}
    for kind in ("stale_data", "sensor_error"):
        statuses = [record.status for record in records if record.kind == kind]
        assert statuses == (["raised", "ended"] * len(statuses))[: len(statuses)]
    survived = data.draw(st.integers(0, len(log) - 1), label="the last write to survive")
    committed = data.draw(st.integers(0, survived), label="again from")
    bench = Workbench()
    for name, rows in after[survived].items():
        bench.tables.table(name).rows = dict(rows)
    again, last = asyncio.run(play(bench, log[committed:]))
    heard = {value for sends in told[: survived + 1] + again for value in sends}
    assert heard == {value for sends in told for value in sends}
    assert last[-1] == after[-1]
