"""Subjects: readings in, forecasts of the next hour out."""

import asyncio
import dataclasses
import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from agents.core.fingerprint import owner_of
from query_api import saved_handles
from query_api.absence import Absence, OrReason, absence
from query_api.access import access
from query_api.callers import key_of
from query_api.conditional import UNCHANGED, KnownTags, holds, tagged
from query_api.known_answers import remember
from query_api.paging import PAGED, next_page
from query_api.plots import MediaType
from query_api.present import HEADERS, Present
from query_api.projections.fan_charts import ChartRow
from query_api.routers.drawing import PICTURES, AsType, Figure, InStyle, InUnit
from query_api.scorecard import Scorecard
from query_api.services import Services, services_of, while_connected
from query_api.style import Style
from query_api.subject_forecast import forecast_of
from query_api.subject_scores import scores_of
from query_api.units import document
from schemas.errors import NoForecastError, OverloadedError, UnavailableError
from schemas.reading import Unit
from schemas.record import SubjectId
from streams.subjects import Remains, remains

router = APIRouter(tags=["subjects"])
Uses = Annotated[Services, Depends(services_of)]
Subject = Annotated[SubjectId, Path(description="Whose glucose it is, as the integration names them.")]


def _no_number(text: object) -> object:
    """A bare number would be taken for seconds since 1970, or for milliseconds, by its size."""
    if isinstance(text, str) and not {"-", ":"} & {*text[1:]}:
        raise ValueError("a date and time as RFC 3339 has it, like 2026-01-01T08:00:00Z")
    return text


Moment = Annotated[datetime.datetime, BeforeValidator(_no_number)]


class ShownChart(BaseModel):
    """A FanChart (schemas/json). In mmol/L the names of glucose fields end in `_mmoll` and `unit` says so.

    Numbers are one a target time; quantiles one row a level.
    """

    model_config = ConfigDict(extra="allow")
    chart_id: str
    subject_id: str
    model: str
    simulated: bool
    issue_time: datetime.datetime = Field(description="Time of the last known point.")
    first_target_time: datetime.datetime
    step_seconds: int
    past_mgdl: list[float] = []
    median_mgdl: list[float] = []
    quantile_levels: list[float] = Field(description="Beside the median.")
    quantiles_mgdl: list[list[float]] = []
    p_below_54: list[float]
    p_below_70: list[float]
    p_above_180: list[float]
    p_above_250: list[float]
    disclaimer: str


class ForecastAnswer(ShownChart):
    """A FanChart (schemas/json) and its age. In mmol/L the names of glucose fields end in `_mmoll` and `unit` says so.

    Numbers are one a target time; quantiles one row a level.
    """

    age_seconds: int
    valid_until: datetime.datetime
    newest_reading_time: datetime.datetime | None


class HistoryAnswer(BaseModel):
    subject_id: str
    forecasts: list[ShownChart]
    next: str | None = Field(description="The address of the following page.")


class ResetAnswer(BaseModel):
    message: str


@router.delete("/subjects/{subject_id}/window")
@access("key", scope="admin", whose="path", audit="reset", raises=(UnavailableError,))
async def reset_window(uses: Uses, subject_id: Subject) -> ResetAnswer:
    """Let a subject begin anew: what is remembered of earlier readings goes, and the forecasts that were made of them.

    For a subject whom a reading of a wrong clock, accepted far in the future, keeps from forecasts. Answers when the
    worker has confirmed it; asked again it changes nothing more. Readings that shall count are published again.
    """
    await uses.submit.reset_subject(subject_id)
    return ResetAnswer(message="the subject begins anew: a forecast needs 8 h of readings from here on")


class EraseAnswer(BaseModel):
    message: str
    remains: list[Remains] = Field(description="Topics that keep records of the subject, and until when at the latest.")


