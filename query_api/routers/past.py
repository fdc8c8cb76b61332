"""What was: a subject's readings, and each forecast of the past beside what came of it."""

import datetime
import itertools
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from query_api.access import access
from query_api.figure import figure
from query_api.past_forecast import past_forecast
from query_api.projections.measured import decoded
from query_api.routers.drawing import Figure, InStyle, InUnit
from query_api.routers.subjects import Moment, ShownChart, Subject, Uses
from query_api.style import Style
from query_api.units import document
from schemas.errors import NoForecastError
from schemas.reading import Unit

router = APIRouter(tags=["subjects"])

MOST_READINGS = 2880
"""Two days of one a minute: of fewer the page drew the last hours of such a sensor, and nothing before them."""

PastTime = Annotated[Moment, Path(description="The last kept forecast whose last known point is not after it.")]


class ShownReading(BaseModel):
    time: datetime.datetime
    glucose: float


class KeptReadings(BaseModel):
    subject_id: str
    unit: Unit
    readings: list[ShownReading] = Field(description="Accepted ones of the last two days, oldest first.")


@router.get("/subjects/{subject_id}/readings")
@access("key", scope="read", whose="path")
async def readings(
    uses: Uses,
    subject_id: Subject,
    first: Annotated[Moment | None, Query(alias="from", description="The earliest.")] = None,
    last: Annotated[Moment | None, Query(alias="to", description="The latest.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_READINGS, description="The newest so many.")] = 288,
    unit: InUnit = "mg/dL",
) -> KeptReadings:
    """The readings as they were sent."""
    begin, style = None if first is None else _aware(first), Style(unit)
    end = None if last is None else _aware(last)
    rows = list(itertools.islice(uses.read_model.readings.measured.rows(subject_id, end), limit + 1))

    def shown() -> list[ShownReading]:
        newest_first = itertools.islice(decoded(rows, end), limit)  # a row knows its time to half a minute
        found = itertools.takewhile(lambda reading: begin is None or reading.time >= begin, newest_first)
        return [ShownReading(time=each.time, glucose=style.number(each.glucose_mgdl)) for each in found]

    found = await run_in_threadpool(shown)  # thousands take long to decode
    return KeptReadings(subject_id=subject_id, unit=unit, readings=found[::-1])


class PastAnswer(BaseModel):
    """A forecast of the past, and where those before and after it are."""

    earlier: datetime.datetime | None = Field(description="The last known point of the kept forecast before.")
    later: datetime.datetime | None
    forecast: ShownChart = Field(description="With the truth as it is known now, in the unit that was asked for.")


@router.get("/subjects/{subject_id}/forecasts/{time}", response_class=Response, responses={200: {"model": PastAnswer}})
@access("key", scope="read", whose="path", raises=(NoForecastError,))
async def forecast_then(uses: Uses, subject_id: Subject, time: PastTime, unit: InUnit = "mg/dL") -> Response:
    """A forecast of the past and what came of it: `truth_mgdl` has the readings of its target times."""
    found = past_forecast(uses.read_model, subject_id, _aware(time))
    answer = {
        "earlier": found.earlier and found.earlier.isoformat(),
        "later": found.later and found.later.isoformat(),
        "forecast": document(found.chart, unit, curves=False),
    }
    return Response(orjson.dumps(answer), media_type="application/json")


@router.get("/subjects/{subject_id}/forecasts/{time}/plot", response_class=Response, responses={200: {"model": Figure}})
@access("key", scope="read", whose="path", raises=(NoForecastError,))
async def forecast_then_plot(uses: Uses, subject_id: Subject, time: PastTime, style: InStyle) -> Response:
    """The same as a Plotly figure."""
    shown = figure(past_forecast(uses.read_model, subject_id, _aware(time)).chart, style)
    return Response(orjson.dumps(shown), media_type="application/json")


def _aware(time: datetime.datetime) -> datetime.datetime:
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
