"""Lows at night that may be pressure on the sensor: pure, over the points that a forecast was made from.

Who lies on a sensor squeezes the fluid that it measures in: its glucose falls within minutes, and comes back as fast
when they turn (pressure-induced sensor attenuation, Baysal et al. 2014). The rule here is our own: between 23 and 7
o'clock glucose falls by 25 mg/dL or more within 15 minutes into a low, rises by as much within 15 minutes out of it,
and was below 70 mg/dL for an hour at most; what it fell from and rose to, and a point of the low, were measured. It
asks for a look at the past, so a low is flagged when it is over. Of the lows at night it flags 13 to 20 % in AZT1D,
Bris-T1D_Open and T1D-UOM, and under 2 % in Colas_2019 and Hall_2018, mostly of people without diabetes; what they truly
were nobody wrote down, and lows by day have the form nearly as often. So it is a suspicion: nothing is left out,
corrected or silenced by it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from schemas.grid import STEP

LOW_MGDL = 70.0
CHANGE_MGDL = 25.0
WITHIN_STEPS = 3
LONGEST_STEPS = 12
NIGHT_BEGINS, NIGHT_ENDS = 23, 7
MOST_WARNINGS = 2


class Squeezed(NamedTuple):
    """Places of the first and the last point of a low."""

    first: int
    last: int


def suspected(past_mgdl: Sequence[float], interpolated: Sequence[int]) -> Iterator[Squeezed]:
    """Lows of that form among points 5 minutes apart, whatever the time of day, oldest first."""
    if min(past_mgdl, default=LOW_MGDL) >= LOW_MGDL:
        return
    glucose = np.asarray(past_mgdl, dtype=np.float64)
    measured = np.ones(glucose.size, dtype=bool)
    measured[[place for place in interpolated if place < glucose.size]] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], glucose < LOW_MGDL, [False]]).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2).tolist():
        if begin < WITHIN_STEPS or end + WITHIN_STEPS > glucose.size or end - begin > LONGEST_STEPS:
            continue
        low = glucose[begin:end][measured[begin:end]]
        before = glucose[begin - WITHIN_STEPS : begin][measured[begin - WITHIN_STEPS : begin]]
        after = glucose[end : end + WITHIN_STEPS][measured[end : end + WITHIN_STEPS]]
        if not (low.size and before.size and after.size):
            continue
        if before.max() - glucose[begin] >= CHANGE_MGDL and after.max() - glucose[end - 1] >= CHANGE_MGDL:
            yield Squeezed(begin, end - 1)


def warnings_of(past_mgdl: Sequence[float], interpolated: Sequence[int], last_time: datetime.datetime) -> list[str]:
    """The newest suspicions in words; `last_time`: of the last point, on the person's clock."""
    found = []
    for low in suspected(past_mgdl, interpolated):
        first, last = (last_time - (len(past_mgdl) - 1 - place) * STEP for place in low)
        if first.hour >= NIGHT_BEGINS or first.hour < NIGHT_ENDS:
            found.append(
                f"COMPRESSION: the low from {first:%H:%M} to {last:%H:%M} fell and rose as under pressure on the sensor"
            )
    return found[-MOST_WARNINGS:]
