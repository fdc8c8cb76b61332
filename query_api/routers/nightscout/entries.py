"""Entries in and out: readings of sensors, and nothing else."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agents.core.directions import LONGEST, with_before
from agents.core.nightscout_entry import is_glucose
from query_api.access import access
from query_api.projections.measured import PLACE, decoded
from query_api.routers.nightscout import incoming
from query_api.routers.nightscout.answers import SiteDeleted, SiteDocument, SiteEntry
from query_api.routers.nightscout.filters import PARAMETERS, Wanted, wanted
from query_api.routers.nightscout.outgoing import entry_of, http_time
from query_api.routers.nightscout.parts import (
    ENTRIES_BODY_BYTES,
    ONE_OR_MANY,
    Person,
    Uses,
    Whom,
    documents,
    encoded,
)
from query_api.services import Services, while_connected
from schemas.errors import RejectedError, UnavailableError
from schemas.reading import Reading

router = APIRouter(tags=["nightscout"], prefix="/api/v1")
NOTHING_DELETED = {"acknowledged": True, "deletedCount": 0}


@router.post("/entries.json", include_in_schema=False)
@router.post(
    "/entries",
    response_class=Response,
    responses={200: {"model": list[SiteDocument]}},
    openapi_extra={"requestBody": ONE_OR_MANY},
)
@access("key", scope="write", whose="person", body_bytes=ENTRIES_BODY_BYTES, raises=(415, UnavailableError))
async def add_entries(request: Request, uses: Uses, whom: Whom) -> Response:
    """Take entries in; answers when Kafka has confirmed them, with each of them and its `_id`, in their order.

    What is no sensor's glucose (mbg, cal, …) is answered and not taken. What becomes of each of the others is on
    `cgm.reading-outcomes`: one that is impossible is rejected there and harms none of the others.
    """
    elements, _ = await documents(request)
    answer, readings = await run_in_threadpool(_read, elements, whom)
    await while_connected(request, uses.submit.publish_readings(whom.subject_id, readings))
    return Response(answer, media_type="application/json")


def _read(elements: list[Any], whom: Person) -> tuple[bytes, list[bytes]]:
    """The answer, and the readings. Raises `HTTPException` 400 for what cannot be sent back."""
    try:
        told = [incoming.echoed(element, whom.subject_id, whom.timezone) for element in elements]
    except orjson.JSONEncodeError:
        raise HTTPException(400, "a document is nested too deep") from None
    readings = [
        incoming.reading_of(element, whom.subject_id, whom.timezone, default_device=whom.key.device)
        for element in elements
        if is_glucose(element)
    ]
    return encoded(told), readings


@router.delete("/entries.json", include_in_schema=False)
@router.delete("/entries", response_class=Response, responses={200: {"model": SiteDeleted}})
@access("key", scope="write", whose="person")
async def delete_entries() -> Response:
    """Nothing is deleted this way: readings go with their time."""
    return Response(orjson.dumps(NOTHING_DELETED), media_type="application/json")


@router.get("/entries.json", include_in_schema=False)
@router.get("/entries/sgv.json", include_in_schema=False)
@router.get("/entries/sgv", include_in_schema=False)
@router.get(
    "/entries",
    response_class=Response,
    responses={200: {"model": list[SiteEntry]}},
    openapi_extra={"parameters": PARAMETERS},
)
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def entries(request: Request, uses: Uses, whom: Whom) -> Response:
    """The newest readings of the last two days as they were sent, newest first; never a computed value."""
    return await _answer(uses, whom, _wanted(request))


@router.get("/entries/current.json", include_in_schema=False)
@router.get("/entries/current", response_class=Response, responses={200: {"model": list[SiteEntry]}})
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def current(uses: Uses, whom: Whom) -> Response:
    """The newest reading, in a list."""
    return await _answer(uses, whom, Wanted(count=1))


async def newest_of(uses: Services, whom: Person, wanted: Wanted) -> list[Sequence[Reading]]:
    """The wanted readings, newest first, each with those before it that its trend is told from.

    Raises `UnavailableError` while this replica has not read what Kafka holds.
    """
    return await run_in_threadpool(readings_of, rows_of(uses, whom, wanted), wanted)


def rows_of(uses: Services, whom: Person, wanted: Wanted) -> list[bytes]:
    """What the table holds of them now: whoever looks twice may see a correction between. Raises as above."""
    if not uses.follower.caught_up:
        raise UnavailableError("this replica is still reading what Kafka holds; try again")
    rows = uses.read_model.readings.measured.rows(whom.subject_id, wanted.last)
    # Those before the last, and one that turns out to be a few seconds too new.
    return list(rows if wanted.device else itertools.islice(rows, wanted.count + 2 + LONGEST // PLACE))


def readings_of(rows: Iterable[bytes], wanted: Wanted) -> list[Sequence[Reading]]:
    """The readings of such rows, as `newest_of` gives them; thousands of them take long to decode."""
    found = itertools.islice(with_before(filter(wanted.takes, decoded(rows, wanted.last))), wanted.count)
    first = wanted.first
    return list(found if first is None else itertools.takewhile(lambda each: each[0].time >= first, found))


def _wanted(request: Request) -> Wanted:
    try:
        return wanted(request.query_params.multi_items())
    except RejectedError as error:
        raise HTTPException(400, str(error)) from None


async def _answer(uses: Services, whom: Person, wanted: Wanted) -> Response:
    """Always whole: by a time alone nobody could tell that the newest reading was corrected meanwhile."""
    readings = await newest_of(uses, whom, wanted)
    headers = {"last-modified": http_time(readings[0][0].time)} if readings else {}
    answer = await run_in_threadpool(lambda: orjson.dumps([entry_of(each) for each in readings]))
    return Response(answer, media_type="application/json", headers=headers)
