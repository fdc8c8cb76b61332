"""The days of a subject hold what its readings said, of so many days, whatever is delivered again."""

import datetime
import json

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MalformedRecordError
from schemas.glucose_day import GlucoseDay
from schemas.grid import STEPS_A_DAY
from schemas.tables import DAYS_TABLE, day_of
from streams.settings import Settings
from tests.kit.workbench import NOW_MS, Workbench, built

STEP = built("window", Settings(partitions=1, report_days=2))
NOW = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC).replace(hour=0, minute=0)
"""The begin of a day."""


def reading(minutes: float, glucose: float, zone_hours: int = 0) -> bytes:
    zone = datetime.timezone(datetime.timedelta(hours=zone_hours))
    time = (NOW + datetime.timedelta(minutes=minutes)).astimezone(zone)
    return json.dumps({"subject_id": "ada", "time": time.isoformat(), "glucose": glucose, "unit": "mg/dL"}).encode()


async def publish(bench: Workbench, minutes: float, offset: int, glucose: float = 120.0, **how: bool | int) -> None:
    zone_hours, apply = int(how.get("zone_hours", 0)), bool(how.get("apply", True))
    message = {"key": b"ada", "offset": offset, "timestamp_ms": NOW_MS + int(minutes * 60_000)}
    await bench.run(STEP, reading(minutes, glucose, zone_hours), apply=apply, **message)


def days(bench: Workbench) -> dict[int, GlucoseDay]:
    """By the day after NOW's."""
    first = int(NOW.timestamp()) // 86_400
    return {day_of(key) - first: GlucoseDay.from_bytes(row) for key, row in bench.rows(DAYS_TABLE).items()}


def known(bench: Workbench) -> dict[int, float]:
    """Glucose by slot after NOW."""
    return {
        day * STEPS_A_DAY + slot: centi / 100
        for day, row in days(bench).items()
        for slot, centi in enumerate(row.centi)
        if centi
    }


async def test_each_reading_lies_in_its_slot_and_corrections_take_its_place() -> None:
    bench = Workbench()
    for number, (minutes, glucose) in enumerate([(0, 100), (5, 105), (15, 115), (11, 111), (5, 99.5)]):
        await publish(bench, minutes, number, glucose)
    assert known(bench) == {0: 100, 1: 99.5, 2: 111, 3: 115}


async def test_days_outlive_the_window_and_go_after_the_days_of_the_setting() -> None:
    bench = Workbench()
    for number in range(5 * 24):
        await publish(bench, 60 * number, number, 100 + number)
    assert sorted(days(bench)) == [2, 3, 4], "two days and the one that is not over"
    assert known(bench) == {12 * number: 100 + number for number in range(2 * 24, 5 * 24)}


async def test_the_offset_is_that_of_the_days_last_reading() -> None:
    bench = Workbench()
    await publish(bench, 10, 0, zone_hours=1)
    await publish(bench, 20, 1, zone_hours=2)
    await publish(bench, 15, 2, zone_hours=1)
    assert days(bench)[0].zone_minutes == 120


@pytest.mark.parametrize("order", ["reset", "erase"])
async def test_an_order_takes_the_days_before_it_and_none_after_it(order: str) -> None:
    bench = Workbench()
    ordered_ms = NOW_MS + 31 * 3_600_000 + 5  # by the clock of a broker that is ahead of the next one
    command = {"key": b"ada", "headers": {order: b"1"}, "offset": 30, "timestamp_ms": ordered_ms}
    for number in range(30):
        await publish(bench, 60 * number, number)
    await bench.run(STEP, None, **command)
    assert bench.rows(DAYS_TABLE) == {}
    await publish(bench, 31 * 60, 31, 90)
    assert known(bench) == {31 * 12: 90}
    await bench.run(STEP, None, **command)
    assert known(bench) == {31 * 12: 90}
    assert all(day.began_ms > ordered_ms for day in days(bench).values()), (
        "or who reads of the order later would drop it"
    )


MESSAGES = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([80.0, 120.0])), min_size=1, max_size=12)


@hypothesis.settings(max_examples=40)
@given(MESSAGES, st.data())
async def test_what_is_delivered_again_leaves_the_same_days(log: list[tuple[int, float]], data: st.DataObject) -> None:
    """A crash: the last works' writes are lost or kept, and everything from some message on comes again."""
    wanted = Workbench()
    for number, (slot, glucose) in enumerate(log):
        await publish(wanted, 5 * slot, number, glucose)
    bench = Workbench()
    bench.tables.committed = 0
    reached = data.draw(st.integers(0, len(log)))
    lost_from, again_from = data.draw(st.integers(0, reached)), data.draw(st.integers(0, reached))
    again_from = min(lost_from, again_from)
    for number, (slot, glucose) in enumerate(log[:reached]):
        bench.tables.committed = 0
        await publish(bench, 5 * slot, number, glucose, apply=number < lost_from)
    for number, (slot, glucose) in enumerate(log[again_from:], again_from):
        bench.tables.committed = 0
        await publish(bench, 5 * slot, number, glucose)
    assert known(bench) == known(wanted)


async def test_a_day_that_a_crash_has_lost_is_there_with_the_next_reading() -> None:
    bench = Workbench()
    await publish(bench, 0, 0, 100)
    bench.tables.table(DAYS_TABLE).rows.clear()
    await publish(bench, 5, 1, 105)
    assert known(bench) == {0: 100, 1: 105}


@hypothesis.settings(max_examples=20)
@given(
    st.builds(
        GlucoseDay,
        st.integers(0, 2**62),
        st.integers(-840, 840),
        st.lists(st.just(0) | st.integers(2_000, 60_000), min_size=STEPS_A_DAY, max_size=STEPS_A_DAY).map(tuple),
    )
)
def test_a_row_is_read_as_it_was_written(day: GlucoseDay) -> None:
    assert GlucoseDay.from_bytes(day.to_bytes()) == day


@pytest.mark.parametrize(
    "row",
    [
        b"\1",
        GlucoseDay().to_bytes() + b"\0",
        b"\2" + GlucoseDay().to_bytes()[1:],
        GlucoseDay(centi=(1_999,) + (0,) * 287).to_bytes(),
        GlucoseDay(centi=(60_001,) + (0,) * 287).to_bytes(),
        GlucoseDay(zone_minutes=1440).to_bytes(),
    ],
)
def test_what_is_no_row_is_refused(row: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        GlucoseDay.from_bytes(row)
