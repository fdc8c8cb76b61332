"""Entries in and out, filters and the forecast document: pure functions of the Nightscout site."""

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core import device_status
from agents.core.directions import change_of, direction_of, with_before
from agents.core.nightscout_entry import is_glucose
from query_api.routers.nightscout import incoming, outgoing
from query_api.routers.nightscout.filters import wanted
from schemas.errors import RejectedError
from schemas.reading import Reading
from tests.kit.charts import fan_chart
from tests.kit.nightscout import BODIES, GOLDEN, TIME_MS, entry

VIENNA = "Europe/Vienna"
NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def read(element: dict[str, Any], timezone: str = VIENNA) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(incoming.reading_of(element, "anna", timezone))
    return document


@pytest.mark.parametrize("sender", BODIES)
def test_the_body_of_every_sender_is_one_golden_reading(sender: str) -> None:
    body = BODIES[sender]
    elements = body if isinstance(body, list) else [body]
    (one,) = [element for element in elements if is_glucose(element)]
    assert GOLDEN.items() <= read(one).items()
    assert Reading.from_json(incoming.reading_of(one, "anna", VIENNA)).glucose_mgdl == 118


@pytest.mark.parametrize(
    ("element", "takes"),
    [
        ({"sgv": 100}, True),
        ({"type": None, "sgv": 100}, True),
        ({"type": "sgv", "sgv": 100, "isValid": True}, True),
        ({"type": "sgv"}, True),
        ({"mbg": 100}, False),
        ({"type": "mbg", "sgv": 100}, False),
        ({"type": "cal"}, False),
        ({"type": "sgv", "sgv": 100, "isCalibration": True}, False),
        ({"type": "sgv", "sgv": 100, "isValid": False}, False),
        ({}, False),
        (7, False),
        (None, False),
        ([], False),
    ],
)
def test_only_glucose_of_a_sensor_becomes_a_reading(element: Any, takes: bool) -> None:
    assert is_glucose(element) is takes


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"date": TIME_MS}, "2026-01-01T09:00:00+01:00"),
        ({"date": TIME_MS + 0.4}, "2026-01-01T09:00:00+01:00"),
        ({"date": TIME_MS, "dateString": "2026-01-01T03:00:00-0500"}, "2026-01-01T03:00:00-05:00"),
        ({"date": TIME_MS, "dateString": "2026-01-01T08:00:00+00:00"}, "2026-01-01T08:00:00+00:00"),
        ({"date": TIME_MS, "dateString": "yesterday"}, "2026-01-01T09:00:00+01:00"),
        ({"date": TIME_MS, "utcOffset": -300}, "2026-01-01T03:00:00-05:00"),
        ({"date": TIME_MS, "utcOffset": 0}, "2026-01-01T09:00:00+01:00"),
        ({"date": TIME_MS, "utcOffset": 1e9}, "2026-01-01T09:00:00+01:00"),
        ({"dateString": "2026-01-01T08:00:00Z"}, "2026-01-01T09:00:00+01:00"),
        ({"dateString": "2026-07-01T08:00:00"}, "2026-07-01T08:00:00+02:00"),
        ({"date": "1767254400000"}, None),
        ({"date": True}, None),
        ({"date": 1e300}, None),
        ({"date": -1}, None),
        ({"dateString": "0001-01-01T00:00:00Z"}, "0001-01-01T01:05:21+01:05:21"),
        ({"dateString": "9999-12-31T23:59:59Z"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_clock_is_the_senders_where_one_is_told_else_the_persons(fields: dict[str, Any], time: str | None) -> None:
    assert read({"sgv": 118, **fields})["time"] == time


@pytest.mark.parametrize("sgv", ["118", None, True, {}, [118]])
def test_what_is_no_number_is_told_so_by_the_pipeline_and_not_guessed(sgv: Any) -> None:
    assert read({"type": "sgv", "sgv": sgv, "date": TIME_MS})["glucose"] is None


def test_fields_that_do_not_fit_are_cut_or_left_out() -> None:
    odd = {"sgv": 118, "date": TIME_MS, "device": "d" * 500, "noise": 1000, "direction": "Sideways", "_id": 7}
    assert read(odd) == {
        "subject_id": "anna", "time": GOLDEN["time"], "glucose": 118, "unit": "mg/dL", "device": "d" * 128,
    }  # fmt: skip


def test_an_id_stays_through_repeats_and_corrections_and_is_of_one_person() -> None:
    first, corrected = entry(118, NOON), entry(121, NOON, _id="theirs")
    ids = {incoming.echoed(each, "anna", VIENNA)["_id"] for each in (first, first, corrected)}
    assert len(ids) == 1
    others = [
        incoming.echoed(each, subject, VIENNA)["_id"]
        for each, subject in ((first, "eve"), (entry(118, NOON, type="mbg"), "anna"), (7, "anna"), ({}, "anna"))
    ]
    assert len({*ids, *others}) == 5


def test_an_echo_is_the_entry_with_its_time_as_nightscout_writes_it() -> None:
    told = incoming.echoed(entry(118, NOON, rssi=100), "anna", VIENNA)
    assert (told["sgv"], told["rssi"], told["sysTime"], told["utcOffset"]) == (
        118, 100, "2026-03-01T12:00:00.000Z", 60,
    )  # fmt: skip
    assert told["dateString"] == told["sysTime"]


def reading(glucose: float, minutes: float = 0, **fields: Any) -> Reading:
    time = NOON + datetime.timedelta(minutes=minutes)
    return Reading(**{"subject_id": "anna", "time": time, "glucose": glucose, "unit": "mg/dL"} | fields)


@given(st.floats(39, 600), st.integers(0, 10**6))
def test_what_was_sent_is_what_is_read(glucose: float, minutes: int) -> None:
    sent = entry(glucose, NOON + datetime.timedelta(minutes=minutes), direction="SingleUp")
    kept = Reading.from_json(incoming.reading_of(sent, "anna", VIENNA))
    found = outgoing.entry_of([kept])
    told = incoming.echoed(sent, "anna", VIENNA)
    for name in ("_id", "type", "sgv", "date", "dateString", "sysTime", "utcOffset", "direction", "device"):
        assert found[name] == told[name]


def test_whole_numbers_are_whole_and_mmol_is_rounded() -> None:
    assert str(outgoing.sgv_of(reading(118.0))) == "118"
    assert outgoing.sgv_of(reading(118.5)) == 118.5
    assert outgoing.sgv_of(reading(6.4, unit="mmol/L")) == 115


@pytest.mark.parametrize(
    ("change", "minutes", "direction"),
    [
        (0, 5, "Flat"),
        (4.9, 5, "Flat"),
        (5, 5, "FortyFiveUp"),
        (-10, 5, "SingleDown"),
        (15, 5, "DoubleUp"),
        (-45, 15, "DoubleDown"),
        (5, 18, "NOT COMPUTABLE"),
    ],
)
def test_a_direction_that_nobody_sent_is_the_change_of_two_readings(
    change: float, minutes: int, direction: str
) -> None:
    assert direction_of([reading(150 + change), reading(150, -minutes)]) == direction
    assert direction_of([reading(150 + change, direction="SingleUp"), reading(150, -minutes)]) == "SingleUp"
    assert direction_of([reading(150)]) == direction_of([]) == "NOT COMPUTABLE"


MS = datetime.timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("query", "count", "first", "last"),
    [
        ([("rr", "1"), ("ts", "x"), ("token", "t")], 10, None, None),
        ([("count", "2880"), ("find[date][$gt]", str(TIME_MS))], 2880, MS, None),
        ([("count", "999999")], 5760, None, None),
        ([("find[date][$gte]", str(TIME_MS)), ("find[date][$lte]", f"{TIME_MS}.0")], 10, 0 * MS, 0 * MS),
        ([("find[dateString][$gte]", "2026-01-01T08:00:00.000Z")], 10, 0 * MS, None),
        ([("find[dateString][$lt]", "2026-01-01T09:00:00 01:00")], 10, None, -MS),
        ([("find[dateString][$gte]", str(TIME_MS))], 10, 0 * MS, None),
        ([("find[date][$gt]", str(TIME_MS)), ("find[date][$gte]", "0")], 10, MS, None),
        ([("find[date]", str(TIME_MS))], 10, 0 * MS, 0 * MS),
    ],
    ids=str,
)
def test_filters_are_those_that_readers_send(
    query: list[tuple[str, str]], count: int, first: datetime.timedelta | None, last: datetime.timedelta | None
) -> None:
    start = datetime.datetime(2026, 1, 1, 8, tzinfo=datetime.UTC)
    found = wanted(query)
    assert (found.count, found.glucose) == (count, True)
    assert found.first == (None if first is None else start + first)
    assert found.last == (None if last is None else start + last)


@pytest.mark.parametrize(
    ("name", "text", "takes"),
    [
        ("find[type]", "sgv", True),
        ("find[type][$eq]", "sgv", True),
        ("find[type][$ne]", "mbg", True),
        ("find[type]", "mbg", False),
        ("find[type][$ne]", "sgv", False),
        ("find[device]", "share2", True),
        ("find[device]", "other", False),
    ],
)
def test_filters_by_type_and_device(name: str, text: str, takes: bool) -> None:
    assert wanted([(name, text)]).takes(reading(118, device="share2")) is takes


@pytest.mark.parametrize(
    "name_and_text",
    [
        ("count", "-1"), ("count", "0"), ("count", "ten"), ("count", ""), ("count", "²"), ("find[sgv][$gte]", "100"),
        ("find[date][$regex]", "1"), ("find[date][$gt]", "x"), ("find[date][$gt]", "nan"), ("find[date][$gt]", "1e99"),
        ("find[dateString][$gt]", "soon"), ("find[type][$in][]", "sgv"), ("find", "x"), ("find[$where]", "1"),
        ("find[dateString][$gt]", "0001-01-01T00:00:00+14:00"),
    ],
)  # fmt: skip
def test_other_filters_are_refused(name_and_text: tuple[str, str]) -> None:
    with pytest.raises(RejectedError):
        wanted([name_and_text])


def lowest_forecast(document: dict[str, Any], minutes: int) -> float:
    """LoopFollow's alarm of a coming low, re-stated: the lowest of all curves, 5 minutes a step, from now on."""
    curves = document["openaps"]["suggested"]["predBGs"]
    steps = minutes // 5
    return min(min(curve[: steps + 1]) for name in ("ZT", "IOB", "COB", "UAM") for curve in [curves.get(name)] if curve)


def test_the_forecast_is_what_loopfollow_reads() -> None:
    chart = fan_chart()
    document = device_status.document_of(chart, "openaps", 0.10)
    suggested = document["openaps"]["suggested"]
    assert "loop" not in document
    assert (document["created_at"], suggested["timestamp"]) == ("2026-03-01T13:05:00Z", "2026-03-01T13:05:00Z")
    assert document["utcOffset"] == 60
    anew = device_status.document_of(fan_chart(began_ms=1), "openaps", 0.10)
    assert document["_id"] != anew["_id"], "the same readings, drawn anew after a reset"
    curves = suggested["predBGs"]
    assert {len(curve) for curve in curves.values()} == {13}
    assert {curve[0] for curve in curves.values()} == {round(chart.past_mgdl[-1])} == {suggested["bg"]}
    levels = dict(chart.levels())
    assert curves["ZT"][1:] == [round(value) for value in levels[0.10]]
    assert curves["UAM"][1:] == [round(value) for value in levels[0.90]]
    assert suggested["eventualBG"] == curves["IOB"][12] == 120
    assert lowest_forecast(document, 60) == curves["ZT"][12]
    assert "80% 87-153 in 60 min" in suggested["reason"]
    assert "Not a medical device" in suggested["reason"]
    wide = device_status.document_of(chart, "openaps", 0.025)["openaps"]["suggested"]
    assert wide["predBGs"]["ZT"][12] < curves["ZT"][12]
    assert "95%" in wide["reason"]


def test_the_loop_form_is_one_line_and_never_empty() -> None:
    document = device_status.document_of(fan_chart(), "loop", 0.10)
    predicted = document["loop"]["predicted"]
    assert "openaps" not in document
    assert (predicted["startDate"], predicted["values"]) == ("2026-03-01T13:05:00Z", [120] * 13)


def test_times_for_a_header_are_never_older_than_what_they_tell() -> None:
    later: Callable[[int], datetime.datetime] = lambda ms: NOON + datetime.timedelta(milliseconds=ms)  # noqa: E731
    assert outgoing.http_time(later(0)) == "Sun, 01 Mar 2026 12:00:00 GMT"
    assert outgoing.http_time(later(1)) == "Sun, 01 Mar 2026 12:00:01 GMT"


def test_a_reading_without_a_device_has_that_of_its_key() -> None:
    named = entry(118, NOON) | {"device": "right arm"}
    without = {name: value for name, value in named.items() if name != "device"}
    for element, device in (
        (without, "left arm"),
        (without | {"device": ""}, "left arm"),
        (named, "right arm"),
    ):
        reading = Reading.from_json(incoming.reading_of(element, "anna", VIENNA, default_device="left arm"))
        assert reading.device == device
    assert Reading.from_json(incoming.reading_of(without, "anna", VIENNA)).device is None


def test_treatments_tell_when_a_sensor_was_started() -> None:
    starts = [
        {"eventType": "Sensor Start", "created_at": "2026-03-01T12:00:00.000Z"},
        {"eventType": "Sensor Change", "created_at": "2026-03-01T12:10:00Z", "utcOffset": 60},
        {"eventType": "Sensor Start", "date": TIME_MS, "isValid": False},
        {"eventType": "Sensor Stop", "created_at": "2026-03-01T12:20:00Z"},
        {"eventType": "Sensor Start"}, {"eventType": "Sensor Start", "created_at": "soon"}, "Sensor Start", None,
    ]  # fmt: skip
    found = incoming.sensor_starts(starts, VIENNA)
    assert found == [NOON, NOON + datetime.timedelta(minutes=10)]
    assert {time.utcoffset() for time in found} == {datetime.timedelta(hours=1)}
    many = [{"eventType": "Sensor Start", "mills": TIME_MS + 60_000 * minute} for minute in range(20)]
    assert [incoming.milliseconds(time) for time in incoming.sensor_starts(many, VIENNA)] == [
        TIME_MS + 60_000 * minute for minute in range(16, 20)
    ]


def test_two_devices_make_no_trend() -> None:
    def of(device: str, minutes: int, glucose: float) -> Reading:
        return reading(glucose, -minutes).model_copy(update={"device": device})

    assert direction_of([of("leg", 0, 160), of("arm", 3, 120)]) == "NOT COMPUTABLE"
    assert direction_of([of("leg", 0, 160), of("leg", 3, 120)]) == "DoubleUp"
    assert direction_of([of("leg", 0, 160), of("arm", 3, 120), of("leg", 5, 154)]) == "FortyFiveUp"
    assert change_of([of("leg", 0, 160), of("arm", 3, 120), of("leg", 5, 154)]) == 6


@pytest.mark.parametrize(
    ("minutes_before", "change", "direction"),
    [
        ((1, 2, 3, 4, 5, 6), 10, "SingleUp"),  # of the last two readings alone it were 2, and 4 with one step of noise
        ((3, 6, 9), 10, "SingleUp"),
        ((10,), 10, "SingleUp"),
        ((15,), 10, "SingleUp"),
        ((15.5,), 10, "SingleUp"),  # a sensor of a quarter of an hour is seconds late
        ((17.5,), 10, "SingleUp"),
        ((1, 2, 3), 10, "SingleUp"),  # a sensor that has only begun
        ((1, 2), None, "NOT COMPUTABLE"),
        ((17.6,), None, "NOT COMPUTABLE"),
    ],
)
def test_the_change_is_of_five_minutes_whatever_the_step(
    minutes_before: tuple[float, ...], change: float | None, direction: str
) -> None:
    found = [reading(180), *(reading(180 - 2 * minutes, -minutes) for minutes in minutes_before)]
    assert change_of(found) == (None if change is None else pytest.approx(change))
    assert direction_of(found) == direction


def test_each_reading_goes_with_those_before_it_that_its_trend_is_told_from() -> None:
    readings = [reading(100, -minutes) for minutes in (0, 5, 10, 15, 18, 40)]
    found = [[NOON - each.time for each in one] for one in with_before(iter(readings))]
    minutes = [[int(each.total_seconds() // 60) for each in one] for one in found]
    assert minutes == [[0, 5, 10, 15], [5, 10, 15, 18], [10, 15, 18], [15, 18], [18], [40]]
