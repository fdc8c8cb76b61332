"""The forecast of a subject that holds now, or why there is none: the one answer of every surface that shows it."""

import datetime

from query_api.present import Present, check_clock, check_uncorrected, expected, in_words, present
from query_api.services import Services
from schemas.errors import NoForecastError, UnavailableError
from schemas.grid import PRESENT


def forecast_of(uses: Services, subject_id: str) -> Present:
    """The present forecast with its age.

    Raises `NoForecastError` with the reason and when one is expected, `UnavailableError` while behind.
    """
    now = datetime.datetime.now(datetime.UTC)
    readings = uses.read_model.readings
    outcome, newest = readings.latest(subject_id), readings.newest(subject_id)
    row = uses.read_model.fan_charts.latest(subject_id)
    most_ahead = max(PRESENT, datetime.timedelta(seconds=uses.settings.max_clock_skew_seconds))
    if newest is not None:
        check_clock(newest.time, now, most_ahead)
    if row is not None:
        check_clock(datetime.datetime.fromtimestamp(row.issue_seconds, datetime.UTC), now, most_ahead)
        check_uncorrected(readings.corrections.spoilt(subject_id, row.chart), expected(newest, now))
        return present(row, newest, now, most_ahead)
    if not uses.follower.caught_up:
        raise UnavailableError("this replica is still reading what Kafka holds; try again")
    if outcome is None:
        raise NoForecastError("no readings of this subject have arrived: publish some")
    if outcome.reason is None:
        raise NoForecastError("no forecast yet: the first one is being computed")
    coming = expected(newest, now)
    raise NoForecastError(f"no forecast yet: {outcome.reason}{in_words(coming)}", coming)
