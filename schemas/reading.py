"""A reading as a device integration publishes it, and what became of it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL, LOWEST_SENSOR_MGDL, MGDL_PER_MMOLL
from schemas.record import HexDigest, Record, SubjectId, Time

Unit = Literal["mg/dL", "mmol/L"]


class Reading(Record):
    """One sensor value of one person, on ``cgm.readings``, keyed by `subject_id`."""

    subject_id: SubjectId
    time: Time = Field(description="When the sensor measured, with its offset from UTC.")
    glucose: float = Field(
        description="In `unit`; below 39 mg/dL, where sensors send codes, and above 600 it is rejected."
    )
    unit: Unit = Field(description="Required: a number without a unit has been wrong by a factor of 18 before.")
    simulated: bool = Field(
        default=False,
        description="Of a simulation or a replay, with a clock of its own: its age is judged by its arrival.",
    )
    noise: int | None = Field(
        default=None, ge=0, le=100, description="The sensor's own opinion: 1 clean to 4 heavy, as Nightscout has it."
    )
    direction: str | None = Field(
        default=None, max_length=32, description="The sensor's own trend, as Nightscout names it: Flat, SingleUp, …"
    )
    device: str | None = Field(default=None, max_length=128, description="What measured, as its vendor names it.")
    reading_id: str | None = Field(
        default=None, max_length=128, description="The sender's own id; found again in the outcome."
    )

    @property
    def glucose_mgdl(self) -> float:
        return self.glucose * MGDL_PER_MMOLL if self.unit == "mmol/L" else self.glucose

    @property
    def is_error_code(self) -> bool:
        """Whether a sensor said that it has no glucose: see `LOWEST_SENSOR_MGDL`.

        Codes are whole numbers; mmol/L that were sent as mg/dL mostly are not.
        """
        return self.unit == "mg/dL" and 0 < self.glucose < LOWEST_SENSOR_MGDL and self.glucose.is_integer()


RESET = "reset"
"""The header of a message on ``cgm.readings`` without a value: what is remembered of the subject in its key goes."""

ERASE = "erase"
"""The same, and the subject's name with it."""

REROUTED = "rerouted"
"""The header of a message that lay in another partition than its subject's: Unix milliseconds of when it came there."""

OTHER_DEVICE = "other_device"
"""The code of an accepted reading that does not count, because another device is preferred and speaks."""

EXPIRED = "expired"
"""The code of an outcome ``erased`` that nobody ordered: the subject was silent for too long."""

ReadingFlag = Literal["sources_disagree", "sensor_warm_up", "sensor_change"]
ReadingStatus = Literal["forecast_requested", "no_forecast", "duplicate", "rejected", "reset", "erased"]


def _possible(reading: Reading) -> Reading:
    """Anybody who may write outcomes could have it shown, here and by displays."""
    if not LOWEST_MGDL <= reading.glucose_mgdl <= HIGHEST_MGDL:
        raise ValueError(f"the glucose of a reading that was taken lies in {LOWEST_MGDL:g} to {HIGHEST_MGDL:g} mg/dL")
    return reading


class ReadingOutcome(Record):
    """What became of one reading, on ``cgm.reading-outcomes``, keyed by `subject_id`. Every reading gets one.

    ``forecast_requested``: accepted, and `issue_times` name the last known points of the forecasts it asked for. A
    correction may leave others without one at the same time, those of `withheld_times`.
    ``no_forecast``: accepted, but `reason` says why there is none yet (warm-up, gap, later reading in the same slot).
    ``duplicate``: the same value at the same time was known. ``rejected``: not accepted, `reason` says why.
    ``reset``: no reading but the order to begin anew with this subject; `time` is when it came. ``erased``: the order
    to erase it, or with the code ``expired`` that it was silent for so long that it is forgotten.
    """

    outcome_id: HexDigest = Field(description="Hash of subject, time and value: equal for a reading delivered twice.")
    subject_id: str
    status: ReadingStatus
    code: str | None = Field(default=None, description="The reason for programs, e.g. warming_up, gap, too_old.")
    reason: str | None = Field(default=None, description="The reason for people.")
    expected_time: Time | None = Field(
        default=None,
        description="Of no_forecast: the last known point of the next forecast, if from here on a reading comes every "
        "five minutes.",
    )
    reading_id: str | None = None
    time: Time | None = None
    issue_times: tuple[Time, ...] = ()
    withheld_times: tuple[Time, ...] = Field(
        default=(),
        description="The last known points of windows that the reading changes and that get no forecast: what was "
        "forecast of them before holds no more, until issue_times of a later outcome name them.",
    )
    flags: tuple[ReadingFlag, ...] = Field(
        default=(),
        description="What is doubtful of an accepted reading. sources_disagree: another device says something else of "
        "the same 5 minutes. sensor_warm_up: within two hours of a sensor's start. sensor_change: the first of another "
        "sensor or device.",
    )
    reading: Annotated[Reading, AfterValidator(_possible)] | None = Field(
        default=None, description="As it was sent, where it is a possible one: all but rejected ones and orders."
    )

    @property
    def event_id(self) -> str:
        """A reading that is sent again is another outcome, a duplicate."""
        return f"{self.outcome_id}/{self.status}"
