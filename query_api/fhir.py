"""Readings as FHIR R4, as the implementation guide for continuous glucose monitoring has them (hl7.fhir.uv.cgm 1.0.0).

A reading is an Observation of the profile ``cgm-sensor-reading-mass-per-volume`` (LOINC 99504-3, mg/dL) or
``cgm-sensor-reading-moles-per-volume`` (LOINC 105272-9, mmol/L). Whose it is, is a logical reference: subjects have
names that are no FHIR ids. Only what a sensor measured is here, never what was computed.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from agents.core import fingerprint
from schemas.errors import RejectedError
from schemas.grid import MGDL_PER_MMOLL
from schemas.reading import Reading, Unit

MEDIA_TYPE = "application/fhir+json"
GUIDE = "http://hl7.org/fhir/uv/cgm"
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
MASS, MOLES = "99504-3", "105272-9"

_UNITS: Mapping[str, Unit] = {MASS: "mg/dL", MOLES: "mmol/L"}
_PROFILES = {
    MASS: f"{GUIDE}/StructureDefinition/cgm-sensor-reading-mass-per-volume",
    MOLES: f"{GUIDE}/StructureDefinition/cgm-sensor-reading-moles-per-volume",
}
_SPELT = {"mg/dL": "mg/dl", "mmol/L": "mmol/l"}
"""As the profiles write the units for people; the code of UCUM stands beside it."""
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_HOLDING = ("amended", "corrected", "final")
"""States of an Observation whose value counts."""
_ACCEPTED, _REFUSED = HTTPStatus.ACCEPTED, HTTPStatus.UNPROCESSABLE_ENTITY

Resource = dict[str, Any]
SCHEMA: Resource = {
    "type": "object",
    "required": ["resourceType"],
    "properties": {"resourceType": {"type": "string", "description": "Which resource it is; FHIR R4 says the rest."}},
}
"""Of an answer, for the API's description."""


def observation(reading: Reading, code: str) -> Resource:
    """The reading under one of the two codes, converted where it was sent in the other unit."""
    unit = _UNITS[code]
    if reading.unit == unit:
        value = reading.glucose
    else:
        value = round(reading.glucose_mgdl, 1) if unit == "mg/dL" else round(reading.glucose / MGDL_PER_MMOLL, 2)
    found: Resource = {
        "resourceType": "Observation",
        "id": _id(reading),
        "meta": {"profile": [_PROFILES[code]]},
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORY, "code": "laboratory"}]}],
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"type": "Patient", "identifier": {"value": reading.subject_id}},
        "effectiveDateTime": reading.time.isoformat(),
        "valueQuantity": {"value": value, "unit": _SPELT[unit], "system": UCUM, "code": unit},
    }
    if reading.reading_id is not None:
        found["identifier"] = [{"value": reading.reading_id}]
    if reading.device is not None:
        found["device"] = {"display": reading.device}
    return found


def _id(reading: Reading) -> str:
    return fingerprint.outcome_id(reading.subject_id, reading.time, reading.glucose_mgdl)


def searchset(readings: Iterable[Reading], code: str, base: str, links: Mapping[str, str]) -> Resource:
    """A Bundle that answers a search; `base` is the address that resources hang below."""
    entries = [
        {"fullUrl": f"{base}/Observation/{each['id']}", "resource": each, "search": {"mode": "match"}}
        for each in (observation(reading, code) for reading in readings)
    ]
    found: Resource = {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": [{"relation": relation, "url": url} for relation, url in links.items()],
    }
    return found | {"entry": entries} if entries else found


def entries_of(bundle: Any, most: int, subject_id: str) -> list[Any]:
    """The entries of a submitted Bundle. Raises `RejectedError` for what is none, or is about somebody else.

    Whose readings they are is said by the address, not by the Bundle: so one that names two people cannot be right, nor
    one that names another. An identifier of a `system` is a number of theirs, as of a hospital; one without is a name
    as it is used here, which our own Observations carry.
    """
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle" or bundle.get("type") != "transaction":
        raise RejectedError("the body is no FHIR Bundle of type transaction")
    entries = bundle.get("entry")
    if not isinstance(entries, list) or not entries:
        raise RejectedError("the Bundle has no entry")
    if not all(isinstance(entry, dict) for entry in entries):
        raise RejectedError("each entry of the Bundle is an object")
    if len(entries) > most:
        raise RejectedError(f"{len(entries)} entries in one Bundle; send at most {most}")
    people = {subject for entry in entries if (subject := _subject(entry)) is not None}
    if len(people) > 1:
        raise RejectedError("the Bundle is about more than one subject: send one Bundle for each")
    if any(_named(entry) not in (None, subject_id) for entry in entries):
        raise RejectedError(
            "the Bundle is about another subject than the address: send it there, or give the identifier its system"
        )
    return entries


