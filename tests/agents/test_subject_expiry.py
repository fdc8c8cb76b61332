"""Who has long been silent is forgotten, the longest silent first; who is heard of stays."""

import datetime
import json

from agents.ingest.subject_expiry import MOST_AT_ONCE
from agents.work import Message, Send
from schemas.alert import AlertSettings
from schemas.arrival import TICK, TICK_KEY
from schemas.command import CacheCommand
from schemas.reading import ReadingOutcome
from schemas.tables import ALERTS_TABLE, DAYS_TABLE, SOURCES_TABLE, SUBJECTS_TABLE, WATCH_TABLE
from schemas.topics import ARRIVALS, CACHE_COMMANDS, DAY_MS, READING_OUTCOMES
from streams.settings import Settings
from tests.agents.test_calc import GLUCOSE, live_at
from tests.agents.test_subject_erased import TABLES, erase, naming
from tests.kit.workbench import NOW_MS, Workbench, built, of

KEPT = 30
WINDOW = built("window", Settings(partitions=1, subject_kept_days=KEPT))
CALC, WATCH = built("calc"), built("watch")
COMMANDS, SERIES_COMMANDS = built("chart_commands"), built("series_commands")


async def heard(
    bench: Workbench, subject_id: str, day: int, offset: int, *, apply: bool = True, **fields: object
) -> list[Send]:
    now_ms = NOW_MS + day * DAY_MS
    time = datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC).isoformat()
    value = json.dumps({"subject_id": subject_id, "time": time, "glucose": 120, "unit": "mg/dL"} | fields).encode()
    return await bench.run(
        WINDOW, value, key=subject_id.encode(), offset=offset, timestamp_ms=now_ms, apply=apply
    )  # fmt: skip


def known(bench: Workbench) -> set[str]:
    return {key for key in bench.rows(SUBJECTS_TABLE) if "/" not in key}


def forgotten(sends: list[Send]) -> list[str | None]:
    return [CacheCommand.from_json(value).series_key for value in of(CACHE_COMMANDS, sends)]


async def test_the_silent_go_with_the_reading_of_another_and_the_heard_stay() -> None:
    bench = Workbench()
    for offset, (subject_id, day) in enumerate([("ada", 0), ("bob", 0), ("bob", 1), ("eve", KEPT)]):
        assert forgotten(await heard(bench, subject_id, day, offset)) == []
    assert known(bench) == {"ada", "bob", "eve"}
    sends = await heard(bench, "eve", KEPT + 1, 10)
    assert (forgotten(sends), known(bench)) == (["ada"], {"bob", "eve"})
    assert [ReadingOutcome.from_json(value).subject_id for value in of(READING_OUTCOMES, sends)] == ["ada", "eve"]
    assert not any("ada" in key for key in bench.rows(SUBJECTS_TABLE))
    assert forgotten(await heard(bench, "eve", KEPT + 2, 11)) == ["bob"]


async def test_one_reading_lets_few_go_and_the_longest_silent_first() -> None:
    bench = Workbench()
    for number in range(5):
        await heard(bench, f"s{number}", number, number)
    gone = [forgotten(await heard(bench, "eve", 100, 10 + turn)) for turn in range(4)]
    assert gone == [["s0", "s1"], ["s2", "s3"], ["s4"], []]
    assert max(map(len, gone)) == MOST_AT_ONCE


async def test_a_row_a_day_is_all_that_it_costs() -> None:
    bench = Workbench()
    await heard(bench, "ada", 0, 0)
    rows = {key: row for key, row in bench.rows(SUBJECTS_TABLE).items() if "seen" in key}
    assert len(rows) == 2
    await heard(bench, "ada", 0, 1)
    assert {key: row for key, row in bench.rows(SUBJECTS_TABLE).items() if "seen" in key} == rows
    await heard(bench, "ada", 3, 2)
    assert len([key for key in bench.rows(SUBJECTS_TABLE) if "seen" in key]) == 2


async def test_a_crash_in_between_forgets_the_same_again() -> None:
    bench = Workbench()
    await heard(bench, "ada", 0, 0)
    lost = await heard(bench, "eve", KEPT + 1, 1, apply=False)
    assert forgotten(lost) == ["ada"]
    assert await heard(bench, "eve", KEPT + 1, 1) == lost
    value = json.dumps({"subject_id": "x", "time": "2024-03-09T16:00:00Z", "glucose": 120, "unit": "mg/dL"}).encode()
    late = Message(topic="t", key=b"x", value=value, offset=2, timestamp_ms=NOW_MS + 3 * KEPT * DAY_MS)
    assert (await bench.tables.run(*WINDOW, late)).sends_first, "the rows go when the command is confirmed"


async def tick(bench: Workbench, day: int, offset: int) -> list[Send]:
    at = {"key": TICK_KEY.encode(), "headers": {TICK: b"1"}, "timestamp_ms": NOW_MS + day * DAY_MS}
    return await bench.run(WINDOW, None, offset=offset, **at)


async def settled(bench: Workbench, sends: list[Send], day: int) -> None:
    """What the window step has sent reaches the other steps."""
    for arrival in of(ARRIVALS, sends):
        await bench.run(WATCH, arrival)
    for command in of(CACHE_COMMANDS, sends):
        await commanded(bench, command, day)


async def commanded(bench: Workbench, command: bytes, day: int) -> None:
    """Both roles read the commands."""
    for step in (SERIES_COMMANDS, COMMANDS):
        await bench.run(step, command, key=b"ada", timestamp_ms=NOW_MS + day * DAY_MS)


def settings_of(subject_id: str) -> bytes:
    early = AlertSettings(preset="early")
    command = CacheCommand(action="alerts", command_id="c", up_to_ms=0, series_key=subject_id, alert_settings=early)
    return command.to_json()


