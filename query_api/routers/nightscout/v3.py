"""Nightscout's third API: one document a request, under an identifier, with web tokens. What AAPS and Juggluco speak.

A document's time of change is when it came: a reading that comes late, from another sender or after hours without a
network, is new to who asks what has changed since. A later reading of the same moment changes an entry, and so does a
PATCH, which is one. Nobody takes one back: `isValid: false` is no reading, and a DELETE finds nothing.
"""

import datetime
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agents.core.nightscout_entry import is_glucose
from query_api.access import access
from query_api.projections.measured import arrivals
from query_api.routers.nightscout import incoming
from query_api.routers.nightscout.answers import SiteChangesFound, SiteDone, SiteFound, SiteTaken, SiteVersionFound
from query_api.routers.nightscout.collections import statuses_of
from query_api.routers.nightscout.entries import readings_of, rows_of
from query_api.routers.nightscout.filters import COUNT, MOST, Wanted, wanted
from query_api.routers.nightscout.outgoing import entry_of
from query_api.routers.nightscout.parts import DOCUMENT_BODY_BYTES, Person, Uses, Whom, sent
from query_api.routers.nightscout.site import VERSION
from query_api.services import Services, while_connected
from schemas.errors import RejectedError, UnavailableError
from schemas.reading import Reading
from schemas.record import LATEST_MS
from schemas.topics import DAY_MS

router = APIRouter(tags=["nightscout"], prefix="/api/v3")

COLLECTIONS = ("devicestatus", "entries", "food", "profile", "settings", "treatments")
NOT_KEPT = ("food", "profile", "settings", "treatments")
LAST_MS = LATEST_MS - 7 * DAY_MS
Since = Annotated[int, Path(ge=0, le=LAST_MS, description="Milliseconds since 1970.")]
ONE: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}
ENTRY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["date"],
                    "properties": {
                        "date": {"type": "number", "minimum": 1, "maximum": LAST_MS},
                        "utcOffset": {"type": "number", "minimum": -1440, "maximum": 1440},
                    },
                }
            }
        },
    }
}
CREATED: dict[int | str, dict[str, Any]] = {
    200: {"description": "It was there already.", "model": SiteTaken},
    201: {"description": "Taken.", "model": SiteTaken},
}
LIMIT = COUNT | {"name": "limit"}
SEARCH: dict[str, Any] = {
    "parameters": [
        LIMIT,
        {"name": "sort", "in": "query", "schema": {"type": "string", "enum": ["date"]}},
        {"name": "sort$desc", "in": "query", "schema": {"type": "string", "enum": ["date"]}},
        *(
            {
                "name": f"date${bound}",
                "in": "query",
                "schema": {"type": "number", "minimum": 0, "maximum": LATEST_MS - 1},
            }
            for bound in ("gt", "gte", "lt", "lte")
        ),
    ]
}
_NAMESPACE = uuid.UUID(bytes=b"NightscoutRocks!")
_MOST_OFFSET_MINUTES = 24 * 60
_NOT_HERE = "nothing is known under this identifier"
_NOT_TAKEN_BACK = "nothing is taken back under an identifier; send a corrected value, or erase the person"


def _json(answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(answer), status, headers, media_type="application/json")


def _found(result: Any, headers: dict[str, str] | None = None) -> Response:
    return _json({"status": 200, "result": result}, headers=headers)


def _site() -> dict[str, Any]:
    storage = {"storage": "mongodb", "version": "6"}
    return {"version": VERSION, "apiVersion": "3.0.3-alpha", "srvDate": _now_ms(), "storage": storage}


def _now_ms() -> int:
    return int(time.time() * 1000)


@router.get("/version", response_class=Response, responses={200: {"model": SiteVersionFound}})
@access("everybody")
async def version() -> Response:
    """What this site is, for everybody."""
    return _found(_site())