def _resource(entry: Any) -> Resource:
    resource = entry.get("resource") if isinstance(entry, dict) else None
    return resource if isinstance(resource, dict) else {}


def _subject(entry: Any) -> str | None:
    """Who an entry says that it is about, in whichever of FHIR's ways; None where it does not say."""
    subject = _resource(entry).get("subject")
    if not isinstance(subject, dict):
        return None
    identifier = subject.get("identifier")
    named = identifier.get("value") if isinstance(identifier, dict) else None
    found = subject.get("reference") or named
    return None if found is None or isinstance(found, dict | list) else str(found)


def _named(entry: Any) -> str | None:
    """The name without a system that an entry gives its subject; None where it gives none."""
    subject = _resource(entry).get("subject")
    identifier = subject.get("identifier") if isinstance(subject, dict) else None
    if not isinstance(identifier, dict) or identifier.get("system"):
        return None
    named = identifier.get("value")
    return named if isinstance(named, str) else None


def sent_reading(entry: Any) -> dict[str, Any]:
    """What an entry says of a reading, by the names of a `Reading`. Raises `RejectedError` for what is none."""
    resource = _resource(entry)
    code = _code(resource)
    if code is None:
        raise RejectedError(
            f"not kept: only sensor readings are, Observations of LOINC {MASS} (mg/dL) or {MOLES} (mmol/L)"
        )
    if resource.get("status") not in _HOLDING:
        raise RejectedError(f"status: one of {', '.join(_HOLDING)}")
    quantity = resource.get("valueQuantity")
    quantity = quantity if isinstance(quantity, dict) else {}
    if quantity.get("code") != _UNITS[code] or quantity.get("system") != UCUM:
        raise RejectedError(f"valueQuantity: LOINC {code} is in {_UNITS[code]} of UCUM")
    time = resource.get("effectiveDateTime")
    if not isinstance(time, str) or "T" not in time:
        raise RejectedError("effectiveDateTime: the time of the measurement, with its offset from UTC")
    found = {"time": time, "glucose": quantity.get("value"), "unit": _UNITS[code]}
    device = resource.get("device")
    named = device.get("display") if isinstance(device, dict) else None
    identity = _identifier(resource)
    return found | ({"device": named} if named else {}) | ({"reading_id": identity} if identity else {})


def _code(resource: Resource) -> str | None:
    code = resource.get("code")
    codings = code.get("coding") if isinstance(code, dict) else None
    if resource.get("resourceType") != "Observation" or not isinstance(codings, list):
        return None
    known = [each.get("code") for each in codings if isinstance(each, dict) and each.get("system") == LOINC]
    return next((each for each in known if isinstance(each, str) and each in _UNITS), None)


def _identifier(resource: Resource) -> object:
    identifiers = resource.get("identifier")
    first = identifiers[0] if isinstance(identifiers, list) and identifiers else None
    return (first.get("value") if isinstance(first, dict) else None) or resource.get("id")


def submitted(results: Sequence[Reading | RejectedError]) -> Resource:
    """The Bundle that tells of each entry what became of it, in their order."""
    return {
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": [{"response": _told(result)} for result in results],
    }


def _told(result: Reading | RejectedError) -> Resource:
    if isinstance(result, RejectedError):
        return {"status": f"{_REFUSED.value} {_REFUSED.phrase}", "outcome": outcome(str(result), "invalid")}
    return {"status": f"{_ACCEPTED.value} {_ACCEPTED.phrase}", "location": f"Observation/{_id(result)}"}


def outcome(text: str, code: str) -> Resource:
    """An OperationOutcome of one error; `code` is one of FHIR's types of issues."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": text}],
    }


def capabilities(date: datetime.date) -> Resource:
    """What can be done here, as a CapabilityStatement."""
    operation = {"name": "submit-cgm-bundle", "definition": f"{GUIDE}/OperationDefinition/submit-cgm-bundle"}
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date.isoformat(),
        "kind": "instance",
        "software": {"name": "glucast"},
        "implementation": {"description": "glucast: sensor readings of one person. Not a medical device."},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "implementationGuide": [f"{GUIDE}/ImplementationGuide/hl7.fhir.uv.cgm|1.0.0"],
        "rest": [
            {
                "mode": "server",
                "resource": [
                    {
                        "type": "Observation",
                        "supportedProfile": list(_PROFILES.values()),
                        "interaction": [{"code": "search-type"}],
                        "searchParam": [{"name": "code", "type": "token"}, {"name": "date", "type": "date"}],
                    },
                    {"type": "Bundle", "operation": [operation]},
                ],
                "operation": [operation],
            }
        ],
    }
