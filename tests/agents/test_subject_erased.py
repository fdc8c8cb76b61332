"""A subject is erased: no table knows its name any more, and nothing that was on its way brings it back."""

import dataclasses
import datetime
import json

import pytest

from agents.ingest.subject_reset import MARKERS_KEPT_MS
from schemas.command import CacheCommand
from schemas.outcome import RequestOutcome
from schemas.reading import ReadingOutcome
from schemas.tables import SERIES_TABLE, subject_of_row
from schemas.topics import CACHE_COMMANDS, FAN_CHARTS, LIVE, READING_OUTCOMES, READINGS, REQUEST_OUTCOMES
from streams import topology
from streams.settings import Settings
from tests.kit.forecasts import LIVE as FORECAST
from tests.kit.workbench import NOW_MS, Workbench, built, of

WINDOW, CALC, COMMANDS = built("window", Settings(partitions=1)), built("calc"), built("chart_commands")
ERASE, RESET = {"erase": b"1"}, {"reset": b"1"}
NOW = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)
TABLES = tuple(dict.fromkeys(table for step in topology.STEPS for table in step.tables))


def reading(minutes: float, subject: str = "ada") -> bytes:
    time = NOW + datetime.timedelta(minutes=minutes)
    return json.dumps({"subject_id": subject, "time": time.isoformat(), "glucose": 120, "unit": "mg/dL"}).encode()


async def publish(bench: Workbench, minutes: float, offset: int, **message: object) -> ReadingOutcome:
    fields = {"key": b"ada", "offset": offset, "timestamp_ms": NOW_MS} | message
    (value,) = of(READING_OUTCOMES, await bench.run(WINDOW, reading(minutes), **fields))
    return ReadingOutcome.from_json(value)


async def erase(bench: Workbench, offset: int, headers: dict[str, bytes] = ERASE, ahead_ms: int = 0) -> ReadingOutcome:
    """As the broker brings it: the order to the window step, and its command to the step of the charts."""
    at = {"key": b"ada", "timestamp_ms": NOW_MS + ahead_ms}
    sends = await bench.run(WINDOW, None, offset=offset, headers=headers, **at)
    (command,) = of(CACHE_COMMANDS, sends)
    await bench.run(COMMANDS, command, **at)
    (value,) = of(READING_OUTCOMES, sends)
    return ReadingOutcome.from_json(value)


def naming(bench: Workbench, name: bytes = b"ada") -> list[tuple[str, str]]:
    """Rows of any table that hold the name, in key or value."""
    return [(t, key) for t in TABLES for key, value in bench.rows(t).items() if name in key.encode() or name in value]


async def lived(bench: Workbench) -> None:
    """Readings of two people, a forecast of each, and a reset of the one in question."""
    await erase(bench, 0, RESET)
    for number in range(1, 4):
        await publish(bench, 5 * number - 60, number)
    await bench.run(WINDOW, reading(-60, "eve"), key=b"eve", offset=4)
    for subject in ("ada", "eve"):
        forecast = dataclasses.replace(FORECAST, series_key=subject, subject_id=subject, began_ms=NOW_MS)
        await bench.run(CALC, dataclasses.replace(forecast, began_ms=NOW_MS + 1).to_arrow())


async def test_files_are_written_anew_of_tables_that_held_who_is_erased_and_for_no_reset() -> None:
    bench = Workbench()
    await lived(bench)
    assert bench.erased == set()
    held = {table for table, _ in naming(bench)}
    assert held
    await erase(bench, 9)
    assert held <= bench.erased


@pytest.mark.parametrize("action", ["delete", "flush", "flush_owner"])
async def test_files_are_written_anew_of_what_is_deleted_by_hand(action: str) -> None:
    bench, digest = Workbench(), "a" * 64
    command = CacheCommand.from_json(json.dumps({
        "action": action, "command_id": "c", "epoch_ms": 1, "series_key": "s", "handle": digest, "owner": digest,
    }).encode())  # fmt: skip
    for step in (built("series_commands"), COMMANDS):
        await bench.run(step, command.to_json(), key=b"s")
    assert SERIES_TABLE in bench.erased


