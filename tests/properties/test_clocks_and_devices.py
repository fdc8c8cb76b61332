"""Exports over a change of the clocks, with rows that come twice, of two devices: what is published was measured.

A parser that refused everything would keep that too: so each of the cases alone is also read to its end.
"""

import datetime
import json
import math
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.local_time import wall_clock, zone
from agents.ingest.files.unified_file import Rules, UnifiedFile, to_unified_csv, unify_file
from schemas.errors import ImplausibleError, RejectedError
from tests.kit import samples
from tests.kit.samples import STEP, Rows

BERLIN = ZoneInfo("Europe/Berlin")
FALL = datetime.datetime(2024, 10, 27, 1, tzinfo=datetime.UTC)
SPRING = datetime.datetime(2024, 3, 31, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
LARGEST_STEP = 40 / 9 + 0.5
"""Of `truth` in five minutes, and what the grid may add to it."""

VENDORS: dict[str, Callable[[Rows], bytes]] = {
    "dexcom": samples.dexcom,
    "libre": samples.libre,
    "unified": samples.unified,
    "nightscout-csv": samples.nightscout_csv,
    "medtronic": samples.medtronic,
}
DEVICES = {"dexcom": (b"ABCDEF", b"GHIJKL"), "libre": (b"ABC-1", b"ABC-2"), "nightscout-csv": (b"xDrip", b"Loop")}
every_vendor = pytest.mark.parametrize("vendor", VENDORS)


def truth(instant: datetime.datetime) -> float:
    """What the sensor measures."""
    return 140 + 40 * math.sin((instant - FALL) / STEP / 9)


def measured(start: datetime.datetime, count: int, more: float = 0.0) -> Rows:
    """Readings 5 minutes apart as a clock in Berlin shows them, in the order of time."""
    instants = [start + number * STEP for number in range(count)]
    return [(each.astimezone(BERLIN).replace(tzinfo=None), round(truth(each) + more, 1)) for each in instants]


def lines_of(vendor: str, rows: Rows, device: int = 0) -> list[bytes]:
    head = len(VENDORS[vendor]([]).splitlines())
    names = DEVICES.get(vendor, (b"-", b"-"))
    return [line.replace(names[0], names[device]) for line in VENDORS[vendor](rows).splitlines(keepends=True)[head:]]


def export(vendor: str, lines: list[bytes]) -> bytes:
    return VENDORS[vendor]([]) + b"".join(lines)


def read(raw: bytes, timezone: str = "Europe/Berlin") -> UnifiedFile:
    return unify_file(raw, timezone, Rules())


def instant_of(found: UnifiedFile, index: int) -> datetime.datetime:
    """When a point was measured, as everything that follows understands it."""
    end = wall_clock(found.start_seconds).replace(tzinfo=zone(found.timezone))
    return end.astimezone(datetime.UTC) + index * STEP


def is_true(found: UnifiedFile, more: float = 0.0) -> bool:
    """Whether every point has the value of its time."""
    return all(
        abs(centi / 100 - more - truth(instant_of(found, index))) < 1.5 for index, centi in enumerate(found.centi)
    )


# each alone


@every_vendor
@pytest.mark.parametrize("backwards", [False, True])
def test_the_hour_that_comes_twice_is_told_apart_by_the_order_of_the_file(vendor: str, backwards: bool) -> None:
    lines = lines_of(vendor, measured(FALL - 8 * HOUR, 200))
    found = read(export(vendor, lines[::-1] if backwards else lines))
    assert (len(found.centi), found.timezone) == (200, "+01:00")
    assert is_true(found)
    assert not found.warnings.has_warnings


@every_vendor
def test_a_stretch_that_begins_in_the_second_pass_is_told_by_its_offset(vendor: str) -> None:
    found = read(export(vendor, lines_of(vendor, measured(FALL - STEP, 218))))
    assert (len(found.centi), found.timezone) == (217, "+01:00")
    assert is_true(found)


@every_vendor
def test_the_hour_that_is_skipped_is_no_gap(vendor: str) -> None:
    found = read(export(vendor, lines_of(vendor, measured(SPRING - 5 * HOUR, 130))))
    assert (len(found.centi), found.timezone) == (130, "+02:00")
    assert is_true(found)
    assert not found.warnings.has_warnings


@every_vendor
@pytest.mark.parametrize("change", [FALL, SPRING])
@pytest.mark.parametrize("hours", [-20, 3])
def test_a_stretch_without_a_change_in_it_keeps_its_zone(
    vendor: str, change: datetime.datetime, hours: int
) -> None:  # fmt: skip
    used = measured(change + hours * HOUR, 130)
    other = measured(change + (-40 if hours > 0 else 25) * HOUR, 20)
    found = read(export(vendor, lines_of(vendor, [*used, *other] if hours < 0 else [*other, *used])))
    assert (len(found.centi), found.timezone) == (130, "Europe/Berlin")
    assert is_true(found)


@every_vendor
def test_an_hour_that_comes_twice_in_the_order_of_the_clock_is_left_out_and_said(vendor: str) -> None:
    found = read(export(vendor, lines_of(vendor, sorted(measured(FALL - 8 * HOUR, 320)))))
    assert is_true(found)
    assert instant_of(found, 0) >= FALL + HOUR
    assert any("CLOCK: 24 readings lie in an hour" in message for message in found.warnings.messages)


@every_vendor
def test_a_clock_that_was_not_changed_in_spring_joins_nothing(vendor: str) -> None:
    rows = [(SPRING.replace(tzinfo=None) - 10 * HOUR + number * STEP, 140.0) for number in range(300)]
    found = read(export(vendor, lines_of(vendor, rows)))
    assert wall_clock(found.start_seconds) >= datetime.datetime(2024, 3, 31, 3)
    assert any("CLOCK: 12 readings" in message for message in found.warnings.messages)


@every_vendor
def test_a_clock_that_was_set_back_in_a_zone_that_does_not_know_of_it_parts_the_file(vendor: str) -> None:
    before, after = measured(FALL - 12 * HOUR, 156), measured(FALL + HOUR, 20)
    found = read(export(vendor, lines_of(vendor, [*before[:-12], *measured(FALL, 12), *after])), "UTC")
    assert found.timezone == "UTC"
    assert len(found.centi) == 144, "the stretch before the change: the one after it is too short"
    assert steps(found) <= LARGEST_STEP


@every_vendor
def test_in_the_order_of_the_clock_and_without_a_zone_nothing_tells_and_the_file_is_refused(vendor: str) -> None:
    rows = sorted(measured(FALL - 8 * HOUR, 150))
    with pytest.raises(ImplausibleError, match="a time range without the change"):
        read(
            export(
                vendor,
                lines_of(vendor, [(time, value + 30 * (number % 2)) for number, (time, value) in enumerate(rows)]),
            ),
            "UTC",
        )


@pytest.mark.parametrize("vendor", DEVICES)
@pytest.mark.parametrize("together", [True, False])
def test_of_two_devices_the_one_with_the_newest_readings_is_used_and_said(vendor: str, together: bool) -> None:
    start = FALL - 60 * HOUR
    one = lines_of(vendor, measured(start, 140, more=-80))
    other = lines_of(vendor, measured(start + datetime.timedelta(minutes=1), 142, more=110), device=1)
    lines = [line for pair in zip(one, other, strict=False) for line in pair] + other[140:] if together else other + one
    found = read(export(vendor, lines))
    assert len(found.centi) == 142
    assert is_true(found, more=110)
    assert any("SOURCES" in message for message in found.warnings.messages)


@pytest.mark.parametrize("vendor", ["unified", "medtronic"])
def test_two_devices_that_have_no_names_are_refused(vendor: str) -> None:
    start = FALL - 60 * HOUR
    rows = [*measured(start, 140, more=-80), *measured(start + datetime.timedelta(minutes=1), 140, more=110)]
    with pytest.raises(ImplausibleError, match=r"of two devices.*Export one device"):
        read(export(vendor, lines_of(vendor, sorted(rows))))


@pytest.mark.parametrize("vendor", DEVICES)
def test_one_sensor_shown_by_two_devices_is_one_series(vendor: str) -> None:
    rows = measured(FALL - 60 * HOUR, 140)
    one, other = lines_of(vendor, rows[:100]), lines_of(vendor, rows[50:], device=1)
    found = read(export(vendor, [*one, *other]))
    assert (len(found.centi), is_true(found)) == (140, True)


# entries of Nightscout, whose times are instants


def json_entries(rows: Rows, device: str) -> bytes:
    return json.dumps([each | {"device": device} for each in json.loads(samples.nightscout_json(rows))]).encode()


def line_entries(rows: Rows, device: str) -> bytes:
    return samples.nightscout_lines(rows).replace(b'"xDrip"', f'"{device}"'.encode())


ENTRIES: dict[str, tuple[Callable[[Rows, str], bytes], Callable[[bytes, bytes], bytes]]] = {
    "json": (json_entries, lambda one, other: json.dumps(json.loads(one) + json.loads(other)).encode()),
    "lines": (line_entries, lambda one, other: one + other),
}


def in_utc(start: datetime.datetime, count: int, more: float = 0.0) -> Rows:
    instants = [start + number * STEP for number in range(count)]
    return [(each.replace(tzinfo=None), round(truth(each) + more)) for each in instants]


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("change", [FALL, SPRING])
def test_entries_know_of_no_hour_that_comes_twice_or_is_skipped(kind: str, change: datetime.datetime) -> None:
    raw = ENTRIES[kind][0](in_utc(change - 6 * HOUR, 150), "xDrip")
    found = read(raw, "UTC")
    assert (len(found.centi), is_true(found), found.warnings.messages) == (150, True, ())
    for timezone in ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "-03:30"):
        there = read(raw, timezone)
        assert (there.centi, is_true(there), instant_of(there, 0)) == (found.centi, True, instant_of(found, 0))


