"""A published fan against the truth: normal score, interval hits, CRPS, log score of an event. Pure numpy.

A fan is known by its quantiles at QUANTILE_LEVELS. Between two of them it is taken to be linear in the normal score
z = Phi^-1(level), and beyond the outer ones to go on with the slope of the last segment, as calibrations do in
`agents.core.predictive`. All glucose is mg/dL; rows are pairs of a fan and a truth.

Source of the CRPS as twice the integral of the quantile loss over the levels: Laio and Tamea 2007; Gneiting and Ranjan
2011.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL, QUANTILE_LEVELS

Array = NDArray[np.float64]

LEVEL_SCORES: Array = ndtri(np.asarray(QUANTILE_LEVELS))
MIDDLE = QUANTILE_LEVELS.index(0.5)
FURTHEST_SCORE = 5.0
"""Beyond, a fan says nothing that its quantiles are known for."""
INTERVALS = {50: (3, 5), 80: (2, 6), 90: (1, 7), 95: (0, 8)}
"""Percent -> places of its ends in QUANTILE_LEVELS."""
_LOWER, _UPPER = np.array(list(INTERVALS.values())).T
LEAST_CHANCE = 1e-4
"""Chances are published in ten-thousandths: an event that was given 0 is judged as if it had been given one."""
TENTH_MGDL = 0.1
LEAST_STEP_MGDL = 0.05
"""Quantiles travel in tenths of mg/dL: two that are equal there lie apart by half of one at most."""
SCORE_STEPS: Array = np.diff(LEVEL_SCORES)
"""Of each segment between two levels, of which the outer ones go on beyond them."""

_INNER_SCORES = LEVEL_SCORES[1:-1]
_OFF_MEDIAN = TENTH_MGDL * (np.arange(LEVEL_SCORES.size) - MIDDLE)
_LEAST_OFF_MEDIAN = np.where(_OFF_MEDIAN < 0.0, -np.inf, _OFF_MEDIAN)
_MOST_OFF_MEDIAN = np.where(_OFF_MEDIAN < 0.0, _OFF_MEDIAN, np.inf)
_FINE = (np.arange(100) + 0.5) / 100


def _weights(scores: Array) -> Array:
    """(P, K): the value at each score (P,) as a weighted sum of the K quantiles."""
    last = len(LEVEL_SCORES) - 2
    segment = np.clip(np.searchsorted(LEVEL_SCORES, scores, side="right") - 1, 0, last)
    share = (scores - LEVEL_SCORES[segment]) / (LEVEL_SCORES[segment + 1] - LEVEL_SCORES[segment])
    found = np.zeros((scores.size, LEVEL_SCORES.size))
    rows = np.arange(scores.size)
    found[rows, segment] = 1.0 - share
    found[rows, segment + 1] += share
    return found


_FINE_WEIGHTS = _weights(ndtri(_FINE)).T


def _mean_weights() -> Array:
    """(K,): the mean as a weighted sum of the K quantiles, from the integrals of 1 and z under the normal density."""
    last = len(LEVEL_SCORES) - 2
    ends = np.concatenate([[-np.inf], LEVEL_SCORES[1:-1], [np.inf]])
    density = np.exp(-0.5 * ends**2) / np.sqrt(2.0 * np.pi)
    chance, moment = np.diff(ndtr(ends)), -np.diff(density)
    found = np.zeros(LEVEL_SCORES.size)
    for segment in range(last + 1):
        low, high = LEVEL_SCORES[segment : segment + 2]
        right = (moment[segment] - low * chance[segment]) / (high - low)
        found[segment] += chance[segment] - right
        found[segment + 1] += right
    return found


_MEAN_WEIGHTS = _mean_weights()


def mean_of(quantiles_mgdl: Array) -> Array:
    """The mean of each fan: (N, K) -> (N,). Where the upper half is wider, as before a rise, it lies above the median.

    The mean is what the squared error asks for, the median what the absolute one does (Gneiting 2011).
    """
    return np.asarray(quantiles_mgdl @ _MEAN_WEIGHTS)


def normal_scores(quantiles_mgdl: Array, truth_mgdl: Array) -> Array:
    """z at the truth: quantiles (N, K), truth (N,) -> (N,), within -FURTHEST_SCORE..FURTHEST_SCORE.

    Of equal quantiles the middle counts: Phi(z) is the probability integral transform.
    """
    spread = np.zeros_like(quantiles_mgdl)
    np.maximum(quantiles_mgdl[:, 1:] - quantiles_mgdl[:, :-1], LEAST_STEP_MGDL).cumsum(axis=1, out=spread[:, 1:])
    middle = slice(MIDDLE, MIDDLE + 1)
    knots = quantiles_mgdl[:, middle] + spread - spread[:, middle]
    segment = (truth_mgdl[:, None] >= knots[:, 1:-1]).sum(axis=1)
    rows = np.arange(truth_mgdl.size)
    left, right = knots[rows, segment], knots[rows, segment + 1]
    found = LEVEL_SCORES[segment] + (truth_mgdl - left) * (SCORE_STEPS[segment] / (right - left))
    return within(found, -FURTHEST_SCORE, FURTHEST_SCORE)


def chances(scores: Array) -> Array:
    """The probability below a normal score."""
    return np.asarray(ndtr(scores))


def values_at(quantiles_mgdl: Array, scores: Array) -> Array:
    """The inverse: quantiles (N, K) at scores (N, P) -> (N, P), rising where the scores rise."""
    segment = _INNER_SCORES.searchsorted(scores, side="right")
    rows = np.arange(quantiles_mgdl.shape[0])[:, None]
    slopes = (quantiles_mgdl[:, 1:] - quantiles_mgdl[:, :-1]) / SCORE_STEPS
    return np.asarray(quantiles_mgdl[rows, segment] + (scores - LEVEL_SCORES[segment]) * slopes[rows, segment])


def within(values: Array, least: Array | float, most: Array | float) -> Array:
    """As `np.clip`, at a third of its cost where there are few."""
    return np.asarray(np.minimum(np.maximum(values, least), most))


def told_apart(quantiles_mgdl: Array, level_axis: int = -1) -> Array:
    """Quantiles in tenths, as they are published: the n-th to a side of the median lies n tenths from it at least, as
    far as the sensor's range goes. So no interval is without width; a fan that is wider by itself stays as it is.
    """
    fan = quantiles_mgdl.swapaxes(level_axis, -1).round(1)
    median = fan[..., MIDDLE, None]
    apart = within(fan, median + _LEAST_OFF_MEDIAN, median + _MOST_OFF_MEDIAN)
    return within(apart, LOWEST_MGDL, HIGHEST_MGDL).round(1).swapaxes(level_axis, -1)


def crps(quantiles_mgdl: Array, truth_mgdl: Array) -> Array:
    """(N, K), (N,) -> (N,) mg/dL: twice the mean quantile loss at 100 levels."""
    off = truth_mgdl[:, None] - quantiles_mgdl @ _FINE_WEIGHTS
    return np.asarray(2.0 * (off * (_FINE - (off < 0.0))).mean(axis=1))


def inside(quantiles_mgdl: Array, truth_mgdl: Array) -> NDArray[np.bool_]:
    """Whether the truth lies in each of INTERVALS, ends included: (N, K), (N,) -> (N, 4)."""
    truth = truth_mgdl[:, None]
    return np.asarray((quantiles_mgdl[:, _LOWER] <= truth) & (truth <= quantiles_mgdl[:, _UPPER]))


def log_score(chance: float, happened: bool) -> float:
    """-ln of the probability that was given to what happened, nats; lower is better."""
    return -math.log(max(chance if happened else 1.0 - chance, LEAST_CHANCE))
