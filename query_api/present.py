"""Which forecast is the present one: none that has grown old, and none where a newer reading got no forecast.

A forecast speaks of the hour after its last known point. It is served as the present one for a quarter of an hour, in
which two further readings should have come; after that, or once a newer reading was accepted without a forecast, or
one of those that it was made of was corrected and it was not made anew, it is history. Readings that say of themselves
that they are simulated have a clock of their own: of those forecasts the age counts from their computation. A forecast
from further ahead than readings are taken from has no age that could be known: this machine's clock, or the one that it
was made by, is wrong.
"""

import dataclasses
import datetime
from typing import Any

from agents.core.slot_windows import LONGEST_GAP
from query_api.projections.corrections import Correction
from query_api.projections.fan_charts import ChartRow
from schemas.errors import NoForecastError
from schemas.grid import PAST_POINTS, PRESENT, STEP
from schemas.reading import ReadingOutcome

HEADERS = {
    "Glucast-Issue-Time": "Time of the last known point.",
    "Glucast-Valid-Until": "Until when it is the present forecast.",
    "Glucast-Newest-Reading-Time": "Of the newest accepted reading, where one is known.",
}
"""Of a drawing of the present forecast: what is in the fields of the same names where it is JSON."""
AHEAD = datetime.timedelta(minutes=10)
"""How far in the future readings are taken from, where the settings say nothing else."""


@dataclasses.dataclass(frozen=True, slots=True)
class Present:
    """A forecast that holds now, and how old it is."""

    row: ChartRow
    age_seconds: int
    valid_until: datetime.datetime
    newest_reading: datetime.datetime | None

    @property
    def moment(self) -> str:
        """Of its age the minutes, and what `fields` says besides: alike where two answers say the same."""
        newest = 0 if self.newest_reading is None else int(self.newest_reading.timestamp())
        return f"{self.age_seconds // 60}-{int(self.valid_until.timestamp())}-{newest}"

    def fields(self) -> dict[str, Any]:
        """What an answer says of it, besides the chart."""
        newest = self.newest_reading
        return {
            "age_seconds": self.age_seconds,
            "valid_until": self.valid_until.isoformat(),
            "newest_reading_time": None if newest is None else newest.isoformat(),
        }

    def headers(self) -> dict[str, str]:
        """What an answer says of it that is a drawing: the same facts, in UTC. Of HEADERS."""
        issued = datetime.datetime.fromtimestamp(self.row.issue_seconds, datetime.UTC)
        times = dict(zip(HEADERS, (issued, self.valid_until, self.newest_reading), strict=True))
        return {
            name: time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for name, time in times.items() if time
        }


def check_clock(
    time: datetime.datetime | None, now: datetime.datetime, most_ahead: datetime.timedelta = PRESENT
) -> None:
    """Raises `NoForecastError` where the newest reading lies ahead of now: it would outrank every one to come."""
    if time is not None and time - now > most_ahead:
        raise NoForecastError(
            f"the newest reading is of {_clock(time)}, which lies ahead: a clock was wrong. Put it right, then let the "
            "subject begin anew: DELETE /subjects/{subject_id}/window"
        )


def check_uncorrected(correction: Correction | None, coming: datetime.datetime | None) -> None:
    """Raises `NoForecastError` where a reading took back what the forecast was made of, and none came in its place."""
    if correction is not None:
        raise NoForecastError(
            f"no forecast since the reading of {_clock(correction.time)} came late or was corrected: "
            f"{correction.reason}{in_words(coming)}",
            coming,
        )


def expected(newest: ReadingOutcome | None, now: datetime.datetime) -> datetime.datetime | None:
    """When the next forecast can be made, if readings come every five minutes from now on.

    None of a simulated subject, whose clock is its own. After a gap eight hours have to pass.
    """
    if newest is not None and newest.reading is not None and newest.reading.simulated:
        return None
    soon = now.replace(second=0, microsecond=0) + datetime.timedelta(minutes=1)
    if newest is None or newest.time is None or now - newest.time > LONGEST_GAP:
        return soon + (PAST_POINTS - 1) * STEP
    return max(newest.expected_time or newest.time + STEP, soon)


def in_words(time: datetime.datetime | None) -> str:
    """As it follows a reason."""
    return "" if time is None else f"; with a reading every 5 min the next is of {_clock(time)}"


def present(
    row: ChartRow, newest: ReadingOutcome | None, now: datetime.datetime, ahead: datetime.timedelta = AHEAD
) -> Present:
    """The forecast with its age, or `NoForecastError`: why it no longer holds, and what brings the next one.

    `newest` is what became of the subject's newest accepted reading; `ahead` how far in the future one may be.
    """
    issued = datetime.datetime.fromtimestamp(row.issue_seconds, datetime.UTC)
    newest_time = newest.time if newest is not None else None
    if newest is not None and newest.status == "no_forecast" and newest_time and newest_time - issued > STEP / 2:
        coming = expected(newest, now)
        raise NoForecastError(
            f"no forecast of the reading of {_clock(newest_time)}: {newest.reason}{in_words(coming)}", coming
        )
    counted = issued
    if now - issued > PRESENT and row.chart.simulated:
        counted = row.chart.computed_at
    age = now - counted
    if -age > ahead + STEP / 2:  # the last known point is a reading's time on the five-minute grid
        raise NoForecastError(
            f"the latest forecast is of {_clock(counted)}, {_spoken(-age)} ahead of this machine's clock: one of the "
            "clocks is wrong"
        )
    if age > PRESENT:
        coming = expected(newest, now)
        raise NoForecastError(
            f"the latest forecast is of {_clock(issued)}, {_spoken(age)} ago, and no longer holds; the newest reading "
            f"is of {_clock(newest_time or issued)}: the next brings a forecast where 8 gap-free hours lie before it"
            f"{in_words(coming)}",
            coming,
        )
    return Present(row, max(0, int(age.total_seconds())), counted + PRESENT, newest_time)


def _clock(time: datetime.datetime) -> str:
    return f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _spoken(age: datetime.timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    return (
        f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
    )