@router.get("/status", response_class=Response, responses={200: {"model": SiteVersionFound}})
@access("key", scope=None, whose="person")
async def status(whom: Whom) -> Response:
    """What this site is and what the key allows; an app uploads only where every collection is `crud`."""
    allowed = "crud" if {"read", "write"} <= {*whom.key.scopes} else "c" if "write" in whom.key.scopes else "r"
    return _found(_site() | {"apiPermissions": dict.fromkeys(COLLECTIONS, allowed)})


@router.get("/lastModified", response_class=Response, responses={200: {"model": SiteChangesFound}})
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def last_modified(uses: Uses, whom: Whom) -> Response:
    """When each collection changed last."""
    readings = await _with_arrival(uses, whom, Wanted(MOST))
    charts = statuses_of(uses, whom.subject_id)
    collections = {
        "entries": max((arrived for arrived, _ in readings), default=0),
        "treatments": 0,
        "devicestatus": charts[0]["mills"] if charts else 0,
        "profile": 0,
    }
    return _found({"srvDate": _now_ms(), "collections": collections})


@router.post("/entries", response_class=Response, status_code=201, responses=CREATED, openapi_extra=ENTRY)
@access("key", scope="write", whose="person", body_bytes=DOCUMENT_BODY_BYTES, raises=(415, UnavailableError))
async def add_entry(request: Request, uses: Uses, whom: Whom) -> Response:
    """Take one entry in; answers when Kafka has confirmed it. 200 where it was there, 201 where it is new."""
    entry = await _document(request)
    moment = _moment(entry, whom)
    known = next(uses.read_model.readings.measured.newest_first(whom.subject_id, moment), None)
    if is_glucose(entry):
        entry = {**entry, "device": entry.get("device") or whom.key.device, "_id": None, "id": None}
        reading = incoming.reading_of(entry, whom.subject_id, whom.timezone, _unit(entry), whom.key.device)
        await while_connected(request, uses.submit.publish_readings(whom.subject_id, [reading]))
    answer = {"identifier": _identifier(entry), "lastModified": _now_ms()}
    if known is not None and known.time == moment:
        return _json({"status": 200, **answer, "isDeduplication": True})
    return _json({"status": 201, **answer}, 201)


async def add_document(request: Request, uses: Uses, whom: Whom) -> Response:
    """Take one document, and keep it not. Of a treatment is kept when a sensor was started."""
    document = await _document(request)
    starts = incoming.sensor_starts([document], whom.timezone)
    if starts:
        await while_connected(request, uses.submit.sensor_starts(whom.subject_id, starts))
    return _json({"status": 201, "identifier": _identifier(document), "lastModified": _now_ms()}, 201)


@router.patch(
    "/entries/{identifier}",
    response_class=Response,
    responses={200: {"model": SiteDone}, 404: {}},
    openapi_extra=ONE,
)
@access(
    "key", scope="write", whose="person", body_bytes=DOCUMENT_BODY_BYTES, raises=(404, 415, UnavailableError)
)  # fmt: skip
async def correct_entry(request: Request, uses: Uses, whom: Whom, identifier: str) -> Response:
    """Correct the value, direction or noise of an entry of the last two days; answers when Kafka has confirmed it.

    404 where nothing is known under the identifier, and where it is to be taken back (`isValid: false`).
    """
    change = await _document(request)
    known = await _known_as(uses, whom, identifier)
    if known is None or change.get("isValid") is False:
        raise HTTPException(404, _NOT_HERE if known is None else _NOT_TAKEN_BACK)
    if change.get("date", incoming.milliseconds(known.time)) != incoming.milliseconds(known.time):
        raise HTTPException(400, "Field date cannot be modified by the client")
    if "sgv" in change:
        corrected = {name: change.get(name, getattr(known, name)) for name in ("direction", "noise")}
        corrected |= {"sgv": change["sgv"], "dateString": known.time.isoformat(), "device": known.device}
        corrected |= {"identifier": known.reading_id}
        reading = incoming.reading_of(corrected, whom.subject_id, whom.timezone, _unit(change), known.device)
        await while_connected(request, uses.submit.publish_readings(whom.subject_id, [reading]))
    return _json({"status": 200})