ZONELESS = "%Y-%m-%dT%H:%M:%S"


def told(rows: Rows, **said: Callable[[datetime.datetime], object]) -> list[dict[str, object]]:
    """Entries whose time is said in the fields that are given, from the instant."""
    instants = [(time.replace(tzinfo=datetime.UTC), value) for time, value in rows]
    return [{"sgv": value, **{name: say(time) for name, say in said.items()}} for time, value in instants]


@pytest.mark.parametrize(
    "said",
    [
        {"date": lambda time: time.timestamp() * 1000},
        {"date": lambda time: f"{time.timestamp() * 1000:.0f}", "dateString": lambda time: "yesterday"},
        {"date": lambda time: time.timestamp() * 1000, "dateString": lambda time: f"{time + HOUR:{ZONELESS}}"},
        {"dateString": lambda time: f"{time.astimezone(BERLIN):{ZONELESS}.000%z}"},
        {"dateString": lambda time: time.astimezone(BERLIN).isoformat()},
        {"date": lambda time: None, "sysTime": lambda time: f"{time:{ZONELESS}}Z"},
        {"dateString": lambda time: f"{time.astimezone(BERLIN):{ZONELESS}}"},
    ],
    ids=["date", "digits", "date before text", "xDrip's offset", "ISO's offset", "Z", "no zone"],
)
def test_an_entry_was_measured_when_it_says(said: dict[str, Callable[[datetime.datetime], object]]) -> None:
    found = read(json.dumps(told(in_utc(FALL - 60 * HOUR, 140), **said)).encode())
    assert (len(found.centi), is_true(found), found.warnings.messages) == (140, True, ())


