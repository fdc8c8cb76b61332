"""What a subject's glucose was: a day with the forecasts that were made in it, and the report of some weeks."""

import datetime
import hashlib
from html import escape
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from query_api.access import access
from query_api.day_figure import day_figure
from query_api.day_view import DayView, day_view
from query_api.report.answer import ReportAnswer, answer_of
from query_api.report.numbers import Report, report_of, source_of
from query_api.report.page import page
from query_api.routers.drawing import PICTURES, AsType, InStyle, InUnit, InZone, checked, one_of
from query_api.routers.subjects import Subject, Uses
from query_api.services import Services, while_connected
from query_api.style import Style
from schemas.errors import NoReadingsError, OverloadedError, RejectedError, UnavailableError
from schemas.fan_chart import DISCLAIMER
from schemas.reading import Unit

router = APIRouter(tags=["reports"])

Date = Annotated[
    datetime.date | None,
    Query(description="A day on the clock of `timezone`. Without it 24 h up to the newest reading."),
]
Every = Annotated[int, Query(ge=15, le=240, description="Minutes from one of the shown forecasts to the next.")]

ReportType = Literal["application/json", "text/html", "application/pdf"]
REPORT_TYPES: tuple[ReportType, ...] = get_args(ReportType)
_BY_NAME: dict[str, ReportType] = {"json": "application/json", "html": "text/html", "pdf": "application/pdf"}
_RAISES = (NoReadingsError, RejectedError, UnavailableError)


class DayReading(BaseModel):
    """A reading at the nearest five minutes of the clock."""

    time: datetime.datetime
    glucose: float


class DayForecast(BaseModel):
    """A forecast as it was made then: a number a target time, five minutes apart."""

    chart_id: str
    issue_time: datetime.datetime
    first_target_time: datetime.datetime
    step_seconds: int
    median: list[float]
    quantile_levels: list[float]
    quantiles: list[list[float]] = Field(description="By level, then by target time.")


class DayAnswer(BaseModel):
    """What was measured, and the forecasts that were made on the way, as far as they are kept."""

    subject_id: str
    unit: Unit = Field(description="Of every glucose value here.")
    start: datetime.datetime
    end: datetime.datetime
    readings: list[DayReading]
    forecasts: list[DayForecast]
    simulated: bool
    disclaimer: str = DISCLAIMER


@router.get("/subjects/{subject_id}/day")
@access("key", scope="read", whose="path", raises=_RAISES)
async def day(
    uses: Uses,
    subject_id: Subject,
    date: Date = None,
    timezone: InZone = None,
    every: Every = 60,
    unit: InUnit = "mg/dL",
) -> DayAnswer:
    """A day: readings as they were measured, and one forecast an hour as it was made then. 404 where there are none."""
    style = checked(Style(unit, timezone=timezone))
    view = _view(uses, subject_id, date, timezone, every)
    return DayAnswer(
        subject_id=subject_id,
        unit=unit,
        start=view.start,
        end=view.end,
        readings=[DayReading(time=time, glucose=style.number(value)) for time, value in view.readings],
        forecasts=[
            DayForecast(
                chart_id=chart.chart_id,
                issue_time=style.clock(chart.issue_time),
                first_target_time=style.clock(chart.first_target_time),
                step_seconds=chart.step_seconds,
                median=list(map(style.number, chart.median_mgdl)),
                quantile_levels=list(chart.quantile_levels),
                quantiles=[list(map(style.number, row)) for row in chart.quantiles_mgdl],
            )
            for chart in view.forecasts
        ],
        simulated=view.simulated,
    )


@router.get("/subjects/{subject_id}/day/plot", response_class=Response, responses=PICTURES)
@access("key", scope="read", whose="path", raises=(406, OverloadedError, *_RAISES))
async def day_plot(
    request: Request,
    uses: Uses,
    subject_id: Subject,
    style: InStyle,
    media_type: AsType,
    date: Date = None,
    every: Every = 60,
) -> Response:
    """The same drawn: PNG, SVG, WebP or the Plotly figure, as `Accept` or `format` says."""
    view = _view(uses, subject_id, date, style.timezone, every)
    name = f"day/{subject_id}/{view.name}"
    drawn = uses.plots.picture(name, lambda: day_figure(view, style), style, media_type)
    return Response(await while_connected(request, drawn), media_type=media_type, headers={"Vary": "Accept"})


def _view(uses: Services, subject_id: str, date: datetime.date | None, timezone: str | None, every: int) -> DayView:
    try:
        return day_view(uses.read_model, subject_id, date, timezone, every)
    except NoReadingsError:
        _check_caught_up(uses)
        raise


def _check_caught_up(uses: Services) -> None:
    """Whoever has not read everything cannot say that there is nothing. Raises `UnavailableError`."""
    if not uses.follower.caught_up:
        raise UnavailableError("this replica is still reading what Kafka holds; try again")


@router.get(
    "/subjects/{subject_id}/report",
    response_model=ReportAnswer,
    responses={
        200: {
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "application/pdf": {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
)
@access("key", scope="read", whose="path", raises=(406, OverloadedError, *_RAISES))
async def report(
    request: Request,
    uses: Uses,
    subject_id: Subject,
    days: Annotated[int, Query(ge=1, le=90, description="Of how many days; what is kept of them is covered.")] = 14,
    timezone: InZone = None,
    unit: InUnit = "mg/dL",
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    format: Annotated[
        Literal["json", "html", "pdf"] | None, Query(description="Instead of `Accept`, for links.")
    ] = None,
) -> Response:
    """Some weeks of glucose for people: times in ranges, the profile of a day, and how the forecasts did.

    JSON, a page to print, or a PDF, as `Accept` or `format` says. Up to the newest reading, of as many days as are kept
    (`GLUCAST_REPORT_DAYS`); it says which, and whether they are enough for conclusions.
    """
    media_type = one_of(accept, None if format is None else _BY_NAME[format], REPORT_TYPES)
    checked(Style(timezone=timezone))
    _check_caught_up(uses)
    source, now = source_of(uses.read_model, subject_id, timezone), datetime.datetime.now(datetime.UTC)

    def made() -> tuple[Report, bytes]:
        found = report_of(source, days, timezone, now)
        if media_type == "application/json":
            return found, answer_of(found, unit).model_dump_json().encode()
        return found, page(found, unit).encode()

    found, data = await run_in_threadpool(made)
    if media_type == "application/pdf":
        key = f"pdf/{hashlib.sha256(data).hexdigest()}"
        foot = escape(f"{found.subject_id}  ·  {found.start:%Y-%m-%d} to {found.end:%Y-%m-%d}  ·  {DISCLAIMER}")
        data = await while_connected(request, uses.images.document(key, data.decode(), foot))
    return Response(data, media_type=media_type, headers={"Vary": "Accept"} | _named(found, media_type))


def _named(found: Report, media_type: ReportType) -> dict[str, str]:
    """Under which name a browser keeps it."""
    if media_type != "application/pdf":
        return {}
    return {"Content-Disposition": f'inline; filename="glucose-report-{found.end:%Y-%m-%d}.pdf"'}
