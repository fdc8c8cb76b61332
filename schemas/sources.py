"""Where a subject's readings come from: the device that is preferred, starts of sensors, which devices spoke."""

from pydantic import Field

from schemas.record import LongInteger, Record, Time, UnixMilliseconds

LONGEST_DEVICE = 128
MOST_DEVICES = 8
"""Remembered a subject, the latest that were new."""
MOST_STARTS = 4
"""Remembered a subject, the latest; older ones lie before every window."""

POLICY = "sources"
"""The header of a message on ``cgm.readings`` without a value: a `SourcePolicy` for the subject in its key."""
SENSOR_START = "sensor-start"
"""The same: RFC 3339, when a sensor of the subject in its key was started."""


class SourcePolicy(Record):
    """Which of a subject's devices speaks, where several do."""

    preferred_device: str | None = Field(
        default=None,
        min_length=1,
        max_length=LONGEST_DEVICE,
        description="As its readings name it; null: of several the reading nearest to a 5-minute slot's time counts.",
    )
    wait_minutes: int = Field(
        default=15,
        ge=5,
        le=240,
        description="Readings of other devices count once the preferred one is silent for longer than this and half a "
        "step of 5 minutes: no sensor is punctual. Beyond 15 there is no forecast meanwhile.",
    )


class DecidedPolicy(Record):
    """A policy, and the offset of the message that ordered it: it holds for readings that came after it."""

    offset: LongInteger
    policy: SourcePolicy


class SensorStart(Record):
    """When a sensor was started, and the offset of the message that told so."""

    offset: LongInteger
    time: Time


class SourceState(Record):
    """A row of the table of sources: one subject. Earlier policies stay while messages may be delivered again."""

    version: int = 1
    began_ms: UnixMilliseconds = Field(default=0, alias="epoch_ms")
    policies: tuple[DecidedPolicy, ...] = Field(default=(), description="By offset.")
    starts: tuple[SensorStart, ...] = Field(default=(), description="By offset.")
    devices: tuple[str, ...] = Field(default=(), max_length=MOST_DEVICES, description="By when they spoke first.")

    @property
    def policy(self) -> SourcePolicy:
        """The one that holds."""
        return self.policies[-1].policy if self.policies else SourcePolicy()

    def to_row(self) -> bytes:
        """Without what is as it always is."""
        return self.model_dump_json(exclude_defaults=True).encode()