@router.delete("/subjects/{subject_id}")
@access("key", scope="admin", whose="path", audit="erase", raises=(UnavailableError,))
async def erase(uses: Uses, subject_id: Subject) -> EraseAnswer:
    """Erase a subject: readings, forecasts, uploads with keys for them alone, and the name, everywhere but on topics.

    Answers when the worker has confirmed it. Topics keep records until they expire. Whoever publishes a reading of the
    subject afterwards begins anew: revoke the keys of its senders first.
    """
    try:
        await uses.submit.erase_subject(subject_id)
    finally:  # also where nobody has confirmed it yet: an order goes on, and this is a part of it
        await asyncio.to_thread(saved_handles.forget, uses.parquet_dir, owner_of([subject_id]))
    return EraseAnswer(
        message="the subject is erased from all tables", remains=remains(datetime.datetime.now(datetime.UTC))
    )


class SubjectsAnswer(BaseModel):
    subjects: list[str]


@router.get("/subjects")
@access("key", scope="read", whose="own")
async def subjects(request: Request, uses: Uses) -> SubjectsAnswer:
    """Up to 100 subjects with a forecast, the most recent first; for a key of single people these alone."""
    key = key_of(request)
    return SubjectsAnswer(subjects=uses.read_model.fan_charts.subjects(None if key is None else key.subjects))


@router.get(
    "/subjects/{subject_id}/forecast",
    response_class=Response,
    responses={200: {"model": ForecastAnswer | Absence}, **UNCHANGED},
)
@access("key", scope="read", whose="path", raises=(NoForecastError, UnavailableError))
async def forecast(
    uses: Uses,
    subject_id: Subject,
    unit: InUnit = "mg/dL",
    curves: Annotated[
        bool, Query(description="Also the density at each target time, and that of the draws alone.")
    ] = False,
    or_reason: OrReason = False,
    tags: KnownTags = None,
) -> Response:
    """The present forecast, with its age. 404 says why there is none, and what brings the next."""
    try:
        found = forecast_of(uses, subject_id)
    except NoForecastError as error:
        return _without_one(error, or_reason)
    # Weak: the age in the body goes on by the second, and the tag by the minute, so that none who keeps it shows an
    # old one.
    tag = "W/" + _tag(found.row, unit, *(["curves"] if curves else []), found.moment)
    if holds(tags, tag):
        return Response(status_code=304, headers=tagged(tag))
    answer = document(found.row.chart, unit, curves) | found.fields()
    return Response(orjson.dumps(answer), media_type="application/json", headers=tagged(tag))


def _without_one(error: NoForecastError, or_reason: bool) -> Response:
    """The reason with 200, for who asks for it; else raises it again."""
    if not or_reason:
        raise error
    return Response(absence(error).model_dump_json(), media_type="application/json")


_PRESENT_HEADERS = {
    name: {"description": f"{text} RFC 3339, UTC.", "schema": {"type": "string", "format": "date-time"}}
    for name, text in HEADERS.items()
}
_PLOT: dict[int | str, dict[str, Any]] = {
    200: PICTURES[200] | {"headers": _PRESENT_HEADERS, "model": Figure | Absence},
    304: {"description": "It is the one that `If-None-Match` names.", "headers": _PRESENT_HEADERS},
}


@router.get(
    "/subjects/{subject_id}/forecast/plot",
    response_class=Response,
    responses=_PLOT,
)
@access("key", scope="read", whose="path", raises=(406, NoForecastError, UnavailableError, OverloadedError))
async def forecast_plot(
    request: Request,
    uses: Uses,
    subject_id: Subject,
    style: InStyle,
    media_type: AsType,
    epistemic: Annotated[
        bool, Query(description="Only what the model does not know: the spread of its draws.")
    ] = False,
    age: Annotated[bool, Query(description="Write on it when it was drawn, and how old the data were then.")] = False,
    or_reason: OrReason = False,
    tags: KnownTags = None,
) -> Response:
    """The present forecast drawn: PNG, SVG, WebP or the Plotly figure, as `Accept` or `format` says.

    It says of when it is and until when it holds; so do its headers.
    """
    fan: Literal["total", "epistemic"] = "epistemic" if epistemic else "total"
    wanted = _Plot(subject_id, dataclasses.replace(style, fan=fan), age, media_type)
    try:
        found = forecast_of(uses, subject_id)
    except NoForecastError as error:
        return _without_one(error, or_reason)
    drawn = wanted.of(found)
    if holds(tags, drawn.tag):
        return drawn.unchanged()
    data = await while_connected(request, uses.plots.plot(drawn.of.row, drawn.style, media_type))
    remember(request, wanted)
    return drawn.answer(data)


