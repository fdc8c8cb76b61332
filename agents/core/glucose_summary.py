"""What reports say of some weeks of glucose: times in ranges, mean, variation, and the profile of a day. Pure.

Ranges, targets and how much data there has to be are those of the international consensus on time in range (Battelino
et al. 2019, Diabetes Care 42:1593): 14 days of which 70 % have data. The glucose management indicator is that of
Bergenstal et al. 2018 (Diabetes Care 41:2275): GMI (%) = 3.31 + 0.02392 mean (mg/dL). Quantiles are type 7 of Hyndman
and Fan 1996, as numpy's are by default.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agents.core.percent import percent
from schemas.grid import STEP_MINUTES, STEPS_A_DAY, THRESHOLDS_MGDL, highest_within

CONSENSUS_DAYS = 14
CONSENSUS_SHARE = 0.70
"""Of the time that has data."""
STABLE_CV = 0.36
"""Glucose that varies by no more is called stable."""

DAY_MINUTES = 24 * 60
PROFILE_STEP_MINUTES = 15
PROFILE_REACH_MINUTES = 15
"""A point of the profile is of the readings so far before and after it, on whichever day."""
LEAST_READINGS = 5
"""Of fewer no quantiles are shown."""
PROFILE_LEVELS = (0.05, 0.25, 0.50, 0.75, 0.95)
SLOWEST_SLOTS = 3
"""Between the readings of the slowest sensors: they show a value every quarter of an hour."""


class Ranges(NamedTuple):
    """Shares of the readings by range; together 1."""

    below_54: float
    from_54_to_69: float
    from_70_to_180: float
    from_181_to_250: float
    above_250: float

    @property
    def below_70(self) -> float:
        return self.below_54 + self.from_54_to_69

    @property
    def above_180(self) -> float:
        return self.from_181_to_250 + self.above_250


TARGETS = {"below_54": 0.01, "below_70": 0.04, "from_70_to_180": 0.70, "above_180": 0.25, "above_250": 0.05}
"""For most adults with diabetes: less than these shares, of the range 70 to 180 mg/dL more."""


class Summary(NamedTuple):
    """Of the readings of a period. `sd_mgdl` is that of a sample (n - 1); `cv` is sd over mean."""

    readings: int
    active_share: float
    """Of the period's time in which the sensor gave values."""
    mean_mgdl: float
    sd_mgdl: float
    cv: float
    gmi_percent: float
    ranges: Ranges


class ProfilePoint(NamedTuple):
    """Quantiles of PROFILE_LEVELS at a time of day, in mg/dL."""

    minute: int
    readings: int
    quantiles_mgdl: tuple[float, ...]


def quantile(rising: Sequence[float], level: float) -> float:
    """Of values in rising order, linear between them. Raises IndexError where there are none."""
    place = level * (len(rising) - 1)
    below = math.floor(place)
    above = min(below + 1, len(rising) - 1)
    return rising[below] + (place - below) * (rising[above] - rising[below])


def times_in_ranges(values_mgdl: Sequence[float]) -> Ranges:
    """The shares of values below 54, from there to below 70, within 70 to 180, up to 250, and above (mg/dL).

    By the same limits in mmol/L, 3.0, 3.9, 10.0 and 13.9, of what came in tenths of it.
    """
    very_low, low, *highs = THRESHOLDS_MGDL
    high, very_high = map(highest_within, highs)
    counts = [0] * 5
    for value in values_mgdl:
        counts[(value >= very_low) + (value >= low) + (value > high) + (value > very_high)] += 1
    return Ranges(*(count / len(values_mgdl) for count in counts))


def glucose_management_indicator(mean_mgdl: float) -> float:
    """In percent, to be read as an HbA1c that this mean would go with."""
    return 3.31 + 0.02392 * mean_mgdl


def active_slots(slots: Sequence[int]) -> int:
    """Slots in which the sensor gave values, of the rising slots of readings.

    A day's readings each stand for the median time between two of them: 5 minutes, and up to 15 of slower sensors. So
    a slow sensor that misses nothing is active all the time.
    """
    days: defaultdict[int, list[int]] = defaultdict(list)
    for slot in slots:
        days[slot // STEPS_A_DAY].append(slot)
    return sum(min(STEPS_A_DAY, len(day) * _interval(day)) for day in days.values())


def _interval(slots: Sequence[int]) -> int:
    gaps = sorted(after - before for before, after in itertools.pairwise(slots))
    return min(gaps[len(gaps) // 2], SLOWEST_SLOTS) if gaps else 1


def summary(slots: Sequence[int], values_mgdl: Sequence[float], period_slots: int) -> Summary:
    """Of readings at rising slots within a period of so many slots. Raises ValueError where there are none."""
    if not values_mgdl:
        raise ValueError("no readings to sum up")
    count = len(values_mgdl)
    mean = math.fsum(values_mgdl) / count
    squares = math.fsum((value - mean) ** 2 for value in values_mgdl)
    sd = math.sqrt(squares / (count - 1)) if count > 1 else 0.0
    return Summary(
        readings=count,
        active_share=min(1.0, active_slots(slots) / period_slots),
        mean_mgdl=mean,
        sd_mgdl=sd,
        cv=sd / mean,
        gmi_percent=glucose_management_indicator(mean),
        ranges=times_in_ranges(values_mgdl),
    )


def profile(readings: Iterable[tuple[int, float]]) -> list[ProfilePoint | None]:
    """The ambulatory glucose profile: a point each quarter of an hour from midnight, None where readings are few.

    `readings` are minute of the day on the person's clock, and mg/dL.
    """
    steps = DAY_MINUTES // STEP_MINUTES
    by_step: list[list[float]] = [[] for _ in range(steps)]
    for minute, value in readings:
        by_step[minute // STEP_MINUTES].append(value)
    reach = PROFILE_REACH_MINUTES // STEP_MINUTES
    points: list[ProfilePoint | None] = []
    for minute in range(0, DAY_MINUTES, PROFILE_STEP_MINUTES):
        middle = minute // STEP_MINUTES
        near = sorted(value for step in range(-reach, reach + 1) for value in by_step[(middle + step) % steps])
        if len(near) < LEAST_READINGS:
            points.append(None)
            continue
        points.append(ProfilePoint(minute, len(near), tuple(quantile(near, level) for level in PROFILE_LEVELS)))
    return points


def why_not_representative(days: int, active_share: float) -> str | None:
    """What the consensus asks for and the data do not give, in words; None where they do."""
    missing = []
    if days < CONSENSUS_DAYS:
        missing.append(f"they cover {days} of {CONSENSUS_DAYS} days")
    if active_share < CONSENSUS_SHARE:
        said = math.floor(100 * active_share) or percent(active_share)  # not rounded up to what is asked for
        missing.append(f"the sensor gave values {said} % of the time, less than 70 %")
    return " and ".join(missing) or None
