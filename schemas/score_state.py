"""What is remembered of a subject to score forecasts by and to recalibrate the next ones: one row a subject.

A row is one byte of version and what follows, little endian: the state's head, 18 weights (float32) for each of
SCORED_STEPS, the sums of each day, and the forecasts of the last 90 minutes with those of their targets that are not decided. At most
14 days and MOST_FORECASTS, so a row is never larger than LARGEST_ROW whatever comes.
"""

import dataclasses
import struct
from typing import NamedTuple

from schemas.errors import MalformedRecordError
from schemas.grid import HORIZON_STEPS, QUANTILE_LEVELS

SCORED_STEPS = (1, 3, 6, 9, 12)
"""Target steps that are scored: 5, 15, 30, 45 and 60 minutes. The fan between them is recalibrated by both sides."""
SUMMED_STEPS = (3, 6, 12)
"""Those of the scorecard."""
BINS = 18
SETTLED_STEPS = 6
"""A target is decided by the first forecast that is issued so many steps after it: what came late until then counts."""
KEPT_STEPS = HORIZON_STEPS + SETTLED_STEPS
"""So long a forecast has targets that are not decided."""
MOST_FORECASTS = 2 * KEPT_STEPS
"""With those that a corrected reading replaced: they are remembered to be the same when they are delivered again."""
KEPT_DAYS = 14

VERSION = 1
_LEVELS = len(QUANTILE_LEVELS)
_HEAD = struct.Struct("<B8sIIIBB")  # version, model, newest, scored, unmeasured, days, open forecasts
_WEIGHTS = struct.Struct(f"<{BINS * len(SCORED_STEPS)}f")
_DAY = struct.Struct("<I")
_SUMS = struct.Struct("<H6I14H")
_SHIFTS = _LEVELS * len(SCORED_STEPS)
_FORECAST = struct.Struct(f"<BQ8sBf{_SHIFTS}h")  # steps before the newest, began, chart, open targets, readings, shifts
_TARGET = struct.Struct(f"<{_LEVELS + 2}H")
LARGEST_ROW = (
    _HEAD.size
    + _WEIGHTS.size
    + KEPT_DAYS * (_DAY.size + len(SUMMED_STEPS) * _SUMS.size)
    + MOST_FORECASTS * _FORECAST.size
    + sum(step + SETTLED_STEPS for step in SCORED_STEPS) * _TARGET.size
)


class Sums(NamedTuple):
    """Of one day and one horizon. Zones are counts of A to E."""

    count: int = 0
    error_deci: int = 0
    """|median - truth|, tenths of mg/dL."""
    square: int = 0
    """(median - truth)^2, mg^2/dL^2."""
    crps_centi: int = 0
    width_deci: int = 0
    """Of the published 90 % interval."""
    low_milli: int = 0
    """Log score of P(< 70 mg/dL), thousandths of a nat."""
    high_milli: int = 0
    """Log score of P(> 180 mg/dL), thousandths of a nat."""
    in_50: int = 0
    in_80: int = 0
    in_90: int = 0
    in_95: int = 0
    clarke_a: int = 0
    clarke_b: int = 0
    clarke_c: int = 0
    clarke_d: int = 0
    clarke_e: int = 0
    parkes_a: int = 0
    parkes_b: int = 0
    parkes_c: int = 0
    parkes_d: int = 0
    parkes_e: int = 0

    def plus(self, other: "Sums") -> "Sums":
        """Both together."""
        return Sums(*map(sum, zip(self, other, strict=True)))


class Target(NamedTuple):
    """What one forecast says of one target time. Quantiles in tenths of mg/dL, chances in ten-thousandths."""

    base: tuple[int, ...]
    """Before recalibration, by rising level: what the recalibration is learnt from."""
    low: int
    """P(< 70 mg/dL)."""
    high: int
    """P(> 180 mg/dL)."""