@dataclasses.dataclass(frozen=True, slots=True)
class _Plot:
    """A plot of a subject's present forecast, for whoever asks for it with the same words."""

    subject_id: str
    style: Style
    tells_age: bool
    media_type: MediaType

    def of(self, found: Present) -> "_Drawn":
        """As it is now."""
        minutes = found.age_seconds // 60 if self.tells_age else None
        style = dataclasses.replace(self.style, age_minutes=minutes, valid_until=found.valid_until)
        return _Drawn(found, style, self.media_type)

    def answer(self, uses: Services, tags: str | None) -> Response | None:
        try:
            drawn = self.of(forecast_of(uses, self.subject_id))
        except (NoForecastError, UnavailableError):
            return None  # the route says why
        if holds(tags, drawn.tag):
            return drawn.unchanged()
        data = uses.plots.drawn(drawn.of.row, drawn.style, self.media_type)
        return None if data is None else drawn.answer(data)


@dataclasses.dataclass(frozen=True, slots=True)
class _Drawn:
    """The present forecast in one style."""

    of: Present
    style: Style
    media_type: MediaType

    @property
    def tag(self) -> str:
        return _tag(self.of.row, self.style.key, self.media_type)

    def unchanged(self) -> Response:
        return Response(status_code=304, headers=self._headers())

    def answer(self, data: bytes) -> Response:
        return Response(data, media_type=self.media_type, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        return tagged(self.tag) | {"Vary": "Accept", **self.of.headers()}


@router.get(
    "/subjects/{subject_id}/forecasts",
    response_class=Response,
    responses={200: {"model": HistoryAnswer, "headers": PAGED}},
)
@access("key", scope="read", whose="path")
async def forecasts(
    request: Request,
    uses: Uses,
    subject_id: Subject,
    first: Annotated[Moment | None, Query(alias="from", description="Earliest last known point.")] = None,
    last: Annotated[Moment | None, Query(alias="to", description="Latest last known point.")] = None,
    limit: Annotated[int, Query(ge=1, le=288)] = 24,
    unit: InUnit = "mg/dL",
) -> Response:
    """The kept forecasts in order of their last known point.

    `next`, and the header `Link`, lead to the following page, if there is one.
    """
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
    return Response(orjson.dumps(answer), media_type="application/json", headers=next_page(following))


@router.get("/subjects/{subject_id}/scores")
@access("key", scope="read", whose="path", raises=(NoForecastError, UnavailableError))
async def scores(uses: Uses, subject_id: Subject, or_reason: OrReason = False) -> Scorecard | Absence:
    """How the forecasts of the last 1, 7 and 14 days did against what was measured. 404 says why nothing is known."""
    try:
        return scores_of(uses, subject_id)
    except NoForecastError as error:
        if not or_reason:
            raise
        return absence(error)


def _json(row: ChartRow, unit: Unit) -> bytes:
    return row.chart.to_json() if unit == "mg/dL" else orjson.dumps(document(row.chart, unit, curves=False))


def _tag(row: ChartRow, *style: str) -> str:
    return f'"{row.digest}-{"-".join(style).replace("/", ".")}"'


def _seconds(time: datetime.datetime | None) -> int | None:
    if time is None:
        return None
    return int((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp())