async def change(identifier: str) -> Response:
    """Always 404: nothing is changed or taken back under an identifier. Apps take it for done."""
    raise HTTPException(404, _NOT_TAKEN_BACK)


@router.get("/entries", response_class=Response, responses={200: {"model": SiteFound}}, openapi_extra=SEARCH)
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def entries(request: Request, uses: Uses, whom: Whom) -> Response:
    """Readings of the last two days as they were sent: the newest first, or with `sort=date` the oldest."""
    asked = _wanted(request)
    orders = [request.query_params.get(name, "date") for name in ("sort", "sort$desc")]
    if orders != ["date", "date"]:
        raise HTTPException(400, "entries are sorted by date")
    oldest_first = "sort" in request.query_params
    everything = Wanted(MOST, asked.first, asked.last, asked.glucose)
    readings = await _with_arrival(uses, whom, everything if oldest_first else asked)
    chosen = readings[::-1][: asked.count] if oldest_first else readings
    return _found([_entry(newest_first, arrived) for arrived, newest_first in chosen])


@router.get(
    "/entries/history/{since}",
    response_class=Response,
    responses={200: {"model": SiteFound}},
    openapi_extra={"parameters": [LIMIT]},
)
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def history(request: Request, uses: Uses, whom: Whom, since: Since) -> Response:
    """Readings of the last two days that came after a time, in their order; `ETag` is the time to go on from.

    More than `limit` where several came at once: who goes on from their time would miss the rest of them.
    """
    most, readings = _wanted(request).count, await _with_arrival(uses, whom, Wanted(MOST))
    new = sorted((each for each in readings if each[0] > since), key=lambda each: (each[0], each[1][0].time))
    found = [_entry(newest_first, arrived) for place, (arrived, newest_first) in enumerate(new)
             if place < most or arrived == new[most - 1][0]]  # fmt: skip
    return _found(found, {"etag": f'W/"{found[-1]["srvModified"]}"'} if found else None)


@router.get("/devicestatus", response_class=Response, responses={200: {"model": SiteFound}})
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def device_status(uses: Uses, whom: Whom) -> Response:
    """The present forecast alone, or nothing."""
    return _found(statuses_of(uses, whom.subject_id))


@router.get("/devicestatus/history/{since}", response_class=Response, responses={200: {"model": SiteFound}})
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def device_status_since(uses: Uses, whom: Whom, since: Since) -> Response:
    """The present forecast, where it was made after a time."""
    return _found([document for document in statuses_of(uses, whom.subject_id) if document["mills"] > since])


async def no_history(since: Since) -> Response:
    """Always empty."""
    return _found([])


async def nothing_kept() -> Response:
    """Always empty."""
    return _found([])


def _add_collections() -> None:
    """The routes that are alike for several collections: by name, so that any other name is unknown."""
    taking = access(
        "key", scope="write", whose="person", body_bytes=DOCUMENT_BODY_BYTES, raises=(415, UnavailableError)
    )
    changing = access("key", scope="write", whose="person", body_bytes=DOCUMENT_BODY_BYTES, raises=(404,))
    reading = access("key", scope="read", whose="person")
    shared: dict[str, Any] = {"response_class": Response}
    for name in COLLECTIONS:
        by_identifier = f"/{name}/{{identifier}}"
        router.add_api_route(by_identifier, changing(change), methods=["DELETE"], responses={404: {}}, **shared)
        if name != "entries":
            router.add_api_route(by_identifier, change, methods=["PATCH"], responses={404: {}}, **shared)
    for name in ("devicestatus", *NOT_KEPT):
        router.add_api_route(
            f"/{name}", taking(add_document), methods=["POST"], status_code=201, responses={201: CREATED[201]},
            openapi_extra=ONE, **shared,
        )  # fmt: skip
    for name in NOT_KEPT:
        router.add_api_route(
            f"/{name}", reading(nothing_kept), methods=["GET"], responses={200: {"model": SiteFound}}, **shared
        )
        router.add_api_route(
            f"/{name}/history/{{since}}",
            reading(no_history),
            methods=["GET"],
            responses={200: {"model": SiteFound}},
            **shared,
        )


