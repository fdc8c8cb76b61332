"""The other collections of a Nightscout site: taken and answered, because apps ask for it, and not kept.

But for ``devicestatus``: there the present forecast is read. And of treatments is kept when a sensor was started.
"""

import datetime
import itertools
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agents.core.device_status import document_of
from query_api.access import access
from query_api.routers.nightscout import incoming
from query_api.routers.nightscout.answers import SiteDeleted, SiteDeviceStatus, SiteDocument
from query_api.routers.nightscout.filters import COUNT, Wanted, wanted
from query_api.routers.nightscout.incoming import digest_of
from query_api.routers.nightscout.parts import (
    DOCUMENT_BODY_BYTES,
    NOTHING,
    ONE_OR_MANY,
    Person,
    Uses,
    Whom,
    documents,
    encoded,
)
from query_api.services import Services, while_connected
from query_api.subject_forecast import forecast_of
from schemas.errors import NoForecastError, RejectedError, UnavailableError
from schemas.grid import STEP

router = APIRouter(tags=["nightscout"], prefix="/api/v1")
BODY: dict[str, Any] = {"requestBody": ONE_OR_MANY}
EMPTY = b"[]"


def _json(answer: bytes) -> Response:
    return Response(answer, media_type="application/json")


@router.post("/devicestatus.json", include_in_schema=False)
@router.post(
    "/devicestatus", response_class=Response, responses={200: {"model": list[SiteDocument]}}, openapi_extra=BODY
)
@router.post("/profile.json", include_in_schema=False)
@router.post("/profile", response_class=Response, responses={200: {"model": list[SiteDocument]}}, openapi_extra=BODY)
@router.put("/profile.json", include_in_schema=False)
@router.put("/profile", response_class=Response, responses={200: {"model": list[SiteDocument]}}, openapi_extra=BODY)
@access("key", scope="write", whose="person", body_bytes=DOCUMENT_BODY_BYTES, raises=(415,))
async def take(request: Request, whom: Whom) -> Response:
    """Answers every document with an `_id`, in a list, and keeps none."""
    elements, _ = await documents(request)
    return _json(encoded([_with_id(whom.subject_id, element) for element in elements]))


@router.post("/activity.json", include_in_schema=False)
@router.post(
    "/activity",
    response_class=Response,
    responses={200: {"model": SiteDocument | list[SiteDocument]}},
    openapi_extra=BODY,
)
@access("key", scope="write", whose="person", body_bytes=DOCUMENT_BODY_BYTES, raises=(415,))
async def echo(request: Request, whom: Whom) -> Response:
    """Answers what was sent, one document or a list, with an `_id` each, and keeps nothing."""
    elements, were_many = await documents(request)
    return _echoed(whom, elements, were_many)


@router.put("/treatments.json", include_in_schema=False)
@router.put(
    "/treatments",
    response_class=Response,
    responses={200: {"model": SiteDocument | list[SiteDocument]}},
    openapi_extra=BODY,
)
@access("key", scope="write", whose="person", body_bytes=DOCUMENT_BODY_BYTES, raises=(415, UnavailableError))
async def put_treatments(request: Request, uses: Uses, whom: Whom) -> Response:
    """The same as POST; answers one document or a list, as it was sent."""
    elements, were_many = await documents(request)
    answer = _echoed(whom, elements, were_many)
    await _tell_starts(request, uses, whom, elements)
    return answer


def _echoed(whom: Person, elements: list[Any], were_many: bool) -> Response:
    told = [_with_id(whom.subject_id, element) for element in elements]
    return _json(encoded(told if were_many else told[0]))


@router.post("/treatments.json", include_in_schema=False)
@router.post("/treatments", response_class=Response, responses={200: {"model": list[SiteDocument]}}, openapi_extra=BODY)
@access("key", scope="write", whose="person", body_bytes=DOCUMENT_BODY_BYTES, raises=(415, UnavailableError))
async def take_treatments(request: Request, uses: Uses, whom: Whom) -> Response:
    """Answers every treatment with an `_id`, in a list. Kept is when a sensor was started (`Sensor Start`, `Sensor
    Change`), once Kafka has confirmed it."""
    elements, _ = await documents(request)
    answer = encoded([_with_id(whom.subject_id, element) for element in elements])
    await _tell_starts(request, uses, whom, elements)
    return _json(answer)


