"""Alerts: what a person is told before lows and highs, in a fast fall and where no glucose comes; how each wants it.

Four kinds are of a level: forecasts raise them, and what became of each is told. The others are of what is so now, and
end when it is over: ``falling_fast``; ``stale_data``, no reading although one was expected; ``sensor_error``, readings
that are error codes and no glucose.
"""

import datetime
import itertools
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.fan_chart import DISCLAIMER
from schemas.record import BEGAN, HexDigest, LongInteger, Name, Record, Slot, Time, UnixMilliseconds

LevelKind = Literal["urgent_low", "low", "high", "urgent_high"]
AlertKind = Literal["urgent_low", "low", "high", "urgent_high", "falling_fast", "stale_data", "sensor_error"]
Direction = Literal["low", "high"]
Snoozed = Literal["low", "high", "data"]
"""What can be snoozed: ``low`` is a fast fall too, ``data`` is that none comes, or errors."""
Preset = Literal["quiet", "balanced", "early"]
AlertStatus = Literal["raised", "repeated", "hit", "false", "missed", "unknown", "ended"]

THRESHOLD_MGDL: dict[LevelKind, float] = {"urgent_low": 54.0, "low": 70.0, "high": 180.0, "urgent_high": 250.0}
"""Unless somebody has thresholds of their own."""
OWN_MGDL: dict[LevelKind, tuple[float, float]] = {
    "urgent_low": (45.0, 70.0), "low": (55.0, 110.0), "high": (120.0, 300.0), "urgent_high": (160.0, 360.0),
}  # fmt: skip
"""Within which these may lie: sensors show 40 to 400, and a forecast tells little of what is near the ends."""
DIRECTION: dict[LevelKind, Direction] = {"urgent_low": "low", "low": "low", "high": "high", "urgent_high": "high"}
OF_DIRECTION: dict[Direction, tuple[LevelKind, LevelKind]] = {
    "low": ("urgent_low", "low"),
    "high": ("urgent_high", "high"),
}
"""The more urgent first."""
MOST_REPEATS = 3
URGENT_FIRST: tuple[AlertKind, ...] = (
    "urgent_low", "falling_fast", "low", "urgent_high", "high", "sensor_error", "stale_data",
)  # fmt: skip
"""Where several hold, the first of these is what a short place shows."""
RECENT = 12
"""So many alerts are remembered a subject: more than two hours of all levels raise, so none goes undecided."""
LATE_STEPS = 24
"""So many 5-minute steps back it is remembered which forecasts came too late to tell anybody."""

_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
Band = Annotated[
    str,
    Field(
        pattern=rf"^{_CLOCK}-{_CLOCK}$",
        description="Local time of day, like 22:00-07:00; over midnight too, and all day where it begins when it ends.",
    ),
]


class Alert(Record):
    """One event of an alert, on ``cgm.alerts``, keyed by `subject_id`: raised first, later what became of it.

    All records of one alert carry its `alert_id`. Of a level ``hit``: a low (or high) of 15 minutes began within the
    hour; ``false``: none did; ``missed``: one began that no alert came before; ``unknown``: no readings tell. Of the
    other kinds ``ended``: it is over. Fields that a kind has nothing for are null.
    """

    record_version: Literal[1] = 1
    alert_id: HexDigest = Field(description="Hash of subject, kind and when the episode began.")
    status: AlertStatus
    kind: AlertKind
    subject_id: Name
    threshold_mgdl: float | None
    probability: float | None = Field(description="Of crossing the threshold within the horizon; null for missed.")
    calibrated: bool | None = Field(
        default=None,
        description="Of a probability: true at 54, 70, 180 and 250 mg/dL, where it is fitted to what happened; false "
        "at a threshold of one's own, where it is what lies between these by the forecast's own distribution.",
    )
    horizon_minutes: int | None
    first_crossing: tuple[float, ...] = Field(
        default=(), max_length=4, description="P that the first crossing falls into each quarter of the hour."
    )
    glucose_mgdl: float | None = Field(description="At `issue_time`; null where there is none.")
    forecast_id: HexDigest | None = None
    chart_id: HexDigest | None = None
    issue_time: Time = Field(
        description="Last known point of the forecast that raised it; of missed: the crossing; of stale_data: when a "
        "reading should have come; of sensor_error: the reading that was one too many."
    )
    onset_time: Time | None = Field(default=None, description="When the low or high began, of hit and missed.")
    lead_minutes: int | None = Field(default=None, description="From issue time to onset, of hit.")
    rate_mgdl_per_minute: float | None = Field(default=None, description="Of falling_fast, below 0.")
    last_reading_time: Time | None = Field(
        default=None, description="Of stale_data and sensor_error: the last glucose before it, where one is known."
    )
    ended_time: Time | None = Field(default=None, description="Of ended: the reading that ended it.")
    began_ms: UnixMilliseconds = Field(default=0, alias="epoch_ms", description=BEGAN)
    reason: str
    simulated: bool = False
    disclaimer: str = DISCLAIMER

    @property
    def event_id(self) -> str:
        """Of this event of the alert: each status comes once, but that it is repeated, or comes anew after a reset."""
        again = f"/{self.issue_time.astimezone(datetime.UTC):%Y%m%dT%H%MZ}" if self.status == "repeated" else ""
        return f"{self.alert_id}/{self.began_ms}/{self.status}{again}"


