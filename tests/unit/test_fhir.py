"""Readings as FHIR: resources that FHIR's own models take, and readings back out of what others write."""

import datetime
from typing import Any

import pytest

from query_api import fhir
from schemas.errors import RejectedError
from schemas.reading import Reading

R4B = pytest.importorskip("fhir.resources.R4B", reason="FHIR's models are not installed: deploy/setup.sh --test")
TIME = datetime.datetime(2026, 3, 1, 8, 5, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))


def reading(**more: Any) -> Reading:
    fields = {"subject_id": "anna", "time": TIME, "glucose": 118, "unit": "mg/dL", "device": "G6", "reading_id": "7"}
    return Reading.model_validate(fields | more)


def valid(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource, as FHIR's models of R4 read it. Raises where they do not."""
    R4B.get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    return resource


def entry(**changes: Any) -> dict[str, Any]:
    """Of a Bundle as a vendor's app sends it."""
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {
            "coding": [{"system": "http://snomed.info/sct", "code": "1"}, {"system": fhir.LOINC, "code": "99504-3"}]
        },
        "subject": {"reference": "Patient/4711"},
        "effectiveDateTime": "2026-03-01T07:05:30Z",
        "valueQuantity": {"value": 118, "unit": "mg/dl", "system": fhir.UCUM, "code": "mg/dL"},
    }
    resource |= changes
    return {
        "resource": {name: value for name, value in resource.items() if value is not None},
        "request": {"method": "POST", "url": "Observation"},
    }


def bundle(*entries: Any) -> dict[str, Any]:
    return {
        "resourceType": "Bundle", "type": "transaction", "timestamp": "2026-03-01T08:00:00Z", "entry": list(entries),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "code", "value", "unit"),
    [
        (reading(), fhir.MASS, 118, ("mg/dl", "mg/dL")),
        (reading(), fhir.MOLES, 6.55, ("mmol/l", "mmol/L")),
        (reading(glucose=6.4, unit="mmol/L"), fhir.MOLES, 6.4, ("mmol/l", "mmol/L")),
        (reading(glucose=6.4, unit="mmol/L"), fhir.MASS, 115.3, ("mg/dl", "mg/dL")),
    ],
)
def test_a_reading_is_an_observation_of_the_profile_of_its_unit(
    sent: Reading, code: str, value: float, unit: tuple[str, str]
) -> None:
    found = valid(fhir.observation(sent, code))
    quantity = found["valueQuantity"]
    assert (quantity["value"], quantity["unit"], quantity["code"], quantity["system"]) == (value, *unit, fhir.UCUM)
    assert found["code"]["coding"] == [{"system": "http://loinc.org", "code": code}]
    assert found["effectiveDateTime"] == "2026-03-01T08:05:30+01:00"
    assert found["subject"]["identifier"]["value"] == "anna"
    assert found["status"] == "final"
    word = "mass" if code == fhir.MASS else "moles"
    assert found["meta"]["profile"] == [f"{fhir.GUIDE}/StructureDefinition/cgm-sensor-reading-{word}-per-volume"]


def test_what_is_answered_is_fhir() -> None:
    links = {"self": "http://localhost/x"}
    valid(fhir.searchset([reading(), reading(glucose=119)], fhir.MASS, "http://localhost/fhir", links))
    assert "entry" not in valid(fhir.searchset([], fhir.MASS, "http://localhost/fhir", links))
    told = valid(fhir.submitted([reading(), RejectedError("why")]))
    assert [each["response"]["status"][:3] for each in told["entry"]] == ["202", "422"]
    assert told["entry"][1]["response"]["outcome"]["issue"][0]["diagnostics"] == "why"
    valid(fhir.outcome("why", "invalid"))
    valid(fhir.capabilities(TIME.date()))


def test_readings_are_found_in_a_bundle() -> None:
    valid(bundle(entry()))
    (only,) = fhir.entries_of(bundle(entry(id="a-1", device={"display": "G7"})), 10, "ada")
    assert fhir.sent_reading(only) == {
        "time": "2026-03-01T07:05:30Z", "glucose": 118, "unit": "mg/dL", "device": "G7", "reading_id": "a-1",
    }  # fmt: skip
    moles = {"coding": [{"system": fhir.LOINC, "code": fhir.MOLES}]}
    quantity = {"value": 6.5, "system": fhir.UCUM, "code": "mmol/L"}
    found = fhir.sent_reading(entry(code=moles, valueQuantity=quantity))
    assert (found["glucose"], found["unit"]) == (6.5, "mmol/L")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"resourceType": "Device"}, "not kept"),
        ({"code": {"coding": [{"system": fhir.LOINC, "code": "97507-8"}]}}, "not kept"),
        ({"code": None}, "not kept"),
        ({"status": "entered-in-error"}, "status"),
        ({"valueQuantity": {"value": 6.5, "system": fhir.UCUM, "code": "mmol/L"}}, "valueQuantity"),
        ({"valueQuantity": {"value": 118, "unit": "mg/dL"}}, "valueQuantity"),
        ({"valueQuantity": None}, "valueQuantity"),
        ({"effectiveDateTime": "2026-03-01"}, "effectiveDateTime"),
        ({"effectiveDateTime": None, "effectivePeriod": {}}, "effectiveDateTime"),
    ],
)
def test_what_is_no_reading_is_refused_in_words(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RejectedError, match=why):
        fhir.sent_reading(entry(**changes))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ([], "no FHIR Bundle"),
        ({"resourceType": "Bundle", "type": "collection", "entry": [entry()]}, "type transaction"),
        (bundle(), "no entry"),
        (bundle(*[entry()] * 11), "at most 10"),
        *((bundle(entry(), odd), "each entry") for odd in (None, 7, "x", [])),
        (bundle(entry(), entry(subject={"reference": "Patient/4712"})), "more than one subject"),
        (bundle(entry(), entry(subject={"identifier": {"value": "bert"}})), "more than one subject"),
    ],
)
def test_what_is_no_bundle_of_one_person_is_refused_whole(body: Any, why: str) -> None:
    with pytest.raises(RejectedError, match=why):
        fhir.entries_of(body, 10, "ada")


def test_what_was_read_here_of_somebody_else_is_refused_whole() -> None:
    """An Observation as it is answered, sent to another person's address."""
    ours = {"resource": fhir.observation(reading(), fhir.MASS)}
    own = reading().subject_id
    assert fhir.entries_of(bundle(ours), 10, own) == [ours]
    with pytest.raises(RejectedError, match="about another subject than the address"):
        fhir.entries_of(bundle(ours), 10, own + "-2")
    for empty in ({}, {"system": None}, {"system": ""}):
        with pytest.raises(RejectedError, match="about another subject than the address"):
            fhir.entries_of(bundle(entry(subject={"identifier": {"value": "bert", **empty}})), 10, own)
    of_theirs = entry(subject={"identifier": {"system": "urn:oid:1.2.3", "value": "4711"}})
    assert fhir.entries_of(bundle(of_theirs), 10, own) == [of_theirs]


@pytest.mark.parametrize("odd", [{}, {"resource": None}, {"resource": 7}, {"resource": {"code": 7, "subject": 7}}])
def test_whatever_stands_in_an_entry_is_refused_and_raises_nothing_else(odd: Any) -> None:
    assert fhir.entries_of(bundle(odd), 10, "ada") == [odd]
    with pytest.raises(RejectedError, match="not kept"):
        fhir.sent_reading(odd)
