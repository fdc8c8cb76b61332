"""A subject begins anew: what came before is gone, what came after stays, however often anything is delivered."""

import datetime
import json

import pytest

from agents.core.rolling_window import RollingWindow
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError
from schemas.reading import ReadingOutcome
from schemas.tables import SUBJECTS_TABLE
from schemas.topics import CACHE_COMMANDS, LIVE, READING_OUTCOMES, READINGS
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from tests.kit.workbench import NOW_MS, Workbench, built, of

STEP = built("window", Settings(partitions=1))
RESET = {"key": b"ada", "headers": {"reset": b"1"}}
NOW = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)


def reading(minutes: float, glucose: float = 120.0) -> bytes:
    time = NOW + datetime.timedelta(minutes=minutes)
    return json.dumps({"subject_id": "ada", "time": time.isoformat(), "glucose": glucose, "unit": "mg/dL"}).encode()


async def publish(bench: Workbench, minutes: float, offset: int, ahead_ms: int = 0) -> ReadingOutcome:
    message = {"key": b"ada", "offset": offset, "timestamp_ms": NOW_MS + ahead_ms}
    (value,) = of(READING_OUTCOMES, await bench.run(STEP, reading(minutes), **message))
    return ReadingOutcome.from_json(value)


async def stuck(bench: Workbench) -> None:
    """A reading of next year, in a message that said next year: what earlier versions believed."""
    year_ms = 365 * 86_400_000
    assert (await publish(bench, year_ms / 60_000, 0, year_ms)).code == "warming_up"
    assert (await publish(bench, 0, 1)).code == "too_old"


async def test_a_subject_whom_a_wrong_clock_blocks_begins_anew() -> None:
    bench = Workbench()
    await stuck(bench)
    sends = await bench.run(STEP, None, **RESET, offset=2)
    (value,) = of(READING_OUTCOMES, sends)
    outcome = ReadingOutcome.from_json(value)
    assert (outcome.subject_id, outcome.status, outcome.time) == ("ada", "reset", NOW)
    (value,) = of(CACHE_COMMANDS, sends)
    command = CacheCommand.from_json(value)
    assert (command.action, command.series_key, command.up_to_ms) == ("reset", "ada", NOW_MS)
    assert {send.key for send in sends} == {b"ada"}
    assert (await publish(bench, 0, 3)).code == "warming_up"
    sends = [await bench.run(STEP, reading(5 * n), key=b"ada", offset=3 + n,
                             timestamp_ms=NOW_MS + 300_000 * n) for n in range(1, 97)]  # fmt: skip
    assert sum(bool(of(LIVE, each)) for each in sends) == 2


async def test_delivered_again_a_reset_takes_nothing_that_came_after_it() -> None:
    bench = Workbench()
    await stuck(bench)
    first = await bench.run(STEP, None, **RESET, offset=2)
    await publish(bench, 0, 3)
    rows = dict(bench.rows(SUBJECTS_TABLE))
    assert await bench.run(STEP, None, **RESET, offset=2) == first
    assert dict(bench.rows(SUBJECTS_TABLE)) == rows


async def test_readings_before_a_reset_change_nothing_when_they_are_delivered_again() -> None:
    bench = Workbench()
    await stuck(bench)
    await bench.run(STEP, None, **RESET, offset=2)
    await publish(bench, 0, 3)
    rows = dict(bench.rows(SUBJECTS_TABLE))
    again = await publish(bench, 365 * 1440, 0, 365 * 86_400_000)
    assert (again.status, again.code) == ("rejected", "reset")
    assert dict(bench.rows(SUBJECTS_TABLE)) == rows


async def test_a_crash_in_the_middle_leads_to_the_same_window() -> None:
    """The table kept the reset or lost it; everything from some message on is delivered again."""
    log = [(reading(365 * 1440), 0, 365 * 86_400_000), (None, 1, 0), (reading(-5), 2, 0), (reading(0), 3, 0)]

    async def deliver(bench: Workbench, value: bytes | None, offset: int, ahead_ms: int, apply: bool = True) -> None:
        headers = {} if value else {"reset": b"1"}
        message = {"key": b"ada", "offset": offset, "timestamp_ms": NOW_MS + ahead_ms, "headers": headers}
        await bench.run(STEP, value, apply=apply, **message)

    wanted = Workbench()
    for each in log:
        await deliver(wanted, *each)
    for reached in range(1, 5):
        for kept in (True, False):
            for again_from in range(reached):
                bench = Workbench()
                for number, each in enumerate(log[:reached]):
                    await deliver(bench, *each, apply=kept or number < again_from)
                for each in log[again_from:]:
                    await deliver(bench, *each)
                assert bench.rows(SUBJECTS_TABLE) == wanted.rows(SUBJECTS_TABLE), (reached, kept, again_from)


async def test_the_hours_before_a_reset_are_forgotten_with_its_readings() -> None:
    bench = Workbench()
    for number in range(30):  # 15 hours, of which the row keeps the last 12 one by one
        bench.tables.committed = number
        await publish(bench, 30 * number, number, 30 * number * 60_000)
    row = RollingWindow.from_bytes(bench.rows(SUBJECTS_TABLE)["ada"], 24)
    assert row.hours
    await publish(bench, 2000, 30, 2000 * 60_000)
    assert RollingWindow.from_bytes(bench.rows(SUBJECTS_TABLE)["ada"], 24).displaced
    await bench.run(STEP, None, **RESET, offset=31)
    await publish(bench, 2005, 32, 2005 * 60_000)
    after = RollingWindow.from_bytes(bench.rows(SUBJECTS_TABLE)["ada"], 24)
    assert (len(after.slots), after.hours, after.displaced) == (1, {}, [])


async def test_another_subject_is_not_touched() -> None:
    bench = Workbench()
    await publish(bench, 0, 0)
    await bench.run(STEP, None, key=b"eve", headers={"reset": b"1"}, offset=1)
    rows = [key.split("/")[0] for key in bench.rows(SUBJECTS_TABLE) if "seen" not in key]
    assert sorted(rows) == ["ada", "forgotten", "forgotten-since"]


async def test_a_reset_in_a_wrong_partition_is_sent_on() -> None:
    wrong = (partition_of(b"ada", 4) + 1) % 4
    (send,) = await Workbench(4).run(built("window"), None, **RESET, partition=wrong)
    assert (send.topic, send.key, send.value) == (READINGS, b"ada", None)
    assert send.headers == {"reset": b"1", "rerouted": b"%d" % NOW_MS}


@pytest.mark.parametrize("key", [None, b"", b"a b", b"\xff", b"../x"])
async def test_a_reset_of_nobody_is_a_dead_letter(key: bytes | None) -> None:
    with pytest.raises(MalformedRecordError, match="as its key"):
        await Workbench().run(STEP, None, key=key, headers={"reset": b"1"})


async def test_an_empty_message_alone_resets_nobody() -> None:
    with pytest.raises(MalformedRecordError):
        await Workbench().run(STEP, None, key=b"ada")