def test_what_is_converted_from_entries_says_on_which_clock_it_is() -> None:
    rows = in_utc(FALL - 60 * HOUR, 140)
    converted = to_unified_csv(json_entries(rows, "xDrip"))
    assert converted.notes == ["CLOCK: The times are UTC: send the result with timezone UTC"]
    assert is_true(read(converted.text.encode(), "UTC"))
    assert to_unified_csv(samples.dexcom(rows)).notes == []


def test_where_some_entries_have_a_zone_and_some_none_only_what_is_certain_is_used() -> None:
    rows = in_utc(FALL - 60 * HOUR, 200)
    certain = told(rows[:140], date=lambda time: time.timestamp() * 1000)
    found = read(json.dumps(certain + told(rows[140:], dateString=lambda time: f"{time:{ZONELESS}}")).encode())
    assert (len(found.centi), is_true(found)) == (140, True)
    assert found.warnings.messages == ("CLOCK: The times of 60 entries have no zone; these entries were left out",)


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("devices", [("xDrip", "Loop"), ("Loop", "xDrip")])
def test_of_the_entries_of_two_devices_those_of_the_one_with_the_newest_are_used_and_said(
    kind: str, devices: tuple[str, str]
) -> None:
    make, join = ENTRIES[kind]
    start = FALL - 60 * HOUR
    one = make(in_utc(start, 140, more=-80), devices[0])
    other = make(in_utc(start + datetime.timedelta(minutes=1), 142, more=110), devices[1])
    for raw in (join(one, other), join(other, one)):
        found = read(raw, "UTC")
        assert (len(found.centi), is_true(found, more=110)) == (142, True)
        assert any("SOURCES" in message for message in found.warnings.messages)


@pytest.mark.parametrize("kind", ENTRIES)
def test_entries_of_one_name_that_disagree_are_refused(kind: str) -> None:
    start = FALL - 60 * HOUR
    rows = [*in_utc(start, 140, more=-80), *in_utc(start + datetime.timedelta(minutes=1), 140, more=110)]
    with pytest.raises(ImplausibleError, match=r"of two devices.*Export one device"):
        read(ENTRIES[kind][0](sorted(rows), "xDrip"), "UTC")


# together


def steps(found: UnifiedFile) -> float:
    return max(abs(after - before) / 100 for before, after in zip(found.centi, found.centi[1:], strict=False))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_published_step_differs_from_the_true_one(data: st.DataObject) -> None:
    draw = data.draw
    vendor = draw(st.sampled_from(sorted(VENDORS)))
    change = draw(st.sampled_from([FALL, SPRING]))
    start = change + draw(st.integers(-260, 30)) * STEP
    first = lines_of(vendor, measured(start, draw(st.integers(110, 300))))
    if draw(st.booleans()):
        first = [line for line in first for _ in range(2)]
    elif draw(st.booleans()):
        first += first[-draw(st.integers(1, 60)) :]
    lines = first
    if draw(st.booleans()):
        more = draw(st.sampled_from([-90, -40, 40, 150]))
        shift = datetime.timedelta(minutes=draw(st.integers(0, 4)))
        second = lines_of(vendor, measured(start + shift, draw(st.integers(110, 300)), more), device=1)
        lines = [*first, *second]
        if draw(st.booleans()):
            lines = [line for pair in zip(first, second, strict=False) for line in pair]
    if draw(st.booleans()):
        lines.reverse()
    timezone = draw(st.sampled_from(["Europe/Berlin", "UTC"]))
    try:
        found = read(export(vendor, lines), timezone)
    except RejectedError:
        return
    assert steps(found) <= LARGEST_STEP
    if timezone != "UTC":
        assert any(is_true(found, more) for more in (0, -90, -40, 40, 150))
