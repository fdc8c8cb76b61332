"""What drawings have in common, and what may differ between two of the same thing: colours, unit, clock, size."""

import dataclasses
import datetime
from typing import Literal

from agents.core.local_time import offset_text, zone
from schemas.grid import MGDL_PER_MMOLL
from schemas.reading import Unit

Theme = Literal["light", "dark"]

WIDTH, HEIGHT = 1000, 600
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
TARGET_RANGE_MGDL = (70.0, 180.0)
LOW_MGDL, HIGH_MGDL = 54.0, 250.0


@dataclasses.dataclass(frozen=True, slots=True)
class Palette:
    """The colours of a theme; `fan_rgb` is without its opacity."""

    paper: str
    ink: str
    muted: str
    grid: str
    axis: str
    now: str
    truth: str
    median: str
    interpolated: str
    fan_rgb: str
    target_fill: str
    target_line: str
    target_ink: str
    low_fill: str
    high_fill: str
    extreme_line: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#1f2933",
    muted="#66727f",
    grid="#e8ecf0",
    axis="#c4ccd4",
    now="#9aa5b1",
    truth="#1f6fd1",
    median="#d3322d",
    interpolated="#7b8794",
    fan_rgb="88,86,160",
    target_fill="rgba(46,160,103,0.09)",
    target_line="rgba(46,160,103,0.55)",
    target_ink="#2c8a5c",
    low_fill="rgba(211,50,45,0.06)",
    high_fill="rgba(230,150,30,0.06)",
    extreme_line="rgba(211,50,45,0.35)",
)
DARK = Palette(
    paper="#1d2329",
    ink="#e6eaee",
    muted="#9aa5b1",
    grid="#2b333b",
    axis="#4a545e",
    now="#66727f",
    truth="#6ea8f0",
    median="#ff7a70",
    interpolated="#9aa5b1",
    fan_rgb="168,166,240",
    target_fill="rgba(74,190,130,0.10)",
    target_line="rgba(74,190,130,0.55)",
    target_ink="#5cc795",
    low_fill="rgba(255,110,100,0.09)",
    high_fill="rgba(240,170,60,0.08)",
    extreme_line="rgba(255,110,100,0.45)",
)
PALETTES: dict[Theme, Palette] = {"light": LIGHT, "dark": DARK}


@dataclasses.dataclass(frozen=True, slots=True)
class Style:
    """What may differ between drawings of the same numbers; the defaults are what they have always looked like."""

    unit: Unit = "mg/dL"
    fan: Literal["total", "epistemic"] = "total"
    theme: Theme = "light"
    timezone: str | None = None
    """An IANA name or an offset; None for the clock of the data."""
    width: int = WIDTH
    height: int = HEIGHT
    scale: int = 1
    """Pixels of a picture for each of width and height."""
    age_minutes: int | None = None
    """To be written on it: how old the newest of its data is. None for nothing of the kind."""
    valid_until: datetime.datetime | None = None
    """To be written on it: until when it is the present forecast. None for what is none. It stays true in a cache."""

    @property
    def palette(self) -> Palette:
        return PALETTES[self.theme]

    @property
    def key(self) -> str:
        """Of all that it says: two drawings of one thing with the same key are the same."""
        more = [
            f"{field.name}={value.isoformat() if isinstance(value, datetime.datetime) else value}"
            for field in dataclasses.fields(self)
            if field.name not in ("unit", "fan") and (value := getattr(self, field.name)) != field.default
        ]
        return "/".join([self.unit, self.fan, *more])

    @property
    def digits(self) -> int:
        return 1 if self.unit == "mg/dL" else 2

    def _in_unit(self, mgdl: float) -> float:
        return mgdl * (1.0 if self.unit == "mg/dL" else 1.0 / MGDL_PER_MMOLL)

    def number(self, mgdl: float) -> float:
        return round(self._in_unit(mgdl), self.digits)

    def text(self, mgdl: float) -> str:
        return f"{self._in_unit(mgdl):.{self.digits - 1}f}"

    def clock(self, time: datetime.datetime) -> datetime.datetime:
        """A time as it is shown. Raises `ImplausibleError` for a zone that does not exist."""
        return time if self.timezone is None else time.astimezone(zone(self.timezone))

    def zone_text(self, time: datetime.datetime) -> str:
        """How the zone of a shown time is written."""
        offset = offset_text(time)
        utc = "UTC" if offset == "+00:00" else f"UTC{offset}"
        named = self.timezone is not None and self.timezone[0] not in "+-" and self.timezone != "UTC"
        return f"{self.timezone} ({utc})" if named else utc