@dataclasses.dataclass(slots=True)
class KnownForecast:
    """A forecast that may be scored yet, or come again. `targets` by step: those that are open.

    `shifts_centi`: 9 levels for each of SCORED_STEPS, as it was recalibrated when it came first, of so many `readings`.
    """

    slot: int
    began_ms: int
    targets: dict[int, Target]
    readings: float = 0.0
    shifts_centi: tuple[int, ...] = (0,) * _SHIFTS


@dataclasses.dataclass(slots=True)
class ScoreState:
    """Of one subject. `newest`: the newest slot that a forecast was issued at; `model`: 8 bytes of its fingerprint.

    `weights`: 18 bins for each of SCORED_STEPS, decayed up to `newest`; `days`: sums by day since 1970 (UTC) and place
    in SUMMED_STEPS; `forecasts`: by the first 8 bytes of their chart's id, in the order in which they came.
    """

    model: bytes = bytes(8)
    newest: int = 0
    scored: int = 0
    unmeasured: int = 0
    weights: tuple[float, ...] = (0.0,) * (BINS * len(SCORED_STEPS))
    days: dict[int, tuple[Sums, ...]] = dataclasses.field(default_factory=dict)
    forecasts: dict[bytes, KnownForecast] = dataclasses.field(default_factory=dict)

    @property
    def readings(self) -> float:
        """Truths that the recalibration at the hour's end is learnt from, earlier ones for less."""
        return round(sum(self.weights[-BINS:]), 1)

    def to_bytes(self) -> bytes:
        """The row."""
        counts = len(self.days), len(self.forecasts)
        parts = [
            _HEAD.pack(VERSION, self.model, self.newest, self.scored, self.unmeasured, *counts),
            _WEIGHTS.pack(*self.weights),
        ]
        for day, horizons in sorted(self.days.items()):
            parts.append(_DAY.pack(day))
            parts += [_SUMS.pack(*sums) for sums in horizons]
        for chart, known in self.forecasts.items():
            which = sum(1 << place for place, step in enumerate(SCORED_STEPS) if step in known.targets)
            before = self.newest - known.slot
            parts.append(_FORECAST.pack(before, known.began_ms, chart, which, known.readings, *known.shifts_centi))
            targets = (known.targets[step] for step in SCORED_STEPS if step in known.targets)
            parts += [_TARGET.pack(*target.base, target.low, target.high) for target in targets]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, row: bytes | None) -> "ScoreState":
        """Inverse of `to_bytes`; an empty state where there is no row. Raises `MalformedRecordError`."""
        if not row:
            return cls()
        try:
            return cls._read(memoryview(row))
        except (struct.error, IndexError):
            raise MalformedRecordError("not a row of the table of scores: it is cut off") from None

    @classmethod
    def _read(cls, row: memoryview) -> "ScoreState":
        version, model, newest, scored, unmeasured, days, forecasts = _HEAD.unpack_from(row)
        if version != VERSION:
            raise MalformedRecordError(f"a row of scores of version {version}, this is version {VERSION}")
        at = _HEAD.size
        state = cls(model, newest, scored, unmeasured, _WEIGHTS.unpack_from(row, at))
        at += _WEIGHTS.size
        for _ in range(days):
            (day,) = _DAY.unpack_from(row, at)
            at += _DAY.size
            places = [at + place * _SUMS.size for place in range(len(SUMMED_STEPS))]
            state.days[day] = tuple(Sums(*_SUMS.unpack_from(row, place)) for place in places)
            at += len(places) * _SUMS.size
        for _ in range(forecasts):
            before, began_ms, chart, which, readings, *shifts = _FORECAST.unpack_from(row, at)
            at += _FORECAST.size
            targets = {}
            for place, step in enumerate(SCORED_STEPS):
                if which >> place & 1:
                    *base, low, high = _TARGET.unpack_from(row, at)
                    at += _TARGET.size
                    targets[step] = Target(tuple(base), low, high)
            known = KnownForecast(newest - before, began_ms, targets, round(readings, 1), tuple(shifts))
            state.forecasts[chart] = known
        if at != len(row):
            raise MalformedRecordError("not a row of the table of scores: something follows it")
        return state