async def _tell_starts(request: Request, uses: Services, whom: Person, elements: list[Any]) -> None:
    starts = incoming.sensor_starts(elements, whom.timezone)
    if starts:
        await while_connected(request, uses.submit.sensor_starts(whom.subject_id, starts))


def _with_id(subject_id: str, element: Any) -> dict[str, Any]:
    try:
        given = element.get("_id") if isinstance(element, dict) else None
        identity = given if isinstance(given, str) else digest_of(subject_id, element)
    except orjson.JSONEncodeError:
        raise HTTPException(400, "a document is nested too deep") from None
    return (element if isinstance(element, dict) else {}) | {"_id": identity}


@router.delete("/treatments/{document_id}", response_class=Response, responses={200: {"model": SiteDeleted}})
@access("key", scope="write", whose="person")
async def delete_treatment(document_id: str) -> Response:
    """There is none to delete."""
    return _json(orjson.dumps({"acknowledged": True, "deletedCount": 0}))


@router.delete("/treatments.json", include_in_schema=False)
@router.delete("/treatments", response_class=Response, responses={200: {"model": SiteDeleted}})
@access("key", scope="write", whose="person")
async def delete_treatments() -> Response:
    """There are none to delete."""
    return _json(orjson.dumps({"acknowledged": True, "deletedCount": 0}))


@router.get("/treatments.json", include_in_schema=False)
@router.get("/treatments", response_class=Response, responses={200: {"model": list[SiteDocument]}})
@router.get("/activity.json", include_in_schema=False)
@router.get("/activity", response_class=Response, responses={200: {"model": list[SiteDocument]}})
@router.get("/profile.json", include_in_schema=False)
@router.get("/profiles.json", include_in_schema=False)
@router.get("/profile", response_class=Response, responses={200: {"model": list[SiteDocument]}})
@access("key", scope="read", whose="person")
async def none_kept() -> Response:
    """Always empty: glucast forecasts from glucose alone."""
    return _json(EMPTY)


@router.get("/profile/current.json", include_in_schema=False)
@router.get("/profile/current", response_class=Response, responses={200: NOTHING})
@access("key", scope="read", whose="person")
async def no_profile() -> Response:
    """Always null."""
    return _json(b"null")


@router.get("/devicestatus.json", include_in_schema=False)
@router.get(
    "/devicestatus",
    response_class=Response,
    responses={200: {"model": list[SiteDeviceStatus]}},
    openapi_extra={
        "parameters": [
            COUNT,
            *(
                {"name": f"find[created_at][${bound}]", "in": "query",
                 "schema": {"type": "string", "format": "date-time"}}
                for bound in ("gte", "lte")
            ),
        ]
    },
)  # fmt: skip
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def device_status(request: Request, uses: Uses, whom: Whom) -> Response:
    """The present forecast, alone in a list; an empty list where none holds now, so that no app shows a stale one."""
    try:
        asked = wanted(request.query_params.multi_items())
    except RejectedError as error:
        raise HTTPException(400, str(error)) from None
    return _json(orjson.dumps(statuses_of(uses, whom.subject_id, asked)))


def statuses_of(uses: Services, subject_id: str, asked: Wanted | None = None) -> list[dict[str, Any]]:
    """The present forecast, where one holds and was made in the wanted time. Raises `UnavailableError`."""
    asked = asked or Wanted()
    try:
        found = forecast_of(uses, subject_id)
    except NoForecastError:
        return []
    chart = found.row.chart
    made = chart.computed_at.replace(microsecond=0)
    if (asked.first and made < asked.first) or (asked.last and made > asked.last):
        return []
    settings = uses.settings
    lower = float(settings.nightscout_lower_percent) / 100
    return [document_of(chart, settings.nightscout_forecast, lower, _measured_at(uses, subject_id, chart.issue_time))]


def _measured_at(uses: Services, subject_id: str, slot: datetime.datetime) -> datetime.datetime | None:
    """When the reading was measured that a window holds in this slot: of several as windows take them, the preferred
    device's before others, then the nearest, then the earlier."""
    model = uses.read_model
    readings = model.readings.measured.newest_first(subject_id, slot + STEP / 2)
    near = list(itertools.takewhile(lambda each: each.time >= slot - STEP / 2, readings))
    preferred = model.sources.of(subject_id).policy.preferred_device
    own = [each.time for each in near if preferred is not None and each.device == preferred]
    times = own or [each.time for each in near]
    return min(times, key=lambda time: (abs(time - slot), time), default=None)