class RuleChange(Record):
    """What differs from the preset for one kind of alert."""

    enabled: bool | None = None
    threshold_mgdl: float | None = Field(
        default=None, ge=45.0, le=360.0, description="A threshold of one's own; null: 54, 70, 180 or 250 mg/dL."
    )
    probability: float | None = Field(default=None, ge=0.02, le=0.98)
    horizon_minutes: Literal[15, 30, 45, 60] | None = None
    active: Band | None = None


class FallChange(Record):
    """How fast is a fast fall, where it differs from the preset."""

    enabled: bool | None = None
    rate_mgdl_per_minute: float | None = Field(default=None, ge=1.0, le=8.0, description="Over a quarter of an hour.")
    below_mgdl: float | None = Field(default=None, ge=80.0, le=600.0, description="Glucose above it may fall.")
    active: Band | None = None


class StaleChange(Record):
    """How long a reading may stay away, where it differs from the preset."""

    enabled: bool | None = None
    minutes: int | None = Field(default=None, ge=15, le=240, description="Since the last reading.")
    active: Band | None = None


class ErrorChange(Record):
    """How many errors of the sensor in a row are told, where it differs from the preset."""

    enabled: bool | None = None
    readings: int | None = Field(default=None, ge=1, le=24)
    active: Band | None = None


class AlertSettings(Record):
    """How a subject is alerted. Everything has a default; a change names only what differs from the preset."""

    preset: Preset = "balanced"
    urgent_low: RuleChange = RuleChange()
    low: RuleChange = RuleChange()
    high: RuleChange = RuleChange()
    urgent_high: RuleChange = RuleChange()
    falling_fast: FallChange = FallChange()
    stale_data: StaleChange = StaleChange()
    sensor_error: ErrorChange = ErrorChange()
    cooldown_minutes: int = Field(
        default=30, ge=15, le=240,
        description="Quiet after an alert, for its direction; urgent kinds are held back by themselves alone.",
    )  # fmt: skip
    repeat_minutes: int | None = Field(
        default=None, ge=5, le=60, description="Say it again while it holds and is not snoozed, three times at most."
    )

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        """Urgent ones are the farther ones, and lows below highs."""
        for kind, (least, most) in OWN_MGDL.items():
            if not least <= self.threshold_of(kind) <= most:
                raise ValueError(f"the threshold of {kind} lies within {least:.0f} to {most:.0f} mg/dL")
        for lower, higher in itertools.pairwise(THRESHOLD_MGDL):
            if self.threshold_of(lower) >= self.threshold_of(higher):
                raise ValueError(f"the threshold of {lower} is below that of {higher}")
        return self

    def threshold_of(self, kind: LevelKind) -> float:
        """mg/dL."""
        change: RuleChange = getattr(self, kind)
        return THRESHOLD_MGDL[kind] if change.threshold_mgdl is None else change.threshold_mgdl


class Snooze(Record):
    """No alerts of a direction, or about data, until then."""

    direction: Snoozed
    until_ms: UnixMilliseconds


class Episode(Record):
    """An alert that still holds: no second one comes for it."""

    alert_id: HexDigest
    slot: Slot
    repeats: int = 0


