"""What is remembered of a subject to score forecasts by and to recalibrate the next ones: one row a subject.

A row is one byte of version and what follows, little endian: the state's head, 18 weights (float32) for each of
SCORED_STEPS, of all truths and of those that were foretold high, the sums of each day, those of what alerts go by, and
the forecasts of the last 90 minutes with those of their targets that are not decided. At most 14 days and
MOST_FORECASTS, so a row is never larger than LARGEST_ROW whatever comes. Rows of version 3, which tell no truths that
were foretold high apart, are read; so are those of version 2, which do not know which of two forecasts of one
millisecond is the later one, and those of version 1, which know neither the sums of what alerts go by nor what was
shown last either.
"""

import dataclasses
import functools
import operator
import struct
from collections.abc import Sequence
from typing import NamedTuple

from schemas.errors import MalformedRecordError
from schemas.grid import HORIZON_STEPS, LATEST_SLOT, QUANTILE_LEVELS, THRESHOLDS_MGDL

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
EVENT_STEPS = 6
"""Of P(beyond a threshold at any time) that of the next 30 minutes is scored: what alerts go by, unless somebody has
other rules."""

VERSION = 4
_LEVELS = len(QUANTILE_LEVELS)
_BIT_OF = {step: 1 << place for place, step in enumerate(SCORED_STEPS)}
_HEAD = struct.Struct("<B8sIIIBB")  # version, model, newest, scored, unmeasured, days, open forecasts
_MORE = struct.Struct(f"<B{SETTLED_STEPS}H")  # days of events, what was shown last
_BINS_OF_STEP = struct.Struct(f"<{BINS}f")
_WEIGHTS_BYTES = _BINS_OF_STEP.size * len(SCORED_STEPS)
_DAY = struct.Struct("<I")
_SUMS = struct.Struct("<H6I14H")
_DAY_BYTES = _SUMS.size * len(SUMMED_STEPS)
_SINCE = struct.Struct("<Q")
_FORECAST_1 = "<BQ8sBf"  # steps before the newest, began, chart, open targets, readings
_CHANCES = f"{len(THRESHOLDS_MGDL)}H"
_FORECASTS = {
    1: struct.Struct(_FORECAST_1),
    2: struct.Struct(_FORECAST_1 + _CHANCES),
    3: struct.Struct(_FORECAST_1 + "I" + _CHANCES),  # with the revision
    4: struct.Struct(_FORECAST_1 + "I" + _CHANCES),
}
"""The head of a forecast, by version of the row."""
_FORECAST = _FORECASTS[VERSION]
_REVISIONS = 1 << 32
NO_CHANCE = 0xFFFF
NO_CHANCES = (NO_CHANCE,) * len(THRESHOLDS_MGDL)
_EVENT_SUMS = struct.Struct("<2H3I")
_EVENT_DAY_BYTES = _EVENT_SUMS.size * len(THRESHOLDS_MGDL)
_SHIFTS = struct.Struct(f"<{_LEVELS * len(SCORED_STEPS)}h")
_SHIFTS_OF_STEP = struct.Struct(f"<{_LEVELS}h")
_TARGET = struct.Struct(f"<{_LEVELS + 2}H")
LARGEST_ROW = (
    _HEAD.size
    + _SINCE.size
    + _MORE.size
    + 2 * _WEIGHTS_BYTES
    + KEPT_DAYS * (2 * _DAY.size + _DAY_BYTES + _EVENT_DAY_BYTES)
    + MOST_FORECASTS * (_FORECAST.size + _SHIFTS.size)
    + sum(step + SETTLED_STEPS for step in SCORED_STEPS) * _TARGET.size
)


class Sums(NamedTuple):
    """Of one day and one horizon. Zones are counts of A to E."""

    targets: int = 0
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
        return Sums._make(map(operator.add, self, other))


class EventSums(NamedTuple):
    """Of one day and one threshold: forecasts that spoke of crossing it, from where glucose was not beyond it."""

    forecasts: int = 0
    happened: int = 0
    said: int = 0
    """Probabilities, ten-thousandths."""
    brier: int = 0
    """Squares of probability less what happened, ten-thousandths."""
    log_milli: int = 0
    """Log scores, thousandths of a nat."""

    def plus(self, other: "EventSums") -> "EventSums":
        """Both together."""
        return EventSums._make(map(operator.add, self, other))


