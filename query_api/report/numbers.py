"""What a report says of a subject, from the days and the scores that the read model holds."""

import dataclasses
import datetime
from collections import defaultdict
from typing import NamedTuple

from agents.core.glucose_summary import ProfilePoint, Summary, profile, summary, why_not_representative
from agents.core.local_time import zone
from query_api.day_view import DayView, day_view
from query_api.projections.glucose_days import History, time_of
from query_api.read_model import ReadModel
from query_api.scorecard import HorizonCard, scorecard
from schemas.errors import NoReadingsError
from schemas.grid import STEPS_A_DAY
from schemas.score_state import ScoreState

FORECAST_EVERY_MINUTES = 60
"""From one of the forecasts that are drawn to the next."""

Minutes = list[tuple[int, float]]
"""Readings of a day: minute on the person's clock, and mg/dL."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Of the days up to the newest reading. `start` and `end` carry the zone of the clock that is shown."""

    subject_id: str
    made_at: datetime.datetime
    start: datetime.datetime
    end: datetime.datetime
    timezone: str | None
    asked_days: int
    covered_days: int
    """Whole ones, but a time shorter than a day is one too."""
    summary: Summary
    why_not_representative: str | None
    profile: list[ProfilePoint | None]
    days: dict[datetime.date, Minutes]
    forecasts: list[HorizonCard]
    """By how far ahead, of the last 14 days; empty where none was scored."""
    last_day: DayView | None
    """The 24 hours up to the newest reading, where forecasts of them are kept."""
    simulated: bool


class Source(NamedTuple):
    """What a report is made of."""

    subject_id: str
    history: History
    scores: ScoreState | None
    last_day: DayView
    simulated: bool


def source_of(model: ReadModel, subject_id: str, timezone: str | None = None) -> Source:
    """What is known of a subject now. Raises `NoReadingsError`, `ImplausibleError` for a zone that does not exist."""
    history = model.days.history(subject_id)
    if history is None:
        raise NoReadingsError("no readings of this subject are kept: publish some")
    latest = model.fan_charts.latest(subject_id)
    simulated = latest is not None and latest.chart.simulated
    last_day = day_view(model, subject_id, None, timezone, FORECAST_EVERY_MINUTES)
    return Source(subject_id, history, model.scores.of(subject_id), last_day, simulated)


def report_of(source: Source, days: int, timezone: str | None, made_at: datetime.datetime) -> Report:
    """The report of the last so many days, or of as many as are kept.

    Raises `ImplausibleError` for a zone that does not exist.
    """
    history = source.history
    clock = history.zone if timezone is None else zone(timezone)
    end = history.newest + 1
    first = max(history.first, end - days * STEPS_A_DAY)
    readings = history.between(first, end)
    covered_days = max(1, (end - first) // STEPS_A_DAY)
    numbers = summary([slot for slot, _ in readings], [value for _, value in readings], end - first)
    by_day: defaultdict[datetime.date, Minutes] = defaultdict(list)
    for slot, value in readings:
        local = time_of(slot).astimezone(clock)
        by_day[local.date()].append((local.hour * 60 + local.minute, value))
    return Report(
        subject_id=source.subject_id,
        made_at=made_at.astimezone(clock),
        start=time_of(first).astimezone(clock),
        end=time_of(end).astimezone(clock),
        timezone=timezone,
        asked_days=days,
        covered_days=covered_days,
        summary=numbers,
        why_not_representative=why_not_representative(covered_days, numbers.active_share),
        profile=profile(reading for day in by_day.values() for reading in day),
        days=dict(sorted(by_day.items())),
        forecasts=_forecasts(source),
        last_day=source.last_day if source.last_day.forecasts else None,
        simulated=source.simulated,
    )


def _forecasts(source: Source) -> list[HorizonCard]:
    """Of the last 14 days of the report: forecasts may have stopped before its readings."""
    if source.scores is None or not source.scores.scored:
        return []
    return scorecard(source.subject_id, source.scores, today=source.history.newest // STEPS_A_DAY).windows[-1].horizons
