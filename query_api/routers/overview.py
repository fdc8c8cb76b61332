"""All people at a glance: the latest value, its trend, what the next hour may bring."""

import datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from agents.core.directions import direction_of
from query_api.access import access
from query_api.callers import key_of
from query_api.routers.subjects import Uses
from query_api.services import Services
from query_api.subject_forecast import forecast_of
from schemas.alert import AlertKind
from schemas.errors import NoForecastError, UnavailableError
from schemas.fan_chart import DISCLAIMER, FanChart

router = APIRouter(tags=["subjects"])

MOST_SUBJECTS = 100


class NewestReading(BaseModel):
    time: datetime.datetime
    glucose_mgdl: float = Field(description="mg/dL, as everything here.")
    direction: str = Field(description="As Nightscout names trends: the sensor's own, else from the reading before.")
    simulated: bool


class Outlook(BaseModel):
    """The present forecast in short. Chances are of any time within the next hour."""

    issue_time: datetime.datetime
    valid_until: datetime.datetime
    median_60_mgdl: float
    p_below_70: float
    p_above_180: float


class Glance(BaseModel):
    subject_id: str
    reading: NewestReading | None
    forecast: Outlook | None = Field(description="None where no forecast holds now.")
    holding: list[AlertKind] = Field(description="Alerts whose episode has not ended.")


class Overview(BaseModel):
    subjects: list[Glance] = Field(description="Whose reading is the newest comes first.")
    disclaimer: str = DISCLAIMER


@router.get("/overview")
@access("key", scope="read", whose="own")
async def overview(request: Request, uses: Uses) -> Overview:
    """Up to 100 people: latest value, trend, what the next hour may bring. For a key of single people, of these."""
    key = key_of(request)
    among = None if key is None else key.subjects
    model = uses.read_model
    known = [*model.fan_charts.subjects(among, MOST_SUBJECTS), *model.readings.subjects(among, MOST_SUBJECTS)]
    glances = [_glance(uses, subject_id) for subject_id in [*dict.fromkeys(known)][:MOST_SUBJECTS]]
    never = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    newest_first = sorted(glances, key=lambda each: each.reading.time if each.reading else never, reverse=True)
    return Overview(subjects=newest_first)


def _glance(uses: Services, subject_id: str) -> Glance:
    rows = uses.read_model.readings.measured.newest_first(subject_id)
    newest = [reading for _, reading in zip(range(2), rows, strict=False)]
    reading = None
    if newest:
        reading = NewestReading(
            time=newest[0].time, glucose_mgdl=round(newest[0].glucose_mgdl, 1), direction=direction_of(newest),
            simulated=newest[0].simulated,
        )  # fmt: skip
    return Glance(
        subject_id=subject_id,
        reading=reading,
        forecast=_outlook(uses, subject_id),
        holding=list(uses.read_model.alerts.of(subject_id).episodes),
    )


def _outlook(uses: Services, subject_id: str) -> Outlook | None:
    try:
        found = forecast_of(uses, subject_id)
    except (NoForecastError, UnavailableError):
        return None
    chart = found.row.chart
    low, high = within_the_hour(chart)
    return Outlook(
        issue_time=chart.issue_time, valid_until=found.valid_until, median_60_mgdl=chart.median_mgdl[-1],
        p_below_70=low, p_above_180=high,
    )  # fmt: skip


def within_the_hour(chart: FanChart) -> tuple[float, float]:
    """P(< 70 mg/dL) and P(> 180 mg/dL) at any time of it; where that was not computed, at the worst step."""
    if chart.p_path is not None:
        return chart.p_path.below_70[-1], chart.p_path.above_180[-1]
    return max(chart.p_below_70), max(chart.p_above_180)