class Target(NamedTuple):
    """What one forecast says of one target time. Quantiles in tenths of mg/dL, chances in ten-thousandths."""

    base: tuple[int, ...]
    """Before recalibration, by rising level: what the recalibration is learnt from."""
    low: int
    """P(< 70 mg/dL)."""
    high: int
    """P(> 180 mg/dL)."""

    def to_bytes(self) -> bytes:
        """As the row has it."""
        return _TARGET.pack(*self.base, self.low, self.high)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Target":
        """Inverse of `to_bytes`."""
        numbers = _TARGET.unpack(data)
        return cls(numbers[:_LEVELS], *numbers[_LEVELS:])


@dataclasses.dataclass(slots=True)
class KnownForecast:
    """A forecast that may be scored yet, or come again. `targets` by step: those that are open, packed.

    `shifts`: as it was recalibrated when it came first, learnt from so many `readings`; all 0 if it was not. `chances`:
    of crossing each threshold, ten-thousandths; NO_CHANCE of those that are not to be scored. `revision`: the lower 32
    bits, which tell two of one millisecond apart.
    """

    slot: int
    began_ms: int
    targets: dict[int, bytes]
    readings: float = 0.0
    shifts: bytes = bytes(_SHIFTS.size)
    chances: tuple[int, ...] = NO_CHANCES
    revision: int = 0

    def is_later_than(self, other: "KnownForecast") -> bool:
        """Of two forecasts for one slot, whether this one is of the reading that came later."""
        if self.began_ms != other.began_ms:
            return self.began_ms > other.began_ms
        return 0 < (self.revision - other.revision) % _REVISIONS < _REVISIONS // 2


@functools.cache
def _steps_of(bits: int) -> tuple[int, ...]:
    """Those of SCORED_STEPS whose bit is set in a byte."""
    return tuple(step for step, bit in _BIT_OF.items() if bits & bit)


def packed_shifts(centi: Sequence[int]) -> bytes:
    """Shifts in hundredths, 9 levels for each of SCORED_STEPS in a row, as a forecast holds them."""
    return _SHIFTS.pack(*centi)


def unpacked_shifts(shifts: bytes) -> tuple[int, ...]:
    """Inverse of `packed_shifts`."""
    return _SHIFTS.unpack(shifts)


def shifts_of_step(shifts: bytes, place: int) -> tuple[int, ...]:
    """Of one of SCORED_STEPS, by its place."""
    return _SHIFTS_OF_STEP.unpack_from(shifts, place * _SHIFTS_OF_STEP.size)


