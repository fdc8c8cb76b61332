"""Whether events came as often as they were foretold, and how sure so many windows make one of it.

Windows are put together by the probability that they were given, in tenths. How far a tenth lies from the truth is
known as well as the days of people behind it allow: windows of one day are of the same few excursions. So days of
people are drawn anew, all tenths by the same draws. What that gives about the difference that was found is what would
be found of a forecaster whose every probability is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.training.splits import Examples
from schemas.grid import THRESHOLDS_MGDL

EVENTS = ("<54", "<70", ">180", ">250")
AHEAD = {"30": 5, "60": 11}
"""Minutes ahead -> step."""
BINS = 10
ENOUGH = 200
"""Windows in a bin, for it to be judged."""
ALLOWED = 0.05
"""So far may what came lie from what was said."""

_HIGH_FROM = 2  # of THRESHOLDS_MGDL: from here on an event is above
_DRAWS = 1000

Array = NDArray[np.float64]


class Bin(NamedTuple):
    """One tenth of the probabilities that the event `event` was given `minutes` ahead."""

    event: str
    minutes: str
    rows: NDArray[np.int64]
    """Its windows."""
    off: Array
    """Of each of them, (N,): 1 or 0 for what came, less what was said."""
    said: float


def bins_of(data: Examples, chance: Array) -> list[Bin]:
    """chance (N, 4, 12), the published probability of each of EVENTS at each step -> those with a window in them."""
    found = []
    for minutes, step in AHEAD.items():
        truth = data.future_mgdl[:, step]
        there = np.flatnonzero(np.isfinite(truth))
        for place, (event, threshold) in enumerate(zip(EVENTS, THRESHOLDS_MGDL, strict=True)):
            said = chance[there, place, step]
            happened = truth[there] > threshold if place >= _HIGH_FROM else truth[there] < threshold
            tenth = np.minimum((said * BINS).astype(np.int64), BINS - 1)
            for number in np.unique(tenth):
                of = tenth == number
                found.append(Bin(event, minutes, there[of], happened[of] - said[of], float(said[of].mean())))
    return found


def reliability(bins: Sequence[Bin]) -> dict[str, dict[str, list[dict[str, float]]]]:
    """By minutes ahead and event: windows of each bin, their mean probability, how often it was so."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        minutes: {event: [] for event in EVENTS} for minutes in AHEAD
    }
    for one in bins:
        figures = {"windows": one.rows.size, "forecast": one.said, "observed": one.said + float(one.off.mean())}
        found[one.minutes][one.event].append(figures)
    return found


def furthest_off(figures: Sequence[dict[str, float]]) -> float:
    """How far the worst bin with ENOUGH windows lies from the diagonal; nan where none has so many."""
    off = [abs(one["forecast"] - one["observed"]) for one in figures if one["windows"] >= ENOUGH]
    return max(off, default=math.nan)


def certainty(data: Examples, bins: Sequence[Bin], seed: int) -> dict[str, dict[str, Any]]:
    """By minutes ahead, of bins with ENOUGH windows: {"beyond": those further off than ALLOWED, with the 95 % interval
    of the difference, "chance_beyond": that of a forecaster whose every probability is right one would be, too}.
    """
    day = data.windows.end_times.astype("datetime64[D]").astype(np.int64)
    _, whose = np.unique(data.person, return_inverse=True)
    _, day_of_one = np.unique(whose * (1 << 32) + day, return_inverse=True)
    days = int(day_of_one.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(days, np.full(days, 1.0 / days), size=_DRAWS).astype(np.float32)
    furthest = {minutes: np.zeros(_DRAWS) for minutes in AHEAD}
    beyond: dict[str, list[dict[str, Any]]] = {minutes: [] for minutes in AHEAD}
    for one in bins:
        if one.rows.size < ENOUGH:
            continue
        of_day = day_of_one[one.rows]
        windows = np.bincount(of_day, minlength=days)
        sums = drawn @ np.bincount(of_day, weights=one.off, minlength=days).astype(np.float32)
        off, redrawn = float(one.off.mean()), sums / np.maximum(drawn @ windows.astype(np.float32), 1.0)
        furthest[one.minutes] = np.maximum(furthest[one.minutes], np.abs(redrawn - off))
        if abs(off) > ALLOWED:
            low, high = np.quantile(redrawn, (0.025, 0.975))
            beyond[one.minutes].append(
                {
                    "event": one.event,
                    "windows": one.rows.size,
                    "days": int((windows > 0).sum()),
                    "forecast": one.said,
                    "off": off,
                    "off_95": [float(low), float(high)],
                }
            )
    return {
        minutes: {"beyond": beyond[minutes], "chance_beyond": float((furthest[minutes] > ALLOWED).mean())}
        for minutes in AHEAD
    }
