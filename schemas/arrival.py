"""What the watch over a subject's readings goes by: what arrived, that time has passed, and what it remembers.

Stale is what does not come. So the watch needs a clock that runs though nobody sends anything, and that stands where
the readings stand: ticks travel through ``cgm.readings`` themselves. A tick on a partition says that every reading that
lay before it is known; nobody is told of missing readings that merely wait to be processed.
"""

from typing import Literal

from pydantic import Field, field_validator

from schemas.record import FIRST_YEAR, LAST_YEAR, Record, SubjectId, Time, UnixMilliseconds

TICK = "tick"
"""The header of a message on ``cgm.readings`` without a value: a minute has passed. Ingest workers send them."""
TICK_KEY = "/tick"
"""The key of such a message, on both topics: clients refuse one with neither; no subject has a slash in its name."""


class Arrival(Record):
    """On ``cgm.arrivals``, keyed by the subject: a reading of now that is newer than all before it, or an error code of
    the sensor in its place. Or, without a subject and once a partition, that time has passed."""

    what: Literal["reading", "sensor_error", "tick"]
    came_ms: UnixMilliseconds = Field(description="When it came into cgm.readings, by the broker's clock.")
    subject_id: SubjectId | None = None
    time: Time | None = Field(default=None, description="Of the reading.")

    @field_validator("time")
    @classmethod
    def _is_of_these_times(cls, time: Time | None) -> Time | None:
        """Hours are added to it, and its offset may change."""
        if time is not None and not FIRST_YEAR <= time.year <= LAST_YEAR:
            raise ValueError(f"a time lies between {FIRST_YEAR} and {LAST_YEAR}")
        return time


class WatchState(Record):
    """A row of the table of the watch: one subject. Times carry the offset that its readings came with."""

    version: Literal[1] = 1
    reading_time: Time | None = Field(default=None, description="Of the newest glucose.")
    reading_came_ms: UnixMilliseconds = Field(default=0, description="When the last glucose came, whatever its time.")
    error_time: Time | None = Field(default=None, description="Of the newest error code.")
    error_came_ms: UnixMilliseconds = Field(default=0, description="When the last error code came.")
    errors: int = Field(default=0, description="Error codes since the newest glucose.")
    due_ms: UnixMilliseconds | None = Field(default=None, description="When it is looked at again: its other key.")
    stale: bool = Field(default=False, description="An alert of stale_data holds.")
    erroneous: bool = Field(default=False, description="An alert of sensor_error holds.")

    @property
    def heard(self) -> Time | None:
        """When the sensor was last heard of, whatever it said."""
        return max((time for time in (self.reading_time, self.error_time) if time is not None), default=None)

    def to_row(self) -> bytes:
        """Without what is as it always is."""
        return self.model_dump_json(exclude_defaults=True).encode()