async def test_all_tables_forget_who_comes_back_begins_anew() -> None:
    bench = Workbench()
    await settled(bench, await heard(bench, "ada", 0, 0, device="arm"), 0)
    await commanded(bench, settings_of("ada"), 0)
    for step in range(100, 140):
        await bench.run(CALC, live_at(step, GLUCOSE))
    tables = {table for table, _ in naming(bench)}
    assert {SUBJECTS_TABLE, SOURCES_TABLE, DAYS_TABLE, WATCH_TABLE, ALERTS_TABLE} < tables
    await settled(bench, await heard(bench, "eve", KEPT + 1, 1), KEPT + 1)
    assert naming(bench) == []
    assert naming(bench, b"eve") != []
    assert forgotten(await heard(bench, "ada", KEPT + 1, 2)) == []
    assert known(bench) == {"ada", "eve"}


async def test_it_is_told_once_that_somebody_is_forgotten_and_in_nobody_elses_trace() -> None:
    bench = Workbench()
    await heard(bench, "ada", 0, 0)
    sends = await tick(bench, KEPT + 1, 1)
    assert await tick(bench, KEPT + 1, 2) == [send for send in sends if send.topic == ARRIVALS]
    (outcome,) = [ReadingOutcome.from_json(value) for value in of(READING_OUTCOMES, sends)]
    assert (outcome.subject_id, outcome.status, outcome.code) == ("ada", "erased", "expired")
    assert outcome.time == datetime.datetime.fromtimestamp(NOW_MS / 1000 + (KEPT + 1) * 86_400, datetime.UTC)
    assert outcome.reason is not None
    assert "30 days" in outcome.reason
    assert [key for send in sends if send.topic == READING_OUTCOMES for key in (send.key,)] == [b"ada"]


async def test_where_nobody_sends_any_more_time_itself_lets_the_silent_go() -> None:
    bench = Workbench()
    await settled(bench, await heard(bench, "ada", 0, 0), 0)
    await settled(bench, await tick(bench, KEPT, 1), KEPT)
    assert known(bench) == {"ada"}
    await settled(bench, await tick(bench, KEPT + 1, 2), KEPT + 1)
    assert {row for table in TABLES for row in bench.rows(table) if not row.startswith("gone")} == set()


async def test_settings_of_who_never_sends_a_reading_go_too() -> None:
    bench = Workbench()
    await commanded(bench, settings_of("ada"), 0)
    await settled(bench, await tick(bench, KEPT, 1), KEPT)
    assert naming(bench) != []
    await settled(bench, await tick(bench, KEPT + 1, 2), KEPT + 1)
    assert naming(bench) == []


async def test_settings_that_come_behind_the_order_to_erase_leave_no_name() -> None:
    bench = Workbench()
    await heard(bench, "ada", 0, 0)
    order = {"key": b"ada", "headers": {"erase": b"1"}, "timestamp_ms": NOW_MS}
    sends = await bench.run(WINDOW, None, offset=1, **order)
    await commanded(bench, settings_of("ada"), 0)  # was sent before, and is read after
    await settled(bench, sends, 0)
    assert naming(bench) == []


async def test_who_comes_back_behind_the_order_to_erase_is_still_heard_of() -> None:
    bench = Workbench()
    await heard(bench, "ada", 0, 0)
    sends = await bench.run(WINDOW, None, key=b"ada", offset=1, headers={"erase": b"1"}, timestamp_ms=NOW_MS)
    await heard(bench, "ada", 0, 2)
    await settled(bench, sends, 0)
    assert "ada/seen" in bench.rows(SUBJECTS_TABLE)


async def test_who_sent_only_what_was_rejected_is_forgotten_too() -> None:
    bench = Workbench()
    await settled(bench, await heard(bench, "ada", 0, 0, glucose=12), 0)
    await settled(bench, await heard(bench, "bob", 0, 1, unit="stone"), 0)
    assert known(bench) == set()
    assert naming(bench), "the watch knows of an error code"
    sends = await tick(bench, KEPT + 1, 2)
    assert sorted(map(str, forgotten(sends))) == ["ada", "bob"]
    await settled(bench, sends, KEPT + 1)
    assert naming(bench) == []


async def test_what_was_rejected_before_somebody_was_erased_brings_no_name_back() -> None:
    bench = Workbench()
    await heard(bench, "ada", 0, 0, glucose=700)
    await heard(bench, "ada", 0, 1, unit="stone")
    await erase(bench, 2)
    for offset, wrong in enumerate([{"glucose": 700}, {"unit": "stone"}]):
        sends = await heard(bench, "ada", 0, offset, **wrong)
        (outcome,) = [ReadingOutcome.from_json(value) for value in of(READING_OUTCOMES, sends)]
        assert (outcome.status, outcome.code) == ("rejected", "erased")
    assert naming(bench) == []


async def test_an_entry_of_an_earlier_day_lets_nobody_go_who_was_heard_of_since() -> None:
    bench = Workbench()
    await heard(bench, "ada", KEPT, 0)
    day = NOW_MS // DAY_MS
    bench.tables.table(SUBJECTS_TABLE).rows[f"seen-on/{day:07d}/ada"] = b"1"
    assert forgotten(await tick(bench, KEPT + 1, 1)) == []
    assert f"seen-on/{day:07d}/ada" not in bench.rows(SUBJECTS_TABLE)
    assert known(bench) == {"ada"}


async def test_who_is_called_as_the_order_of_days_goes_like_anybody() -> None:
    bench = Workbench()
    await heard(bench, "seen-on", 0, 0)
    assert forgotten(await tick(bench, KEPT + 1, 1)) == ["seen-on"]
    assert bench.rows(SUBJECTS_TABLE) == {}