class RecentAlert(Record):
    """An alert as the table remembers it."""

    alert_id: HexDigest
    kind: AlertKind
    status: AlertStatus
    slot: Slot
    threshold_mgdl: float | None = Field(default=None, description="Of one's own, where it was.")
    probability: float | None = None
    horizon_minutes: int = 0
    glucose_mgdl: float | None = None
    onset_slot: Slot | None = None
    lead_minutes: int | None = None
    repeated: tuple[Slot, ...] = Field(
        default=(), max_length=MOST_REPEATS, description="Slots at which it was said again."
    )
    rate_mgdl_per_minute: float | None = None
    ended_slot: Slot | None = None
    first_crossing: tuple[float, ...] = Field(default=(), max_length=4)
    reason: str = Field(default="", description="Of the alert when it was raised, or of its being missed.")
    began_ms: UnixMilliseconds = Field(
        default=0, alias="epoch_ms", description="When what raised it began; 0 in a row of before."
    )


class AlertState(Record):
    """A row of the alerts table: one subject. Slots are UTC 5-minute slots."""

    version: Literal[1] = 1
    began_ms: UnixMilliseconds = Field(default=0, alias="epoch_ms")
    settings: AlertSettings = AlertSettings()
    settings_ms: UnixMilliseconds = Field(
        default=0, description="When the settings were ordered last; earlier ones change nothing."
    )
    since: Slot | None = Field(default=None, description="First slot judged since forecasts come.")
    slot: Slot | None = Field(default=None, description="Last slot that was judged.")
    revision: LongInteger | None = Field(
        default=None, description="Which forecast of that slot was judged last, by its place among the live ones."
    )
    late: tuple[Slot, ...] = Field(
        default=(), max_length=LATE_STEPS, description="Of the last two hours: slots with a forecast too late to tell."
    )
    judged_ms: UnixMilliseconds = Field(default=0, description="When that forecast began; 0 in a row of before.")
    ruled: dict[LevelKind, Slot] = Field(
        default_factory=dict, description="Last slot that was judged by other rules than those of now."
    )
    snoozed_until_ms: dict[Snoozed, UnixMilliseconds] = Field(default_factory=dict)
    snoozed_from_ms: dict[Snoozed, UnixMilliseconds] = Field(default_factory=dict)
    snoozed_ms: dict[Snoozed, UnixMilliseconds] = Field(
        default_factory=dict, description="When each snooze was ordered last; earlier ones change nothing."
    )
    episodes: dict[AlertKind, Episode] = Field(default_factory=dict)
    raised: dict[Direction, Slot] = Field(default_factory=dict, description="Slot of the last alert of a level.")
    raised_urgent: dict[Direction, Slot] = Field(
        default_factory=dict, description="Slot of the last alert of the more urgent level."
    )
    fell: Slot | None = Field(default=None, description="Slot of the last alert of a fast fall.")
    recent: tuple[RecentAlert, ...] = Field(default=(), max_length=RECENT, description="Oldest first.")

    def to_row(self) -> bytes:
        """Without what is as it always is."""
        return self.model_dump_json(exclude_defaults=True).encode()


def remembered(alerts: Sequence[RecentAlert]) -> tuple[RecentAlert, ...]:
    """As many as a row has room for, oldest first: the newest, and before them what is not decided yet. Errors of a
    sensor that come and go every few minutes would leave nothing of an alert of a low."""
    kept = list(alerts)
    while len(kept) > RECENT:
        kept.pop(next((place for place, each in enumerate(kept) if each.status != "raised"), 0))
    return tuple(kept)


def time_of_slot(slot: int) -> datetime.datetime:
    """UTC."""
    return datetime.datetime.fromtimestamp(slot * 300, datetime.UTC)


def threshold_of(alert: RecentAlert) -> float | None:
    """mg/dL; None of a kind without a level."""
    level = level_of(alert.kind)
    return alert.threshold_mgdl if level is None or alert.threshold_mgdl is not None else THRESHOLD_MGDL[level]


def level_of(kind: AlertKind) -> LevelKind | None:
    """The kind, where it is one of a level."""
    return next((level for level in THRESHOLD_MGDL if level == kind), None)
