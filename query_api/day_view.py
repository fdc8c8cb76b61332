"""A day of a subject: what was measured, and beside it the forecasts as they were made then."""

import dataclasses
import datetime
from collections.abc import Sequence

from agents.core.local_time import zone
from query_api.projections.fan_charts import ChartRow
from query_api.projections.glucose_days import History, time_of
from query_api.read_model import ReadModel
from schemas.errors import NoReadingsError, RejectedError
from schemas.fan_chart import FanChart
from schemas.grid import HORIZON_STEPS, STEP, STEP_SECONDS

DAY = datetime.timedelta(days=1)
HORIZON = HORIZON_STEPS * STEP


@dataclasses.dataclass(frozen=True, slots=True)
class DayView:
    """Times carry the zone that they are shown in. `readings` are measured: time and mg/dL, in order."""

    start: datetime.datetime
    end: datetime.datetime
    is_calendar_day: bool
    readings: list[tuple[datetime.datetime, float]]
    forecasts: list[FanChart]

    @property
    def name(self) -> str:
        """Of all that it shows: other readings or forecasts have another."""
        newest = self.readings[-1][0].timestamp() if self.readings else 0
        total = round(sum(value for _, value in self.readings), 2)
        charts = ",".join(chart.chart_id[:16] for chart in self.forecasts)
        return f"{self.start.isoformat()}/{self.end.isoformat()}/{len(self.readings)}/{newest}/{total}/{charts}"

    @property
    def simulated(self) -> bool:
        """Whether any of the forecasts says so."""
        return any(chart.simulated for chart in self.forecasts)


def day_view(
    model: ReadModel, subject_id: str, date: datetime.date | None, timezone: str | None, every_minutes: int
) -> DayView:
    """The calendar day of a zone, or without a date the 24 hours up to the newest reading.

    Of the forecasts one every so many minutes, as far as they are kept. Raises `NoReadingsError`, and `RejectedError`
    for a date that no calendar has in that zone.
    """
    history = model.days.history(subject_id)
    if history is None:
        raise NoReadingsError("no readings of this subject are kept: publish some")
    clock = history.zone if timezone is None else zone(timezone)
    start, end = _bounds(history, date, clock)
    first, last = (int(time.timestamp()) // STEP_SECONDS for time in (start, end))
    measured = [(time_of(slot).astimezone(clock), value) for slot, value in history.between(first, last)]
    rows = model.fan_charts.history(
        subject_id, int((start - HORIZON).timestamp()) + 1, int((end - STEP).timestamp())
    )  # fmt: skip
    forecasts = [row.chart for row in _some(rows, int(start.timestamp()), every_minutes * 60)]
    if not measured and not forecasts:
        known = f"{time_of(history.first):%Y-%m-%d} to {time_of(history.newest):%Y-%m-%d}"
        raise NoReadingsError(f"no readings of this subject on that day; those that are kept are of {known}")
    return DayView(start, end, date is not None, measured, forecasts)


def _bounds(
    history: History, date: datetime.date | None, clock: datetime.tzinfo
) -> tuple[datetime.datetime, datetime.datetime]:
    if date is None:
        end = time_of(history.newest + 1).astimezone(clock)
        return (end.astimezone(datetime.UTC) - DAY).astimezone(clock), end
    try:
        midnight = datetime.time()
        return datetime.datetime.combine(date, midnight, clock), datetime.datetime.combine(date + DAY, midnight, clock)
    except OverflowError:
        raise RejectedError("date: a day between the years 1 and 9999") from None


def _some(rows: Sequence[ChartRow], start_seconds: int, every_seconds: int) -> list[ChartRow]:
    """The first at or after each step from the start on; before it the one that comes nearest to a step of its own."""
    chosen: list[ChartRow] = []
    wanted = start_seconds - every_seconds * (int(HORIZON.total_seconds()) // every_seconds)
    for row in rows:
        if row.issue_seconds >= wanted:
            chosen.append(row)
            wanted += every_seconds * ((row.issue_seconds - wanted) // every_seconds + 1)
    return chosen