@pytest.mark.parametrize("earlier", [[], [RESET], [ERASE]])
async def test_no_table_knows_the_name_any_more(earlier: list[dict[str, bytes]]) -> None:
    bench = Workbench()
    await lived(bench)
    assert naming(bench), "the search finds nothing"
    assert {subject_of_row(table, key) for table, key in naming(bench)} == {"ada"}, "an export has all of them"
    others = naming(bench, b"eve")
    for number, headers in enumerate(earlier):
        await erase(bench, 5 + number, headers, ahead_ms=1 + number)
    outcome = await erase(bench, 9, ahead_ms=9)
    assert (outcome.subject_id, outcome.status) == ("ada", "erased")
    assert "expire" in (outcome.reason or "")
    assert naming(bench) == []
    assert naming(bench, b"eve") == others
    assert others


async def test_what_was_on_its_way_does_not_bring_a_subject_back() -> None:
    bench = Workbench()
    await lived(bench)
    await erase(bench, 9, ahead_ms=9)
    for offset in (3, 8):  # delivered again, and delivered late
        outcome = await publish(bench, 0, offset)
        assert (outcome.status, outcome.code) == ("rejected", "erased")
    late = dataclasses.replace(FORECAST, series_key="ada", subject_id="ada", began_ms=NOW_MS + 9)
    sends = await bench.run(CALC, late.to_arrow(), timestamp_ms=NOW_MS + 10)
    (value,) = of(REQUEST_OUTCOMES, sends)
    assert RequestOutcome.from_json(value).status == "dropped"
    assert not of(FAN_CHARTS, sends)
    assert naming(bench) == []


async def test_a_reading_that_lay_in_another_partition_does_not_bring_a_subject_back() -> None:
    """It is sent on, and so comes after the order, with a later offset."""
    bench = Workbench()
    (sent_on,) = await bench.run(WINDOW, reading(0), key=b"wrong", offset=77, timestamp_ms=NOW_MS + 8)
    assert (sent_on.topic, sent_on.key) == (READINGS, b"ada")
    await erase(bench, 9, ahead_ms=9)
    outcome = await publish(bench, 0, 10, headers=sent_on.headers, timestamp_ms=NOW_MS + 20)
    assert (outcome.status, outcome.code) == ("rejected", "erased")
    assert naming(bench) == []
    for forged in (b"", b"1", b"\xff", b"9" * 5000):
        assert await publish(bench, 0, 11, headers={"rerouted": forged}, timestamp_ms=NOW_MS + 21)


async def test_who_is_called_as_the_order_of_markers_is_in_nobodys_way() -> None:
    bench = Workbench()
    await bench.run(WINDOW, reading(0, "forgotten-since"), key=b"forgotten-since", offset=1)
    assert (await erase(bench, 2, ahead_ms=9)).status == "erased"
    assert naming(bench, b"forgotten-since")


async def test_who_is_published_again_begins_anew() -> None:
    bench = Workbench()
    await erase(bench, 9)
    assert (await publish(bench, 0, 10)).code == "warming_up"
    assert naming(bench)


async def test_delivered_again_the_order_takes_nothing_that_came_after_it() -> None:
    bench = Workbench()
    await lived(bench)
    first = await erase(bench, 9, ahead_ms=9)
    await publish(bench, 0, 10, timestamp_ms=NOW_MS + 20)
    rows = {table: dict(bench.rows(table)) for table in TABLES}
    assert await erase(bench, 9, ahead_ms=9) == first
    assert {table: dict(bench.rows(table)) for table in TABLES} == rows


async def test_a_marker_goes_when_no_reading_from_before_it_can_be_left() -> None:
    bench = Workbench()
    await erase(bench, 1)
    rows = dict(bench.rows("subjects"))
    assert len(rows) == 2
    other = {"key": b"eve", "headers": ERASE}
    await bench.run(WINDOW, None, offset=2, timestamp_ms=NOW_MS + MARKERS_KEPT_MS - 1, **other)
    assert set(rows) <= set(bench.rows("subjects"))
    await bench.run(WINDOW, None, offset=3, timestamp_ms=NOW_MS + MARKERS_KEPT_MS + 1, **other)
    assert not set(rows) & set(bench.rows("subjects"))
    assert len(bench.rows("subjects")) == 2, "the later of one subject takes the place of the earlier"
    assert not of(LIVE, bench.sent)
