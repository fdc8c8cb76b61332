"""A day of a subject: what was measured, and beside it the forecasts as they were made then."""

import dataclasses
import datetime
import hashlib
from collections.abc import Sequence

import orjson

from agents.core.local_time import zone
from query_api.figure import band
from query_api.projections.fan_charts import ChartRow
from query_api.projections.glucose_days import History, time_of
from query_api.read_model import ReadModel
from schemas.errors import NoReadingsError
from schemas.fan_chart import FanChart
from schemas.grid import HORIZON_STEPS, STEP_SECONDS

DAY = datetime.timedelta(days=1)
HORIZON_SECONDS = HORIZON_STEPS * STEP_SECONDS


@dataclasses.dataclass(frozen=True, slots=True)
class DayView:
    """Times carry the zone that they are shown in. `readings` are measured: time and mg/dL, in order."""

    start: datetime.datetime
    end: datetime.datetime
    is_calendar_day: bool
    readings: list[tuple[datetime.datetime, float]]
    rows: list[ChartRow]

    @property
    def name(self) -> str:
        """Of all that it shows: other readings or forecasts have another."""
        shown = [[(time.timestamp(), value) for time, value in self.readings], [row.digest for row in self.rows]]
        digest = hashlib.blake2b(orjson.dumps(shown), digest_size=16).hexdigest()
        kind = "day" if self.is_calendar_day else "hours"
        return f"{kind}/{self.start.isoformat()}/{self.end.isoformat()}/{digest}"

    @property
    def forecasts(self) -> list[FanChart]:
        """The charts of its rows."""
        return [row.chart for row in self.rows]

    @property
    def simulated(self) -> bool:
        """Whether any of the forecasts says so."""
        return any(chart.simulated for chart in self.forecasts)


def day_view(
    model: ReadModel, subject_id: str, date: datetime.date | None, timezone: str | None, every_minutes: int
) -> DayView:
    """The calendar day of a zone, or without a date the 24 hours up to the newest reading.

    Of the forecasts one every so many minutes, as far as they are kept. Raises `NoReadingsError`.
    """
    history = model.days.history(subject_id)
    if history is None:
        raise NoReadingsError("no readings of this subject are kept: publish some")
    clock = history.zone if timezone is None else zone(timezone)
    start, end = _bounds(history, date, clock)
    # Unix time: the difference of two times of one zone is that of its clock, which changes twice a year.
    first, last = int(start.timestamp()), int(end.timestamp())
    readings = history.between(first // STEP_SECONDS, last // STEP_SECONDS)
    measured = [(time_of(slot).astimezone(clock), value) for slot, value in readings]
    rows = model.fan_charts.history(subject_id, first - HORIZON_SECONDS + 1, last - STEP_SECONDS)
    forecasts = _some(rows, first, every_minutes * 60)
    if not measured and not forecasts:
        raise _nothing(history)
    return DayView(start, end, date is not None, measured, forecasts)


def _nothing(history: History) -> NoReadingsError:
    known = f"{time_of(history.first):%Y-%m-%d} to {time_of(history.newest):%Y-%m-%d}"
    return NoReadingsError(f"no readings of this subject on that day; those that are kept are of {known}")


def _bounds(
    history: History, date: datetime.date | None, clock: datetime.tzinfo
) -> tuple[datetime.datetime, datetime.datetime]:
    if date is None:
        end = time_of(history.newest + 1)
        return (end - DAY).astimezone(clock), end.astimezone(clock)
    near = time_of(history.first).date() - DAY, time_of(history.newest).date() + DAY
    if not near[0] <= date <= near[1]:
        raise _nothing(history)
    midnight = datetime.time()
    return datetime.datetime.combine(date, midnight, clock), datetime.datetime.combine(date + DAY, midnight, clock)


def _some(rows: Sequence[ChartRow], start_seconds: int, every_seconds: int) -> list[ChartRow]:
    """The first of each step, counted from the start; none that follows another within half a step."""
    chosen: list[ChartRow] = []
    seen: int | None = None
    for row in rows:
        step = (row.issue_seconds - start_seconds) // every_seconds
        if step == seen:
            continue
        seen = step
        if not chosen or 2 * (row.issue_seconds - chosen[-1].issue_seconds) > every_seconds:
            chosen.append(row)
    return chosen


def held_by_bands(view: DayView) -> tuple[int, int]:
    """How many measured target times of the shown forecasts lay within the band of 90 %, and of how many."""
    measured = {int(time.timestamp()): value for time, value in view.readings}
    held = targets = 0
    for chart in view.forecasts:
        pairs = zip(band(chart, 0.05), band(chart, 0.95), strict=True)
        for step, (low, high) in enumerate(pairs, start=1):
            value = measured.get(int(chart.target_time(step).timestamp()))
            if value is not None:
                targets += 1
                held += low <= value <= high
    return held, targets
