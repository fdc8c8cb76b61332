"""Subjects: readings in, forecasts of the next hour out."""

import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from query_api.access import access
from query_api.figure import Style
from query_api.plots import SUBJECT_TYPES, preferred
from query_api.present import Present, present
from query_api.problems import problem
from query_api.projections.fan_charts import ChartRow
from query_api.services import Services, services_of, while_connected
from query_api.units import document
from schemas.errors import NoForecastError, RejectedError, UnavailableError
from schemas.grid import HIGHEST_MGDL, LOWEST_SENSOR_MGDL
from schemas.reading import Reading, Unit
from schemas.record import SubjectId

router = APIRouter(tags=["subjects"])
Uses = Annotated[Services, Depends(services_of)]
Subject = Annotated[SubjectId, Path(description="Whose glucose it is, as the integration names them.")]
InUnit = Annotated[Unit, Query(description="Unit of every glucose value in the answer.")]

MOST_READINGS = 2016
"""A week of 5-minute readings in one request."""
READINGS_BODY_BYTES = 1 << 20
"""Room for so many, each with every field."""


class Rejection(BaseModel):
    """A reading of the request that was not taken."""

    position: int = Field(description="Its place in the request, from 0.")
    reason: str


class ReadingsAnswer(BaseModel):
    accepted: int = Field(description="Readings that Kafka has confirmed.")
    rejected: list[Rejection]


@router.post(
    "/subjects/{subject_id}/readings",
    status_code=202,
    response_model=ReadingsAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": 'One reading, a list of them, or {"readings": [...]}; `subject_id` may be left out.',
            "content": {
                "application/json": {"example": {"time": "2026-01-01T08:00:00+01:00", "glucose": 6.4, "unit": "mmol/L"}}
            },
        }
    },
)
@access("key", body_bytes=READINGS_BODY_BYTES)
async def publish_readings(request: Request, uses: Uses, subject_id: Subject) -> Any:
    """Publish one or many readings; answers when Kafka has confirmed them. Each of them is judged alone."""
    items = _items(await request.body())
    readings, rejected = [], []
    for position, item in enumerate(items):
        try:
            readings.append(_reading(subject_id, item))
        except RejectedError as error:
            rejected.append(Rejection(position=position, reason=str(error)))
    if not readings:
        return problem(
            422, rejected[0].reason if len(rejected) == 1 else f"none of {len(rejected)} readings was accepted",
            "rejected", rejected=[item.model_dump() for item in rejected],
        )  # fmt: skip
    await while_connected(request, uses.submit.publish_readings(readings))
    return ReadingsAnswer(accepted=len(readings), rejected=rejected)


