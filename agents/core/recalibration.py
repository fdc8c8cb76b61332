"""A fan that stays honest for one person: levels are read where this person's truths have been falling. Pure numpy.

For each of SCORED_STEPS the normal scores of the base fan at the truth are counted in 18 bins, an earlier one for less
(half-life HALF_LIFE_STEPS), beside a prior of PRIOR_READINGS that the fan is right, which never decays. With G the
share of all that lies below an edge, the map

    Phi^-1(G(edge)) -> edge

is interpolated linearly and read at the scores of the published levels. Without a reading G is Phi, and the map
identity. Shifts of the steps between two of SCORED_STEPS are interpolated. No level comes nearer to the median than
NARROWEST, nor further than WIDEST times its distance in the base fan.

A person has two such histograms: of all truths, and of those that were foretold high. Most truths of a person lie where
glucose is not high, and how wide a fan has to be there says little of it above 250 mg/dL. A fan counts as high by its
own median, from nothing at 180 mg/dL to wholly at 250: so much of a truth is counted in the second histogram, and so
much of the shifts is the second's. In between nothing jumps. Both begin with the same prior.

Event probabilities are not touched: scaling them with a person's fan made them worse on people not seen.

Sources: recalibration by the probability integral transform, Kuleshov, Fenner, Ermon 2018.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from agents.core.fan_scores import FURTHEST_SCORE, LEVEL_SCORES, told_apart, values_at, within
from schemas.grid import HIGHEST_MGDL, HORIZON_STEPS, LOWEST_MGDL, STEPS_A_DAY, THRESHOLDS_MGDL
from schemas.score_state import SCORED_STEPS

Array = NDArray[np.float64]

VERSION = 1
"""Of how shifts make a fan of its base: the same shifts and the same version give the same fan."""
HALF_LIFE_STEPS = 3 * STEPS_A_DAY
PRIOR_READINGS = 72.0
NARROWEST, WIDEST = 0.7, 2.0
HIGH_FROM_MGDL, HIGH_WHOLLY_MGDL = THRESHOLDS_MGDL[2:]
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


def highness(median_mgdl: Array) -> Array:
    """How much a fan of such a median counts as high: 0 to 1."""
    return within((median_mgdl - HIGH_FROM_MGDL) / (HIGH_WHOLLY_MGDL - HIGH_FROM_MGDL), 0.0, 1.0)


def count(weights: Array, places: NDArray[np.int64], scores: Array, median_mgdl: Array, aged: Array) -> None:
    """Add N truths, one or more, to weights (2, 5, 18), of all truths and of high ones: by the place of their step in
    SCORED_STEPS, their normal score in the base fan, its median and what is left of them, each (N,).
    """
    bins = bins_of(scores)
    np.add.at(weights[0], (places, bins), aged)
    if median_mgdl.max() > HIGH_FROM_MGDL:
        np.add.at(weights[1], (places, bins), aged * highness(median_mgdl))


def shifts(weights: Array, median_mgdl: Array) -> Array:
    """How far from its own score the base fan is read for each level, in hundredths.

    weights (2, 5, 18), of all truths and of high ones; medians of the base fan at SCORED_STEPS (5,) -> (5, 9).
    """
    if median_mgdl.max() <= HIGH_FROM_MGDL:
        return _shifts(weights[0]).round(_DECIMALS) + 0.0
    of_all, of_high = _shifts(weights.reshape(-1, weights.shape[2])).reshape(2, len(SCORED_STEPS), -1)
    return (of_all + highness(median_mgdl)[:, None] * (of_high - of_all)).round(_DECIMALS) + 0.0


def _shifts(weights: Array) -> Array:
    """Of each histogram of its own: (N, 18) -> (N, 9)."""
    share = (weights + _PRIOR).cumsum(axis=1)
    below = ndtri(share[:, :-1] / share[:, -1:])
    segment = (LEVEL_SCORES[:, None] >= below[:, None, 1:-1]).sum(axis=2)
    rows = np.arange(below.shape[0])[:, None]
    left, right = below[rows, segment], below[rows, segment + 1]
    found = EDGES[segment] + (LEVEL_SCORES - left) * (_BIN_WIDTHS[segment] / (right - left))
    return within(found, -FURTHEST_SCORE, FURTHEST_SCORE) - LEVEL_SCORES


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
