"""What the key of one person adds to a reading: the clock where the sender tells none, and the device's name."""

import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.local_time import zone
from query_api import fhir, sent_readings
from query_api.key_file import Key, read
from query_api.routers.fhir import _read
from query_api.routers.nightscout import incoming
from query_api.sent_readings import reading_of
from schemas.errors import RejectedError
from tests.kit.keys import key_in, person_in

VIENNA = "Europe/Vienna"


def sent(time: str, **more: Any) -> dict[str, Any]:
    return {"time": time, "glucose": 118, "unit": "mg/dL", **more}


@pytest.fixture
def key(tmp_path: Path) -> Key:
    person_in(tmp_path / "keys", "anna", device="left arm")
    return read(tmp_path / "keys")[0]


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("2026-01-01T08:00:00Z", "2026-01-01T09:00:00+01:00"),
        ("2026-07-01T08:00:00.000z", "2026-07-01T10:00:00+02:00"),
        ("2026-01-01T09:00:00", "2026-01-01T09:00:00+01:00"),
        ("2026-03-29T00:55:00Z", "2026-03-29T01:55:00+01:00"),
        ("2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00"),
        ("2026-01-01T08:00:00+05:30", "2026-01-01T08:00:00+05:30"),
        ("2026-01-01T08:00:00+00:00", "2026-01-01T08:00:00+00:00"),
    ],
)
def test_the_clock_is_the_persons_where_the_sender_tells_none(key: Key, told: str, meant: str) -> None:
    reading = reading_of("anna", sent(told), key)
    assert reading.time.isoformat() == meant
    assert reading.device == "left arm"


@pytest.mark.parametrize(
    ("now", "told", "utc"),
    [
        ("00:20", "02:20", "00:20"),
        ("00:55", "02:50", "00:50"),
        ("01:00", "02:00", "01:00"),
        ("01:20", "02:19", "01:19"),
        ("01:20", "02:25", "01:25"),  # by a clock that is five minutes ahead
        ("01:04", "02:55", "00:55"),  # of before the change, some minutes late
        ("01:55", "02:30", "01:30"),
        ("02:10", "02:10", "00:10"),  # who tells the past says no more than the clock did
        ("01:20", "01:50", "23:50"),
        ("02:20", "03:20", "02:20"),
    ],
)
def test_in_the_hour_that_clocks_show_twice_a_time_without_an_offset_is_about_now(
    key: Key, monkeypatch: pytest.MonkeyPatch, now: str, told: str, utc: str
) -> None:
    """All of the second pass took the place of what was measured an hour before, and nothing was of now."""
    monkeypatch.setattr(sent_readings, "_now", lambda: datetime.datetime.fromisoformat(f"2026-10-25T{now}:00+00:00"))
    meant = datetime.datetime.fromisoformat(f"2026-10-25T{utc}:00+00:00")
    meant -= datetime.timedelta(days=utc > "23")
    shown = f"2026-10-25T{told}:00"
    assert reading_of("anna", sent(shown), key).time == meant
    (entered,) = incoming.sensor_starts([{"eventType": "Sensor Start", "created_at": shown}], VIENNA)
    assert entered.timestamp() == meant.timestamp()


def test_a_device_that_is_named_keeps_its_name(key: Key) -> None:
    assert reading_of("anna", sent("2026-01-01T08:00:00Z", device="G7"), key).device == "G7"
    assert reading_of("anna", sent("2026-01-01T08:00:00Z", device=None), key).device == "left arm"


def test_no_other_key_says_anything(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key_in(path, "all", device="x")
    key_in(path, "both", subjects=["anna", "eve"], timezone=VIENNA, device="x")
    person_in(path, "eve", device="x")
    for key in (None, *read(path)):
        reading = reading_of("anna", sent("2026-01-01T08:00:00Z"), key)
        assert (reading.time.utcoffset(), reading.device) == (datetime.timedelta(), None)
        with pytest.raises(RejectedError, match="timezone"):
            reading_of("anna", sent("2026-01-01T08:00:00"), key)


@pytest.mark.parametrize(
    "time", [None, 7, "", "soon", "1767254400000", "2026-01-01", "2026-01-01T25:00:00Z", "T" * 100]
)
def test_what_is_no_time_is_refused_as_before(key: Key, time: Any) -> None:
    with pytest.raises(RejectedError) as with_key:
        reading_of("anna", sent(time), key)
    with pytest.raises(RejectedError) as without:
        reading_of("anna", sent(time))
    assert str(with_key.value) == str(without.value)


@given(
    st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2099, 1, 1)).map(lambda it: it.replace(microsecond=0))
)
def test_the_moment_stays_what_it_is(utc: datetime.datetime) -> None:
    key = Key(name="k", digest="0" * 64, subjects=("anna",), timezone=VIENNA)
    reading = reading_of("anna", sent(f"{utc.isoformat()}Z"), key)
    assert reading.time == utc.replace(tzinfo=datetime.UTC)
    assert reading.time.replace(tzinfo=None) == utc.replace(tzinfo=datetime.UTC).astimezone(zone(VIENNA)).replace(
        tzinfo=None
    )


def test_a_fhir_bundle_has_the_same_clock_and_device(key: Key) -> None:
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": fhir.LOINC, "code": fhir.MASS}]},
        "effectiveDateTime": "2026-01-01T08:00:00Z",
        "valueQuantity": {"value": 118, "unit": "mg/dl", "system": fhir.UCUM, "code": "mg/dL"},
    }
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": observation}],
    }
    (answered,), (reading,) = _read(orjson.dumps(bundle), "anna", key)
    assert answered == reading
    assert reading.time.isoformat() == "2026-01-01T09:00:00+01:00"


DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize(
    "odd",
    [
        {"status": []},
        {"status": {}},
        {"code": {"coding": [{"system": fhir.LOINC, "code": []}, {"system": fhir.LOINC, "code": {}}]}},
        {"identifier": [{"value": "DEEP"}]},
        {"device": {"display": "DEEP"}},
        {"subject": {"reference": "DEEP"}, "status": "unknown"},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_an_odd_entry_of_a_bundle_harms_no_other(odd: dict[str, Any]) -> None:
    """They were an error of the server's own, for the whole Bundle and however often it was sent again."""
    observation = {
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": fhir.LOINC, "code": fhir.MASS}]},
        "effectiveDateTime": "2026-01-01T08:00:00Z",
        "valueQuantity": {"value": 118, "unit": "mg/dl", "system": fhir.UCUM, "code": "mg/dL"},
    }  # fmt: skip
    entries = [{"resource": observation}, {"resource": observation | odd}, {"resource": observation}]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    results, published = _read(orjson.dumps(bundle).replace(b'"DEEP"', DEEP), "anna", None)
    assert [isinstance(each, RejectedError) for each in results] == [False, True, False]
    assert len(published) == 2


def test_a_reading_that_is_nested_too_deep_is_refused_and_raises_nothing_else() -> None:
    with pytest.raises(RejectedError, match="nested too deep"):
        reading_of("anna", sent("2026-01-01T08:00:00Z", more=orjson.loads(DEEP)))