_add_collections()


async def _document(request: Request) -> dict[str, Any]:
    document = await sent(request)
    if not isinstance(document, dict):
        raise HTTPException(400, "the body is not one document")
    return document


def _moment(entry: dict[str, Any], whom: Person) -> datetime.datetime:
    """Raises `HTTPException` in the words of Nightscout: apps tell by them what to send instead."""
    offset = entry.get("utcOffset", 0)
    if not isinstance(offset, int | float) or isinstance(offset, bool) or not abs(offset) <= _MOST_OFFSET_MINUTES:
        raise HTTPException(400, "Bad or missing utcOffset field")
    moment = incoming.moment_of({**entry, "dateString": None}, whom.timezone)
    if moment is None or not 1 <= incoming.milliseconds(moment) <= LAST_MS:
        raise HTTPException(400, "Bad or missing date field")
    return moment


def _unit(entry: dict[str, Any]) -> Literal["mg/dL", "mmol/L"]:
    return "mmol/L" if entry.get("units") in ("mmol", "mmol/L", "mmol/l") else "mg/dL"


async def _known_as(uses: Services, whom: Person, identifier: str) -> Reading | None:
    """The reading that a sender calls so, or that was answered under this name."""
    rows = rows_of(uses, whom, Wanted(MOST))

    def find() -> Reading | None:
        found = (newest_first[0] for newest_first in readings_of(rows, Wanted(MOST)))
        return next((each for each in found if _identifier(_named(each)) == identifier), None)

    return await run_in_threadpool(find)


def _named(reading: Reading) -> dict[str, Any]:
    """What a reading's identifier is made of."""
    return {"identifier": reading.reading_id, "device": reading.device, "date": incoming.milliseconds(reading.time)}


def _identifier(document: dict[str, Any]) -> str:
    """The sender's own, or what Nightscout derives from device, date and event."""
    given = document.get("identifier")
    if isinstance(given, str) and 0 < len(given) <= incoming.LONGEST:
        return given
    date = document.get("date")
    whole = int(date) if isinstance(date, float) and date.is_integer() else date
    parts = [document.get("device"), whole, document.get("eventType")]
    return str(uuid.uuid5(_NAMESPACE, "_".join(str(part) for part in parts if part is not None)))


async def _with_arrival(uses: Services, whom: Person, wanted: Wanted) -> list[tuple[int, Sequence[Reading]]]:
    """As `newest_of`, with when each came, in Unix milliseconds, of one look at the table.

    Of two looks a correction's time stood beside the value before it, and who goes on from that time never saw it. Of a
    reading that a table of an earlier version holds it is when it was measured.
    """
    rows = rows_of(uses, whom, wanted)

    def read() -> list[tuple[int, Sequence[Reading]]]:
        known = arrivals(rows)
        found = readings_of(rows, wanted)
        return [(known.get(each[0].time) or incoming.milliseconds(each[0].time), each) for each in found]

    return await run_in_threadpool(read)


def _entry(newest_first: Sequence[Reading], changed: int) -> dict[str, Any]:
    entry = entry_of(newest_first)
    own = {"identifier": _identifier(_named(newest_first[0])), "units": "mg/dl", "isValid": True, "app": "glucast"}
    return entry | own | {"srvCreated": changed, "srvModified": changed}


def _wanted(request: Request) -> Wanted:
    """From `limit`, `date$gt` and the like, and `type`; others are left alone."""
    query = [("count", "100")]
    for name, text in request.query_params.multi_items():
        field, _, how = name.partition("$")
        if name == "limit":
            query.append(("count", text))
        elif field in ("date", "type"):
            query.append((f"find[{field}][${how or 'eq'}]", text))
    try:
        return wanted(query)
    except RejectedError:
        raise HTTPException(
            400, "limit is a number from 1 on, date$gt and the like compare with milliseconds"
        ) from None
