"""FHIR for one subject: readings out as Observations, and in as a Bundle (hl7.fhir.uv.cgm 1.0.0)."""

import datetime
import itertools
import re
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from query_api import fhir
from query_api.access import access
from query_api.callers import key_of
from query_api.key_file import Key
from query_api.paging import PAGED, next_page
from query_api.projections.measured import decoded
from query_api.routers.subject_readings import MOST_READINGS
from query_api.routers.subjects import Subject, Uses
from query_api.sent_readings import judged
from query_api.services import while_connected
from schemas.errors import RejectedError, UnavailableError
from schemas.reading import Reading

router = APIRouter(tags=["FHIR"], prefix="/subjects/{subject_id}/fhir")

BUNDLE_BODY_BYTES = 4 << 20
"""Room for a week of readings, each an Observation of 2 kB."""
MOST_OBSERVATIONS = 2016
_RESOURCE: dict[str, Any] = {"content": {fhir.MEDIA_TYPE: {"schema": fhir.SCHEMA}}}
_BUNDLE = {
    "type": "object",
    "required": ["resourceType", "type", "entry"],
    "properties": {
        "resourceType": {"const": "Bundle"},
        "type": {"const": "transaction"},
        "entry": {"type": "array", "minItems": 1, "maxItems": MOST_READINGS, "items": {"type": "object"}},
    },
}
_TIME = re.compile(r"(eq|ge|gt|le|lt)?(\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))")
_INSTANT = datetime.timedelta(microseconds=1)


@router.get("/metadata", response_class=Response, responses={200: _RESOURCE})
@access("key", scope="read", whose="path")
async def fhir_capabilities(subject_id: Subject) -> Response:
    """What can be done here, as a CapabilityStatement."""
    return _answer(fhir.capabilities(datetime.datetime.now(datetime.UTC).date()))


@router.get("/Observation", response_class=Response, responses={200: _RESOURCE | {"headers": PAGED}})
@access("key", scope="read", whose="path", raises=(RejectedError, UnavailableError))
async def fhir_observations(
    request: Request,
    uses: Uses,
    subject_id: Subject,
    code: Annotated[
        str, Query(max_length=64, description="LOINC 99504-3 for mg/dL, 105272-9 for mmol/L.")
    ] = f"{fhir.LOINC}|{fhir.MASS}",
    date: Annotated[
        list[str],
        Query(max_length=2, description="A time with its offset, behind ge, gt, le or lt; up to two of them."),
    ] = [],  # noqa: B006 - the framework copies it
    count: Annotated[int, Query(alias="_count", ge=1, le=MOST_OBSERVATIONS)] = 288,
) -> Response:
    """The readings of the last two days as they were sent, newest first, in a Bundle; its link `next` leads on.

    So does the header `Link`.
    """
    wanted = code.removeprefix(f"{fhir.LOINC}|")
    if wanted not in (fhir.MASS, fhir.MOLES):
        raise RejectedError(f"code: {fhir.LOINC}|{fhir.MASS} or {fhir.LOINC}|{fhir.MOLES}")
    first, last = _between(date)
    if not uses.follower.caught_up:
        raise UnavailableError("this replica is still reading what Kafka holds; try again")
    rows = list(uses.read_model.readings.measured.rows(subject_id, last))
    base = str(request.url).partition("/Observation")[0]

    def made() -> tuple[bytes, str | None]:
        readings = decoded(rows, last)
        known = itertools.takewhile(lambda each: first is None or each.time >= first, readings)
        page = list(itertools.islice(known, count + 1))
        links = {"self": str(request.url)}
        if len(page) > count:
            older = [f"lt{page[count - 1].time.isoformat()}", *(text for text in date if text[:2] in ("ge", "gt"))]
            links["next"] = str(request.url.include_query_params(date=older[0]))
            links["next"] += "".join(f"&date={text}".replace("+", "%2B") for text in older[1:])
        return orjson.dumps(fhir.searchset(page[:count], wanted, base, links)), links.get("next")

    bundle, following = await run_in_threadpool(made)
    return Response(bundle, media_type=fhir.MEDIA_TYPE, headers=next_page(following))


def _between(texts: list[str]) -> tuple[datetime.datetime | None, datetime.datetime | None]:
    """The earliest and the latest time that are asked for. Raises `RejectedError`."""
    first: datetime.datetime | None = None
    last: datetime.datetime | None = None
    for text in texts:
        found = _TIME.fullmatch(text.replace(" ", "+"))  # a plus sign in a query is a space
        if found is None:
            raise RejectedError("date: ge, gt, le or lt and a time with its offset, as ge2026-01-01T08:00:00Z")
        try:
            time = datetime.datetime.fromisoformat(found[2])
            earliest = time + _INSTANT if found[1] == "gt" else time
            latest = time - _INSTANT if found[1] == "lt" else time
        except (ValueError, OverflowError):
            raise RejectedError("date: there is no such time") from None
        if found[1] in (None, "eq", "ge", "gt"):
            first = earliest if first is None else max(first, earliest)
        if found[1] in (None, "eq", "le", "lt"):
            last = latest if last is None else min(last, latest)
    return first, last


@router.post(
    "/Bundle/$submit-cgm-bundle",
    response_class=Response,
    responses={200: _RESOURCE},
    openapi_extra={"requestBody": {"required": True, "content": {fhir.MEDIA_TYPE: {"schema": _BUNDLE}}}},
)
@router.post("/$submit-cgm-bundle", include_in_schema=False)
@access(
    "key", scope="write", whose="path", body_bytes=BUNDLE_BODY_BYTES, raises=(RejectedError, UnavailableError)
)  # fmt: skip
async def submit_cgm_bundle(request: Request, uses: Uses, subject_id: Subject) -> Response:
    """Publish the sensor readings of a transaction Bundle; answers when Kafka has confirmed them.

    Of each entry the answer says in its place what became of it. A reading that is sent again changes nothing: it is
    known by its time and value. Whose they are is said by the address; a Bundle about two people, or about another, is
    refused whole. Other resources are not kept. Times in UTC and devices without a name are taken as in `/readings`.
    """
    body = await request.body()
    results, published = await run_in_threadpool(_read, body, subject_id, key_of(request))
    if published:
        sending = uses.submit.publish_readings(subject_id, [reading.to_json() for reading in published])
        await while_connected(request, sending)
    return _answer(fhir.submitted(results))


def _read(body: bytes, subject_id: str, key: Key | None) -> tuple[list[Reading | RejectedError], list[Reading]]:
    """What is answered to each entry, and what is published."""
    try:
        bundle = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RejectedError("the body is not JSON") from None
    results: list[Reading | RejectedError] = []
    published: list[Reading] = []
    for entry in fhir.entries_of(bundle, MOST_READINGS, subject_id):
        try:
            reading, refusal = judged(subject_id, fhir.sent_reading(entry), key)
        except RejectedError as error:
            reading, refusal = None, error
        if reading is not None:
            published.append(reading)
        if (result := refusal or reading) is not None:
            results.append(result)
    return results, published


def _answer(resource: dict[str, Any]) -> Response:
    return Response(orjson.dumps(resource), media_type=fhir.MEDIA_TYPE)
