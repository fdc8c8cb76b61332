"""What apps ask a Nightscout site about itself, and the short answers for watches."""

import datetime
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agents.core.directions import change_of, direction_of, number
from query_api import credentials
from query_api.access import access
from query_api.callers import key_of
from query_api.key_file import Key
from query_api.routers.nightscout.answers import (
    SitePebble,
    SiteProperties,
    SiteStatus,
    SiteToken,
    SiteUpload,
    SiteVerified,
)
from query_api.routers.nightscout.entries import newest_of
from query_api.routers.nightscout.filters import COUNTS, Wanted, wanted
from query_api.routers.nightscout.incoming import milliseconds
from query_api.routers.nightscout.outgoing import in_unit, sgv_of
from query_api.routers.nightscout.parts import Person, Uses, Whom
from query_api.services import Services
from schemas.errors import RejectedError, UnavailableError
from schemas.reading import Reading

router = APIRouter(tags=["nightscout"])
VERSION = "15.0.3"
"""Of Nightscout, as which this site behaves: apps look at it."""
THRESHOLDS = {"bgHigh": 260, "bgTargetTop": 180, "bgTargetBottom": 70, "bgLow": 54}


def _json(answer: Any) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json")


@router.get("/api/v1/experiments/test.json", include_in_schema=False)
@router.get("/api/v1/experiments/test", response_class=Response, responses={200: {"model": SiteUpload}})
@access("key", scope="write", whose="person")
async def experiments_test() -> Response:
    """Whether a key may upload: what Loop and xDrip4iOS ask when it is entered."""
    return _json({"status": "ok"})


@router.get("/api/v1/verifyauth", response_class=Response, responses={200: {"model": SiteVerified}})
@router.get("/api/v1/verifyauth.json", include_in_schema=False)
@access("everybody")
async def verify(request: Request) -> Response:
    """What a key allows here; 200 also for none."""
    key = key_of(request)
    scopes = key.scopes if key is not None and key.subject is not None else ()
    known = bool(scopes)
    message = {
        "canRead": "read" in scopes,
        "canWrite": "write" in scopes,
        "isAdmin": False,
        "message": "OK" if known else "UNAUTHORIZED",
        "rolefound": "FOUND" if known else "NOTFOUND",
        "permissions": "ROLE" if known else "DEFAULT",
    }
    return _json({"status": 200, "message": message})


@router.get("/api/v1/status.json", include_in_schema=False)
@router.get("/api/v1/status", response_class=Response, responses={200: {"model": SiteStatus}})
@access("key", scope=None, whose="person")
async def status(request: Request, uses: Uses, whom: Whom) -> Response:
    """What this site is, and what the token in the query allows."""
    now = datetime.datetime.now(datetime.UTC)
    token = request.query_params.get("token")
    return _json(
        {
            "status": "ok",
            "name": "glucast",
            "version": VERSION,
            "serverTime": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "serverTimeEpoch": milliseconds(now),
            "apiEnabled": True,
            "careportalEnabled": True,
            "settings": {
                "units": uses.settings.nightscout_units,
                "authDefaultRoles": "denied",
                "thresholds": THRESHOLDS,
                "enable": [uses.settings.nightscout_forecast],
                "showForecast": uses.settings.nightscout_forecast,
            },
            "extendedSettings": {},
            "authorized": _web_token(token, whom.key) if token and whom.key.is_made_of(token) else None,
        }
    )


@router.get("/api/v2/authorization/request/{token}", response_class=Response, responses={200: {"model": SiteToken}})
@access("key", scope=None, whose="person")
async def authorization(token: str, whom: Whom) -> Response:
    """A web token of eight hours for the header `Authorization: Bearer`."""
    return _json(_web_token(token, whom.key))


def _web_token(token: str, key: Key) -> dict[str, Any]:
    permissions = {"read": "*:*:read", "write": "api:entries:create"}
    allowed = [[text] for scope, text in permissions.items() if scope in key.scopes]
    return credentials.web_token(token, key.name, allowed)


@router.get("/pebble", response_class=Response, responses={200: {"model": SitePebble}})
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def pebble(
    uses: Uses,
    whom: Whom,
    count: Annotated[str, Query(json_schema_extra={"pattern": COUNTS})] = "1",
    units: Annotated[str, Query()] = "mg/dl",
) -> Response:
    """The newest readings for a watch."""
    try:
        asked = wanted([("count", count)])
    except RejectedError as error:
        raise HTTPException(400, str(error)) from None
    glucose = [_pebble(each, units == "mmol") for each in await newest_of(uses, whom, asked)]
    now = milliseconds(datetime.datetime.now(datetime.UTC))
    return _json({"status": [{"now": now}], "bgs": glucose, "cals": []})


def _pebble(newest_first: Sequence[Reading], mmol: bool) -> dict[str, Any]:
    reading, direction, change = newest_first[0], direction_of(newest_first), change_of(newest_first)
    return {
        "sgv": str(in_unit(reading.glucose_mgdl, mmol) if mmol else sgv_of(reading)),
        "trend": number(direction),
        "direction": direction,
        "datetime": milliseconds(reading.time),
        "bgdelta": 0 if change is None else in_unit(change, mmol),
    }


@router.get("/api/v2/properties", response_class=Response, responses={200: {"model": SiteProperties}})
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def properties(uses: Uses, whom: Whom) -> Response:
    """The newest reading and its change."""
    return _json(await _properties(uses, whom))


@router.get("/api/v2/properties/{names}", response_class=Response, responses={200: {"model": SiteProperties}})
@access("key", scope="read", whose="person", raises=(UnavailableError,))
async def some_properties(uses: Uses, whom: Whom, names: str) -> Response:
    """Of these the ones that are named, comma separated."""
    return _json({name: value for name, value in (await _properties(uses, whom)).items() if name in names.split(",")})


async def _properties(uses: Services, whom: Person) -> dict[str, Any]:
    mmol = uses.settings.nightscout_units == "mmol"
    now: dict[str, Any] = {"sgvs": []}
    delta: dict[str, Any] = {}
    for newest_first in await newest_of(uses, whom, Wanted(count=1)):
        reading, change = newest_first[0], change_of(newest_first)
        sgv, mills, direction = sgv_of(reading), milliseconds(reading.time), direction_of(newest_first)
        now = {"last": sgv, "mills": mills, "sgvs": [{"mgdl": sgv, "mills": mills, "direction": direction}]}
        if change is not None:
            delta = {"mgdl": in_unit(change, False), "display": f"{in_unit(change, mmol):+}"}
    return {"bgnow": now, "delta": delta, "upbat": {}, "iob": {}, "cob": {}}