@dataclasses.dataclass(slots=True)
class ScoreState:
    """Of one subject. `newest`: the newest slot that a forecast was issued at; `model`: 8 bytes of its fingerprint.

    `weights`: 18 bins for each of SCORED_STEPS, decayed up to `newest`, packed; behind them the same of truths that
    were foretold high, by how high (`agents.core.recalibration`); `days`: sums by day since 1970 (UTC), packed;
    `events`: the same of what alerts go by; `forecasts`: by the first 8 bytes of their chart's id, in the order in
    which they came; `shown`: what the newest forecast shows of the last SETTLED_STEPS slots up to its own, in
    hundredths of mg/dL, 0 of what is not measured: a gap may hide it from the next.
    """

    model: bytes = bytes(8)
    newest: int = 0
    scored: int = 0
    unmeasured: int = 0
    weights: bytes = bytes(2 * _WEIGHTS_BYTES)
    days: dict[int, bytes] = dataclasses.field(default_factory=dict)
    forecasts: dict[bytes, KnownForecast] = dataclasses.field(default_factory=dict)
    events: dict[int, bytes] = dataclasses.field(default_factory=dict)
    shown: tuple[int, ...] = (0,) * SETTLED_STEPS
    since_ms: int = 0
    """When the first of its forecasts began (Unix time); 0 of a row of before."""

    @property
    def began_ms(self) -> int:
        """When the newest of the forecasts that are to be scored yet began (Unix time); 0 where there is none."""
        return max((known.began_ms for known in self.forecasts.values()), default=0)

    @property
    def readings(self) -> float:
        """Truths that the recalibration at the hour's end is learnt from, earlier ones for less."""
        last: tuple[float, ...] = _BINS_OF_STEP.unpack_from(self.weights, _WEIGHTS_BYTES - _BINS_OF_STEP.size)
        return round(sum(last), 1)

    def sums_of(self, day: int) -> list[Sums]:
        """Of a day, by place in SUMMED_STEPS."""
        packed = self.days.get(day, bytes(_DAY_BYTES))
        return list(map(Sums._make, _SUMS.iter_unpack(packed)))

    def set_sums(self, day: int, sums: Sequence[Sums]) -> None:
        """Inverse of `sums_of`."""
        self.days[day] = b"".join([_SUMS.pack(*each) for each in sums])

    def events_of(self, day: int) -> list[EventSums]:
        """Of a day, by place in THRESHOLDS_MGDL."""
        packed = self.events.get(day, bytes(_EVENT_DAY_BYTES))
        return list(map(EventSums._make, _EVENT_SUMS.iter_unpack(packed)))

    def set_events(self, day: int, sums: Sequence[EventSums]) -> None:
        """Inverse of `events_of`."""
        self.events[day] = b"".join([_EVENT_SUMS.pack(*each) for each in sums])

    def to_bytes(self) -> bytes:
        """The row."""
        counts = len(self.days), len(self.forecasts)
        parts = [
            _HEAD.pack(VERSION, self.model, self.newest, self.scored, self.unmeasured, *counts),
            _MORE.pack(len(self.events), *self.shown),
            _SINCE.pack(self.since_ms),
            self.weights,
        ]
        for summed in (self.days, self.events):
            for day, sums in sorted(summed.items()):
                parts += [_DAY.pack(day), sums]
        for chart, known in self.forecasts.items():
            before, steps = self.newest - known.slot, sorted(known.targets)
            head = before, known.began_ms, chart, sum([_BIT_OF[step] for step in steps]), known.readings
            parts += [_FORECAST.pack(*head, known.revision % _REVISIONS, *known.chances), known.shifts]
            parts += [known.targets[step] for step in steps]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, row: bytes | None) -> "ScoreState":
        """Inverse of `to_bytes`; an empty state where there is no row. Raises `MalformedRecordError`."""
        if not row:
            return cls()
        try:
            return cls._read(row)
        except struct.error:
            raise MalformedRecordError("not a row of the table of scores: it is cut off") from None

    @classmethod
    def _read(cls, row: bytes) -> "ScoreState":
        version, model, newest, scored, unmeasured, days, forecasts = _HEAD.unpack_from(row)
        if version not in _FORECASTS:
            raise MalformedRecordError(f"a row of scores of version {version}, this is version {VERSION}")
        if newest > LATEST_SLOT:
            raise MalformedRecordError("not a row of the table of scores: no slot is so late")
        at, event_days, shown = _HEAD.size, 0, (0,) * SETTLED_STEPS
        if version > 1:
            event_days, *last = _MORE.unpack_from(row, at)
            shown, at = tuple(last), at + _MORE.size
        since_ms = 0
        if version > 2:
            (since_ms,) = _SINCE.unpack_from(row, at)
            at += _SINCE.size
        first, at = at, at + _WEIGHTS_BYTES * (2 if version > 3 else 1)
        weights = row[first:at].ljust(2 * _WEIGHTS_BYTES, b"\0")
        state = cls(model, newest, scored, unmeasured, weights, shown=shown, since_ms=since_ms)
        for summed, count, size in ((state.days, days, _DAY_BYTES), (state.events, event_days, _EVENT_DAY_BYTES)):
            for _ in range(count):
                (day,) = _DAY.unpack_from(row, at)
                at += _DAY.size + size
                summed[day] = row[at - size : at]
        head = _FORECASTS[version]
        for _ in range(forecasts):
            before, began_ms, chart, bits, readings, *later = head.unpack_from(row, at)
            revision = later.pop(0) if version > 2 else 0
            at += head.size + _SHIFTS.size
            shifts, targets = row[at - _SHIFTS.size : at], {}
            for step in _steps_of(bits):
                targets[step] = row[at : at + _TARGET.size]
                at += _TARGET.size
            state.forecasts[chart] = KnownForecast(
                newest - before, began_ms, targets, round(readings, 1), shifts, tuple(later) or NO_CHANCES, revision
            )
        if at != len(row):
            raise MalformedRecordError("not a row of the table of scores: it is cut off, or something follows it")
        return state
