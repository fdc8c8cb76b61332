"""Files whose dates read two ways: day and month are those that all rows of the file tell together."""

import datetime
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest

from agents.core.local_time import wall_clock, zone
from agents.ingest.files.unified_file import Rules, UnifiedFile, to_unified_csv, unify_file
from tests.kit import samples
from tests.kit.samples import STEP, Rows

DAY = datetime.timedelta(days=1)
AMERICAN, AUSTRALIAN = "%m/%d/%Y,%I:%M:%S %p", "%d/%m/%Y,%I:%M:%S %p"


def libre(rows: Rows) -> bytes:
    return samples.libre(rows, date="%m-%d-%Y")


def american(rows: Rows) -> bytes:
    return samples.nightscout_csv(rows, AMERICAN)


def australian(rows: Rows) -> bytes:
    return samples.nightscout_csv(rows, AUSTRALIAN)


AMBIGUOUS = [(libre, "America/New_York"), (american, "America/New_York"), (australian, "Australia/Sydney")]
of_each = pytest.mark.parametrize(("vendor", "timezone"), AMBIGUOUS, ids=["libre", "american", "australian"])
CHANGES = {
    "America/New_York": datetime.datetime(2026, 11, 1, 6, tzinfo=datetime.UTC),
    "Australia/Sydney": datetime.datetime(2026, 4, 4, 16, tzinfo=datetime.UTC),
}


def measured(start: datetime.datetime, days: int, timezone: str) -> Rows:
    """A reading every five minutes, as the clock of a zone shows them."""
    rows = samples.glucose_rows(days * 288, start)
    return [(time.astimezone(ZoneInfo(timezone)).replace(tzinfo=None), value) for time, value in rows]


def read(raw: bytes, timezone: str) -> UnifiedFile:
    return unify_file(raw, timezone, Rules())


def end_of(found: UnifiedFile) -> datetime.datetime:
    end = wall_clock(found.start_seconds) + (len(found.centi) - 1) * STEP
    return end.replace(tzinfo=zone(found.timezone)).astimezone(datetime.UTC)


@of_each
def test_a_part_after_a_change_of_the_clock_has_the_dates_of_its_file(
    vendor: Callable[[Rows], bytes], timezone: str
) -> None:  # fmt: skip
    start = CHANGES[timezone] - 8 * DAY
    rows = measured(start, 14, timezone)  # the part after the change: in the first days of a month
    found = read(vendor(rows), timezone)
    assert end_of(found) == start + 14 * DAY - STEP
    assert found.centi == [round(value * 100) for _, value in rows[-217:]]
    assert not found.warnings.has_warnings


@of_each
@pytest.mark.parametrize("newest_first", [False, True])
def test_each_of_two_sensors_has_the_dates_of_its_file(
    vendor: Callable[[Rows], bytes], timezone: str, newest_first: bool
) -> None:
    start = datetime.datetime(2026, 5, 20, tzinfo=datetime.UTC)
    old, new = measured(start, 14, timezone), measured(start + 14 * DAY - 72 * STEP, 5, timezone)
    head, *one = vendor(old).splitlines(keepends=True)
    names, *one = one
    other = [
        line.replace(b"ABC-1", b"ABC-2").replace(b"xDrip", b"Loop")
        for line in vendor([(time, value + 70) for time, value in new]).splitlines(keepends=True)[2:]
    ]
    lines = [*one, *other][:: -1 if newest_first else 1]
    found = read(b"".join([head, names, *lines]), timezone)
    assert end_of(found) == start + 19 * DAY - 73 * STEP
    assert [message.split(":")[0] for message in found.warnings.messages] == ["SOURCES"]


@of_each
def test_a_first_row_that_reads_two_ways_is_read_as_the_others_can_be(
    vendor: Callable[[Rows], bytes], timezone: str
) -> None:  # fmt: skip
    start = datetime.datetime(2026, 5, 5, tzinfo=datetime.UTC)
    rows = measured(start, 14, timezone)
    raw = vendor(rows)
    assert end_of(read(raw, timezone)) == start + 14 * DAY - STEP
    converted = to_unified_csv(raw)
    assert converted.text.splitlines()[1].split(",")[1] == f"{rows[0][0]:%Y-%m-%dT%H:%M:%S}.000"
    assert end_of(read(converted.text.encode(), timezone)) == start + 14 * DAY - STEP


def test_treatments_tell_the_dates_of_entries_too() -> None:
    start = CHANGES["Australia/Sydney"] - 2 * DAY
    raw = australian(measured(start, 5, "Australia/Sydney"))
    treatments = (
        b"\n# TREATMENTS\nDate,Time,Event Type,Insulin (U),Carbs (g),Notes,ID\n25/03/2026,8:00:00 am,Bolus,2,,,1\n"
    )
    found = read(raw + treatments, "Australia/Sydney")
    assert end_of(found) == start + 5 * DAY - STEP
    converted = to_unified_csv(raw + treatments).text.splitlines()
    assert [line.split(",")[1] for line in converted if "INS_FAST" in line] == ["2026-03-25T08:00:00.000"]


def test_a_date_of_another_order_is_not_read_in_the_order_of_the_file() -> None:
    rows = samples.glucose_rows(288, datetime.datetime(2026, 5, 20))
    other = samples.nightscout_csv([(rows[-1][0] + STEP, 250.0)], AUSTRALIAN).splitlines()[-1]
    found = read(american(rows) + other + b"\n", "UTC")
    assert found.centi[-1] == round(rows[-1][1] * 100)


@pytest.mark.parametrize("vendor", [libre, american], ids=["libre", "american"])
def test_days_that_follow_each_other_tell_the_month(vendor: Callable[[Rows], bytes]) -> None:
    """Nine days of March, none after the 12th: with day and month exchanged they would lie a month apart each."""
    start = datetime.datetime(2026, 3, 3, tzinfo=datetime.UTC)
    assert end_of(read(vendor(measured(start, 9, "UTC")), "UTC")) == start + 9 * DAY - STEP


def test_of_two_days_the_later_one_is_the_newest() -> None:
    """10 February and 3 March: exchanged, February's would be of October."""
    february, march = (datetime.datetime(2026, month, day, tzinfo=datetime.UTC) for month, day in ((2, 10), (3, 3)))
    rows = [*measured(february, 1, "UTC"), *measured(march, 1, "UTC")]
    assert end_of(read(libre(rows), "UTC")) == march + DAY - STEP


@pytest.mark.parametrize(("hours", "ends"), [(6, "06:55:00"), (1, "01:55:00")], ids=["after", "before"])
def test_where_an_older_stretch_ends_is_told_by_the_clock_on_the_wall(hours: int, ends: str) -> None:
    """The clock went back at 01:00 UTC, between the two stretches or in the older one."""
    start = datetime.datetime(2026, 10, 23, 22, tzinfo=datetime.UTC)  # midnight in Berlin
    count = round((datetime.datetime(2026, 10, 25, hours, tzinfo=datetime.UTC) - start) / STEP)
    rows = measured(start, 4, "Europe/Berlin")
    found = read(samples.dexcom([*rows[:count], *rows[count + 24 : count + 36]]), "Europe/Berlin")
    said = end_of(found).astimezone(ZoneInfo("Europe/Berlin"))
    (note,) = [message for message in found.warnings.messages if message.startswith("QUALITY")]
    assert f"an older one until {said:%Y-%m-%d %H:%M:%S}" in note
    assert f"{said:%H:%M:%S}" == ends
