"""All people at a glance: the latest value, its trend, what the next hour may bring."""

import datetime
from collections.abc import Iterator, Sequence

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from agents.core.directions import direction_of, with_before
from agents.core.rolling_window import slot_time
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
from schemas.reading import Reading, ReadingOutcome
from schemas.sources import SourcePolicy

router = APIRouter(tags=["subjects"])

MOST_SUBJECTS = 100


class EarlierReading(BaseModel):
    time: datetime.datetime
    glucose_mgdl: float


class NewestReading(BaseModel):
    time: datetime.datetime
    glucose_mgdl: float = Field(description="mg/dL, as everything here.")
    direction: str = Field(description="As Nightscout names trends: the sensor's own, else from those before.")
    simulated: bool
    device: str | None
    before: list[EarlierReading] = Field(
        description="Of its device in the quarter of an hour before it, the newest first: the trend is told from these."
    )
    without_forecast: bool = Field(
        description="No forecast was made of it, and none of a reading before it is the present one."
    )


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
    withheld_times: list[datetime.datetime] = Field(
        description="Last known points of windows whose forecasts hold no more, also where one comes late."
    )
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
    forecast = _outlook(uses, subject_id)
    reading = None
    if newest:
        is_without = forecast is None and _is_without(uses.read_model.readings.newest(subject_id), newest[0].time)
        reading = NewestReading(
            time=newest[0].time, glucose_mgdl=round(newest[0].glucose_mgdl, 1), direction=direction_of(newest),
            simulated=newest[0].simulated, device=newest[0].device,
            before=[
                EarlierReading(time=each.time, glucose_mgdl=round(each.glucose_mgdl, 1))
                for each in newest[1:] if each.device == newest[0].device
            ],
            without_forecast=is_without,
        )  # fmt: skip
    holds = holding(uses.read_model.alerts.of(subject_id), uses.read_model.fan_charts.latest(subject_id))
    return Glance(
        subject_id=subject_id,
        reading=reading,
        forecast=forecast,
        withheld_times=[
            slot_time(end, 0) for each in uses.read_model.readings.corrections.of(subject_id) for end in each.waiting
        ],
        holding=list(holds),
        holding_until=known_ends(holds),
    )


def _is_without(newest: ReadingOutcome | None, time: datetime.datetime) -> bool:
    return newest is not None and newest.status == "no_forecast" and newest.time is not None and newest.time >= time


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