def _items(body: bytes) -> list[Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RejectedError("the body is not JSON") from None
    if isinstance(document, dict) and isinstance(document.get("readings"), list):
        document = document["readings"]
    items = document if isinstance(document, list) else [document]
    if not items:
        raise RejectedError("the request holds no reading")
    if len(items) > MOST_READINGS:
        raise RejectedError(f"{len(items)} readings in one request; send at most {MOST_READINGS}")
    return items


def _reading(subject_id: str, item: Any) -> Reading:
    if not isinstance(item, dict):
        raise RejectedError("a reading is an object with time and glucose")
    if item.get("subject_id", subject_id) != subject_id:
        raise RejectedError("subject_id differs from the one in the path")
    try:
        reading = Reading.model_validate_json(orjson.dumps({**item, "subject_id": subject_id}))
    except ValidationError as error:
        reasons = [
            f"{'.'.join(map(str, it['loc'])) or 'reading'}: {it['msg']}" for it in error.errors(include_input=False)[:3]
        ]
        raise RejectedError("; ".join(reasons)) from None
    if not LOWEST_SENSOR_MGDL <= reading.glucose_mgdl <= HIGHEST_MGDL:
        raise RejectedError(
            f"glucose outside {LOWEST_SENSOR_MGDL:.0f} to {HIGHEST_MGDL:.0f} mg/dL is impossible or a sensor's error "
            "code; check unit (mg/dL or mmol/L)"
        )
    return reading


@router.get("/subjects")
@access("key")
async def subjects(uses: Uses) -> dict[str, list[str]]:
    """Up to 100 subjects with a forecast, the most recent first."""
    return {"subjects": uses.read_model.fan_charts.subjects()}


@router.get("/subjects/{subject_id}/forecast", response_class=Response)
@access("key")
async def forecast(
    uses: Uses,
    subject_id: Subject,
    unit: InUnit = "mg/dL",
    curves: Annotated[
        bool, Query(description="Also the density at each target time, and that of the draws alone.")
    ] = False,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The present forecast, with its age. 404 says why there is none, and what brings the next."""
    found = _present(uses, subject_id)
    tag = _tag(found.row, unit, *(["curves"] if curves else []))
    if if_none_match == tag:
        return Response(status_code=304, headers={"ETag": tag})
    answer = document(found.row.chart, unit, curves) | found.fields()
    return Response(orjson.dumps(answer), media_type="application/json", headers={"ETag": tag})


@router.get(
    "/subjects/{subject_id}/forecast/plot",
    response_class=Response,
    responses={200: {"content": {media_type: {} for media_type in SUBJECT_TYPES}}},
)
@access("key")
async def forecast_plot(
    request: Request,
    uses: Uses,
    subject_id: Subject,
    unit: InUnit = "mg/dL",
    epistemic: Annotated[
        bool, Query(description="Only what the model does not know: the spread of its draws.")
    ] = False,
    accept: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The present forecast drawn: PNG, SVG or the Plotly figure, as `Accept` says."""
    media_type = preferred(accept, SUBJECT_TYPES)
    if media_type is None:
        raise HTTPException(406, f"plots come as {', '.join(SUBJECT_TYPES)}")
    row = _present(uses, subject_id).row
    fan: Literal["total", "epistemic"] = "epistemic" if epistemic else "total"
    tag = _tag(row, unit, fan, media_type)
    headers = {"ETag": tag, "Vary": "Accept"}
    if if_none_match == tag:
        return Response(status_code=304, headers=headers)
    drawn = uses.plots.plot(row, Style(unit, fan), media_type)
    return Response(await while_connected(request, drawn), media_type=media_type, headers=headers)


@router.get("/subjects/{subject_id}/forecasts")
@access("key")
async def forecasts(
    request: Request,
    uses: Uses,
    subject_id: Subject,
    first: Annotated[datetime.datetime | None, Query(alias="from", description="Earliest last known point.")] = None,
    last: Annotated[datetime.datetime | None, Query(alias="to", description="Latest last known point.")] = None,
    limit: Annotated[int, Query(ge=1, le=288)] = 24,
    unit: InUnit = "mg/dL",
) -> Response:
    """The kept forecasts in order of their last known point; `next` leads to the following page, if there is one."""
    rows = uses.read_model.fan_charts.history(subject_id, _seconds(first), _seconds(last))
    page, rest = rows[:limit], rows[limit:]
    following = None
    if rest:
        start = datetime.datetime.fromtimestamp(rest[0].issue_seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        following = str(request.url.include_query_params(**{"from": start}))
    answer = {
        "subject_id": subject_id,
        "forecasts": [orjson.Fragment(_json(row, unit)) for row in page],
        "next": following,
    }
    return Response(orjson.dumps(answer), media_type="application/json")


def _present(uses: Services, subject_id: str) -> Present:
    row = uses.read_model.fan_charts.latest(subject_id)
    if row is not None:
        newest, now = uses.read_model.readings.newest(subject_id), datetime.datetime.now(datetime.UTC)
        return present(row, newest, now, datetime.timedelta(seconds=uses.settings.max_clock_skew_seconds))
    if not uses.follower.caught_up:
        raise UnavailableError("this replica is still reading what Kafka holds; try again")
    outcome = uses.read_model.readings.latest(subject_id)
    if outcome is None:
        raise NoForecastError("no readings of this subject have arrived: publish some")
    raise NoForecastError(f"no forecast yet: {outcome.reason or 'the first one is being computed'}")


def _json(row: ChartRow, unit: Unit) -> bytes:
    return row.chart.to_json() if unit == "mg/dL" else orjson.dumps(document(row.chart, unit, curves=False))


def _tag(row: ChartRow, *style: str) -> str:
    return f'"{row.chart_id[:32]}-{"-".join(style).replace("/", ".")}"'


def _seconds(time: datetime.datetime | None) -> int | None:
    if time is None:
        return None
    return int((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp())
