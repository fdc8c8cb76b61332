"""A fan that stays honest for one person: levels are read where this person's truths have been falling. Pure numpy.

For each of SCORED_STEPS the normal scores of the base fan at the truth are counted in 18 bins, an earlier one for less
(half-life HALF_LIFE_STEPS), beside a prior of PRIOR_READINGS that the fan is right, which never decays. With G the
share of all that lies below an edge, the map

    Phi^-1(G(edge)) -> edge

is interpolated linearly and read at the scores of the published levels. Without a reading G is Phi, and the map
identity. Shifts of the steps between two of SCORED_STEPS are interpolated. No level comes nearer to the median than
NARROWEST, nor further than WIDEST times its distance in the base fan.

Event probabilities are not touched: scaling them with a person's fan made them worse on people not seen.

Sources: recalibration by the probability integral transform, Kuleshov, Fenner, Ermon 2018.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from agents.core.fan_scores import FURTHEST_SCORE, LEVEL_SCORES, told_apart, values_at, within
from schemas.grid import HIGHEST_MGDL, HORIZON_STEPS, LOWEST_MGDL, STEPS_A_DAY
from schemas.score_state import SCORED_STEPS

Array = NDArray[np.float64]

VERSION = 1
"""Of the map: the same state and the same version give the same fan."""
HALF_LIFE_STEPS = 3 * STEPS_A_DAY
PRIOR_READINGS = 72.0
NARROWEST, WIDEST = 0.7, 2.0
MEDIAN = len(LEVEL_SCORES) // 2

_HALF = np.array([0.32, 0.67, 1.0, 1.28, 1.645, 1.96, 2.5, 3.25])
EDGES: Array = np.concatenate([-_HALF[::-1], [0.0], _HALF])
_BIN_WIDTHS: Array = np.diff(EDGES)
_PRIOR: Array = PRIOR_READINGS * np.diff(np.concatenate([[0.0], ndtr(EDGES), [1.0]]))
_BETWEEN: Array = np.stack(
    [np.interp(np.arange(1, HORIZON_STEPS + 1), SCORED_STEPS, row) for row in np.eye(len(SCORED_STEPS))], axis=1
)
_DECIMALS = 2


def decayed(weights: Array, steps: int | NDArray[np.int64]) -> Array:
    """What is left of weights after so many steps."""
    return np.asarray(weights * 0.5 ** (steps / HALF_LIFE_STEPS))


def bins_of(scores: Array) -> NDArray[np.int64]:
    """The bin of each normal score."""
    return EDGES.searchsorted(scores, side="right")


def shifts(weights: Array) -> Array:
    """How far from its own score the base fan is read for each level: weights (5, 18) -> (5, 9), in hundredths."""
    share = (weights + _PRIOR).cumsum(axis=1)
    below = ndtri(share[:, :-1] / share[:, -1:])
    segment = (LEVEL_SCORES[:, None] >= below[:, None, 1:-1]).sum(axis=2)
    rows = np.arange(below.shape[0])[:, None]
    left, right = below[rows, segment], below[rows, segment + 1]
    found = EDGES[segment] + (LEVEL_SCORES - left) * (_BIN_WIDTHS[segment] / (right - left))
    return (within(found, -FURTHEST_SCORE, FURTHEST_SCORE) - LEVEL_SCORES).round(_DECIMALS) + 0.0


def over_horizon(shifts: Array) -> Array:
    """Shifts of SCORED_STEPS (5, 9) -> of every step (12, 9)."""
    return np.asarray(_BETWEEN @ shifts)


def recalibrated(base_mgdl: Array, shifts: Array) -> Array:
    """Published quantiles in tenths: base fans and their shifts, each (N, 9) -> (N, 9), rising, in the sensor's range.

    Shifts of 0 leave base quantiles as they are, if they are published ones.
    """
    moved = values_at(base_mgdl, LEVEL_SCORES + shifts)
    middle = moved[:, MEDIAN, None]
    allowed = base_mgdl - base_mgdl[:, MEDIAN, None]
    near, far = NARROWEST * allowed, WIDEST * allowed
    off = within(moved - middle, np.minimum(near, far), np.maximum(near, far))
    fan = within(middle + off, LOWEST_MGDL, HIGHEST_MGDL).round(1)
    return told_apart(np.maximum.accumulate(fan, axis=-1))  # sums of floats, rounded, can pass each other by a tenth
