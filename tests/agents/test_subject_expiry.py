"""Who has long been silent is forgotten, the longest silent first; who is heard of stays."""

import datetime
import json

from agents.ingest.subject_expiry import MOST_AT_ONCE
from agents.work import Message, Send
from schemas.command import CacheCommand
from schemas.tables import ALERTS_TABLE, FAN_CHART_TABLES, SCORES_TABLE, SUBJECTS_TABLE
from schemas.topics import CACHE_COMMANDS, DAY_MS, READING_OUTCOMES
from streams.settings import Settings
from tests.agents.test_calc import GLUCOSE, live_at
from tests.kit.workbench import NOW_MS, Workbench, built, of

KEPT = 30
WINDOW = built("window", Settings(partitions=1, subject_kept_days=KEPT))
CALC, COMMANDS = built("calc"), built("chart_commands")


async def heard(bench: Workbench, subject_id: str, day: int, offset: int, *, apply: bool = True) -> list[Send]:
    now_ms = NOW_MS + day * DAY_MS
    time = datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC).isoformat()
    value = json.dumps({"subject_id": subject_id, "time": time, "glucose": 120, "unit": "mg/dL"}).encode()
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
    assert len(of(READING_OUTCOMES, sends)) == 1
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


async def test_all_tables_forget_who_comes_back_begins_anew() -> None:
    bench = Workbench()
    await heard(bench, "ada", 0, 0)
    for step in range(100, 140):
        await bench.run(CALC, live_at(step, GLUCOSE))
    (command,) = of(CACHE_COMMANDS, await heard(bench, "eve", KEPT + 1, 1))
    await bench.run(COMMANDS, command, timestamp_ms=NOW_MS + (KEPT + 1) * DAY_MS)
    tables = (*FAN_CHART_TABLES.values(), SCORES_TABLE, ALERTS_TABLE)
    assert [key for table in tables for key in bench.rows(table) if "ada" in key] == []
    assert forgotten(await heard(bench, "ada", KEPT + 1, 2)) == []
    assert known(bench) == {"ada", "eve"}
