"""All people at a glance: the latest value, its trend, what the next hour may bring."""

import datetime
from collections.abc import Iterator, Sequence

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from agents.core.directions import direction_of, with_before
from agents.core.sources import longest_silence
from query_api.access import access
from query_api.callers import key_of
from query_api.routers.subjects import Uses
from query_api.services import Services
from query_api.subject_forecast import forecast_of
from query_api.told_alerts import HOLDING, HOLDING_UNTIL, holding, known_ends
from schemas.alert import AlertKind
from schemas.errors import NoForecastError, UnavailableError
from schemas.fan_chart import DISCLAIMER
from schemas.reading import Reading
from schemas.sources import SourcePolicy

router = APIRouter(tags=["subjects"])

MOST_SUBJECTS = 100


class NewestReading(BaseModel):
    time: datetime.datetime
    glucose_mgdl: float = Field(description="mg/dL, as everything here.")
    direction: str = Field(description="As Nightscout names trends: the sensor's own, else from the reading before.")
    simulated: bool
    device: str | None


class Outlook(BaseModel):
    """The present forecast in short. Chances are of any time within the next hour."""

    issue_time: datetime.datetime = Field(description="Time of the last known point.")
    age_seconds: int
    valid_until: datetime.datetime
    median_60_mgdl: float
    p_below_70: float
    p_above_180: float


class Glance(BaseModel):
    subject_id: str
    reading: NewestReading | None
    forecast: Outlook | None = Field(description="None where no forecast holds now.")
    holding: list[AlertKind] = Field(description=HOLDING)
    holding_until: dict[AlertKind, datetime.datetime] = Field(description=HOLDING_UNTIL)


class Overview(BaseModel):
    subjects: list[Glance] = Field(description="Whose reading is the newest comes first.")
    more: int = Field(description="People beside those, whose forecasts and readings are older.")
    disclaimer: str = DISCLAIMER


@router.get("/overview")
@access("key", scope="read", whose="own")
async def overview(request: Request, uses: Uses) -> Overview:
    """Up to 100 people: latest value, trend, what the next hour may bring. For a key of single people, of these.

    Of more people those of the latest forecasts and readings; `more` says how many are left out.
    """
    key = key_of(request)
    among = None if key is None else key.subjects
    model = uses.read_model
    read, unread = model.readings.subjects(among, MOST_SUBJECTS)
    known = [*dict.fromkeys([*model.fan_charts.subjects(among, MOST_SUBJECTS), *read])]
    glances = [_glance(uses, subject_id) for subject_id in known[:MOST_SUBJECTS]]
    never = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    newest_first = sorted(glances, key=lambda each: each.reading.time if each.reading else never, reverse=True)
    return Overview(subjects=newest_first, more=max(len(read) + unread, len(known)) - len(glances))


def _glance(uses: Services, subject_id: str) -> Glance:
    newest = newest_heard(
        uses.read_model.readings.measured.newest_first(subject_id), uses.read_model.sources.of(subject_id).policy
    )
    reading = None
    if newest:
        reading = NewestReading(
            time=newest[0].time, glucose_mgdl=round(newest[0].glucose_mgdl, 1), direction=direction_of(newest),
            simulated=newest[0].simulated, device=newest[0].device,
        )  # fmt: skip
    holds = holding(uses.read_model.alerts.of(subject_id), uses.read_model.fan_charts.latest(subject_id))
    return Glance(
        subject_id=subject_id,
        reading=reading,
        forecast=_outlook(uses, subject_id),
        holding=list(holds),
        holding_until=known_ends(holds),
    )


def newest_heard(newest_first: Iterator[Reading], policy: SourcePolicy) -> Sequence[Reading]:
    """The newest reading, and those before it; of a preferred device, where that spoke within the wait."""
    each_with_before = with_before(newest_first)
    newest = next(each_with_before, ())
    if not newest or policy.preferred_device in (None, newest[0].device):
        return newest
    wait = longest_silence(policy.wait_minutes)
    for older in each_with_before:
        if newest[0].time - older[0].time > wait:
            break
        if older[0].device == policy.preferred_device:
            return older
    return newest


def _outlook(uses: Services, subject_id: str) -> Outlook | None:
    try:
        found = forecast_of(uses, subject_id)
    except (NoForecastError, UnavailableError):
        return None
    chart = found.row.chart
    low, high = chart.within_hour
    return Outlook(
        issue_time=chart.issue_time, age_seconds=found.age_seconds, valid_until=found.valid_until,
        median_60_mgdl=chart.median_mgdl[-1], p_below_70=low, p_above_180=high,
    )  # fmt: skip
