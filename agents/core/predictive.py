"""The predictive distribution that is served: dropout samples widened by the residual spread, then calibrated.

Raw distribution of horizon step h, from S dropout samples m_s,h and the residual spread r_h (law of total variance: the
spread between samples is epistemic, the residual spread aleatoric):

    F_h(x) = 1/S * sum_s Phi((x - m_s,h) / r_h)                       an equal mixture of S normals

Calibration is one conformal step per horizon in normal scores. On held-out data the score of an observed value y is
z = Phi^-1(F_h(y)); if the raw distribution were right, z would be standard normal. `Calibration.scores[k, h]` is the
empirical QUANTILE_LEVELS[k] quantile of z, hence

    Q_h(QUANTILE_LEVELS[k]) = F_h^-1(Phi(scores[k, h]))                        calibrated quantile
    P_h(Y < x)     = Phi(g_h(Phi^-1(F_h(x))))                         calibrated probability

where g_h is the piecewise linear map scores[k, h] -> Phi^-1(QUANTILE_LEVELS[k]), continued with the slope of its last
segments. Scores rise with the level, so quantiles never cross, and P_h(Y < Q_h(q)) = q for every published level q.

What is published is that distribution given that a sensor can show the value, 20 to 600 mg/dL:

    P_h(Y < x | 20 <= Y < 600) = (P_h(x) - P_h(20)) / (P_h(600) - P_h(20))

and its quantiles; so are mean and spread. Clipping instead would make certainty of what the model has no ground for.

Lows have a step of their own beside it: for each of LOWS_MGDL and each horizon step a straight line in normal scores,

    P_h(Y < low) -> Phi(offset + slope * Phi^-1(P_h(Y < low))),    slope > 0

so that the order of probabilities stays as it is. A quantile may thus differ by some hundredths from the probability of
a low at the same place: the conformal step is one for all windows, and where glucose is low already the lower tail is
thinner than that of all.

Sources: conformal predictive quantiles, Vovk et al. 2005 and Romano, Patterson, Candes 2019; recalibration through the
probability integral transform, Kuleshov, Fenner, Ermon 2018; a line in scores, after Platt 1999; CRPS of a normal
mixture, Grimit et al. 2006.

Every function takes leading batch axes: samples (..., S, H), residual spread (..., H). All glucose is mg/dL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from agents.core.calibration import Calibration
from agents.core.truncated_normal import truncated
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL, QUANTILE_LEVELS, THRESHOLDS_MGDL

Array = NDArray[np.float64]

SMALLEST_SPREAD_MGDL = 0.5  # a sensor reports whole mg/dL: nothing narrower can be claimed
SENSOR_RANGE_MGDL = (LOWEST_MGDL, HIGHEST_MGDL)  # nothing is published where no reading is accepted
ARRIVED_MGDL = 1e-4  # Newton's last step: what is left after it is its square
NEGLIGIBLE = 1e-9  # probability outside the sensor's range below which nothing has to be done about it

_ROOT_TWO_PI = np.sqrt(2.0 * np.pi)
_TINY = 1e-300
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(48)


class SensorRange(NamedTuple):
    """Calibrated probability, before all else, below what a sensor can show, and inside it: two of (..., H)."""

    below: Array
    inside: Array

    @property
    def is_everything(self) -> NDArray[np.bool_]:
        """Of which distributions: (...,), so that none depends on those beside it."""
        return np.asarray(np.all(self.inside > 1.0 - NEGLIGIBLE, axis=-1))


def sensor_range(samples_mgdl: ArrayLike, residual_sd_mgdl: ArrayLike, calibration: Calibration) -> SensorRange:
    """How much of a distribution a sensor can show at all. Who asks several questions of one computes it once."""
    samples, spread = _mixture(samples_mgdl, residual_sd_mgdl)
    ends = np.asarray(SENSOR_RANGE_MGDL)[:, None]
    points = np.broadcast_to(ends, (*samples.shape[:-2], 2, samples.shape[-1]))
    edges = _calibrated_cdf(samples, spread, calibration, points)
    return SensorRange(edges[..., 0, :], edges[..., 1, :] - edges[..., 0, :])


def range_and_below(
    samples_mgdl: ArrayLike, residual_sd_mgdl: ArrayLike, calibration: Calibration, thresholds_mgdl: Sequence[float]
) -> tuple[SensorRange, Array]:
    """`sensor_range` and `probability_below` in one look at the distribution: for one forecast half the time."""
    samples, spread = _mixture(samples_mgdl, residual_sd_mgdl)
    asked = np.array((*SENSOR_RANGE_MGDL, *thresholds_mgdl))[:, None]
    points = np.broadcast_to(asked, (*samples.shape[:-2], asked.size, samples.shape[-1]))
    found = _calibrated_cdf(samples, spread, calibration, points)
    shown = SensorRange(found[..., 0, :], found[..., 1, :] - found[..., 0, :])
    return shown, _given_shown(found[..., 2:, :], shown)


def quantiles(
    samples_mgdl: ArrayLike, residual_sd_mgdl: ArrayLike, calibration: Calibration, shown: SensorRange | None = None
) -> Array:
    """Calibrated quantiles (..., levels, H), rising by level, of samples (..., S, H) and residual spread (..., H)."""
    samples, spread = _mixture(samples_mgdl, residual_sd_mgdl)
    shown = shown or sensor_range(samples, spread, calibration)
    scores, everything = calibration.table, shown.is_everything
    if not everything.all():
        levels = np.asarray(QUANTILE_LEVELS)[:, None]
        within = calibration.raw(_scores(shown.below[..., None, :] + levels * shown.inside[..., None, :]))
        scores = np.where(everything[..., None, None], scores, within)
    return np.clip(_mixture_quantiles(samples, spread, scores), *SENSOR_RANGE_MGDL)


def probability_below(
    samples_mgdl: ArrayLike,
    residual_sd_mgdl: ArrayLike,
    calibration: Calibration,
    thresholds_mgdl: ArrayLike,
    shown: SensorRange | None = None,
) -> Array:
    """Calibrated P(glucose < threshold): thresholds (T,) -> (..., T, H), in [0, 1] and rising with the threshold."""
    samples, spread = _mixture(samples_mgdl, residual_sd_mgdl)
    thresholds = np.asarray(thresholds_mgdl, dtype=np.float64)
    points = np.broadcast_to(thresholds[:, None], (*samples.shape[:-2], thresholds.size, samples.shape[-1]))
    return distribution(samples, spread, calibration, points, shown)


def event_probabilities(
    samples_mgdl: ArrayLike, residual_sd_mgdl: ArrayLike, calibration: Calibration, shown: SensorRange | None = None
) -> Array:
    """The published P(glucose < threshold) at THRESHOLDS_MGDL (..., T, H), rising with the threshold."""
    below = probability_below(samples_mgdl, residual_sd_mgdl, calibration, THRESHOLDS_MGDL, shown)
    return below if calibration.lows is None else calibration.lows.published(below)


def distribution(
    samples_mgdl: ArrayLike,
    residual_sd_mgdl: ArrayLike,
    calibration: Calibration,
    points_mgdl: Array,
    shown: SensorRange | None = None,
) -> Array:
    """The published P(glucose < point) at points (..., P, H) -> (..., P, H), in [0, 1]."""
    samples, spread = _mixture(samples_mgdl, residual_sd_mgdl)
    raw = _calibrated_cdf(samples, spread, calibration, points_mgdl)
    return _given_shown(raw, shown or sensor_range(samples, spread, calibration))


def _given_shown(raw: Array, shown: SensorRange) -> Array:
    """Calibrated probabilities (..., P, H), given that a sensor can show the value."""
    everything = shown.is_everything
    if everything.all():
        return raw
    share = (raw - shown.below[..., None, :]) / np.maximum(shown.inside, _TINY)[..., None, :]
    return np.where(everything[..., None, None], raw, np.clip(share, 0.0, 1.0))


def normal_scores(samples_mgdl: ArrayLike, residual_sd_mgdl: ArrayLike, truth_mgdl: ArrayLike) -> Array:
    """Phi^-1 of the raw distribution at the observed values (..., H), within -8..8: what a calibration is fitted on."""
    samples, spread = _mixture(samples_mgdl, residual_sd_mgdl)
    points = np.asarray(truth_mgdl, dtype=np.float64)[..., None, :]
    return np.clip(_scores(_mixture_cdf(samples, spread, points)), -8.0, 8.0)[..., 0, :]


class Moments(NamedTuple):
    """Mean, spread that is due to the draws' differing, and whole spread: three of (..., H) mg/dL."""

    mean: Array
    epistemic_sd: Array
    total_sd: Array


def moments(samples_mgdl: ArrayLike, residual_sd_mgdl: ArrayLike, shown: SensorRange) -> Moments:
    """Of the raw mixture of samples (..., S, H) and residual spread (..., H), given that a sensor can show the value.

    Where next to nothing lies outside: the draws' own mean and spread, and the root of the sum of squares of that and
    the residual spread (law of total variance). Else those of the truncated mixture, whose parts count by how much of
    them is inside. The draws keep their share in the spread: that one of them alone is left is no sign that they agree.
    No spread is wider than all that a sensor shows.
    """
    samples, spread = _mixture(samples_mgdl, residual_sd_mgdl)
    widest = SENSOR_RANGE_MGDL[1] - SENSOR_RANGE_MGDL[0]
    mean, between = samples.mean(axis=-2), np.minimum(samples.std(axis=-2), widest)
    total = np.minimum(np.hypot(between, spread), widest)
    everything = shown.is_everything[..., None]
    if everything.all():
        return Moments(mean, between, total)
    part = truncated(samples, spread[..., None, :], *SENSOR_RANGE_MGDL)
    weight = part.inside / part.inside.sum(axis=-2, keepdims=True)
    within = (weight * part.mean).sum(axis=-2)
    width = np.sqrt((weight * (part.variance + (part.mean - within[..., None, :]) ** 2)).sum(axis=-2))
    return Moments(
        np.where(everything, mean, within),
        np.where(everything, between, width * (between / total)),
        np.where(everything, total, width),
    )


def crps(
    samples_mgdl: ArrayLike,
    residual_sd_mgdl: ArrayLike,
    truth_mgdl: ArrayLike,
    calibration: Calibration | None = None,
) -> Array:
    """Continuous ranked probability score at the truth (..., H) -> (..., H) mg/dL, lower is better.

    Without a calibration the closed form of the raw mixture. With one, the integral of (P(Y < x) - 1[y <= x])^2 over x
    of the calibrated distribution, by Gauss-Legendre quadrature either side of the truth.
    """
    samples, spread = _mixture(samples_mgdl, residual_sd_mgdl)
    truth = np.asarray(truth_mgdl, dtype=np.float64)
    if calibration is None:
        between = samples[..., :, None, :] - samples[..., None, :, :]
        own = _expected_distance(truth[..., None, :] - samples, spread[..., None, :]).mean(axis=-2)
        pairs = _expected_distance(between, np.sqrt(2.0) * spread[..., None, None, :]).mean(axis=(-3, -2))
        return np.asarray(own - 0.5 * pairs)
    reach = np.maximum(np.abs(calibration.table).max(axis=0), 1.0) * 4.0 * spread
    low = np.minimum(samples.min(axis=-2) - reach, truth)
    high = np.maximum(samples.max(axis=-2) + reach, truth)
    return _squared_tail(samples, spread, calibration, low, truth, upper=False) + _squared_tail(
        samples, spread, calibration, truth, high, upper=True
    )


def _mixture(samples_mgdl: ArrayLike, residual_sd_mgdl: ArrayLike) -> tuple[Array, Array]:
    samples = np.asarray(samples_mgdl, dtype=np.float64)
    spread = np.asarray(residual_sd_mgdl, dtype=np.float64)
    if samples.ndim < 2 or spread.shape[-1] != samples.shape[-1]:
        raise ValueError(
            f"samples {samples.shape} must be (..., samples, horizon), spread {spread.shape} (..., horizon)"
        )
    return samples, np.maximum(np.broadcast_to(spread, (*samples.shape[:-2], samples.shape[-1])), SMALLEST_SPREAD_MGDL)


def _mixture_cdf(samples: Array, spread: Array, points: Array) -> Array:
    """F at points (..., P, H) -> (..., P, H)."""
    scaled = (points[..., :, None, :] - samples[..., None, :, :]) / spread[..., None, None, :]
    return np.asarray(ndtr(scaled).mean(axis=-2))


def _scores(probability: Array) -> Array:
    return np.asarray(ndtri(np.clip(probability, _TINY, 1.0 - 1e-16)))


def _mixture_quantiles(samples: Array, spread: Array, scores: Array) -> Array:
    """F^-1(Phi(scores)) (..., K, H): Newton on normal scores, inside a bracket that is halved where it would leave it.

    Phi^-1(F(x)) is a straight line where the mixture is a normal, so that Newton is done in two or three steps where it
    would take ten on probabilities. The quantile of a mixture lies between the smallest and the largest quantile of its
    parts: that is the bracket. Distributions that have arrived are left alone.
    """
    lead, (count, horizon) = samples.shape[:-2], samples.shape[-2:]
    batch = np.moveaxis(samples.reshape(-1, count, horizon), 1, 0)[:, :, None, :]  # (S, B, 1, H): sums run over rows
    width = spread.reshape(-1, 1, horizon)
    wanted = np.array(np.broadcast_to(scores, (*lead, *scores.shape[-2:]))).reshape(-1, *scores.shape[-2:])
    low = batch.min(axis=0) + wanted * width
    high = batch.max(axis=0) + wanted * width
    point = np.clip(batch.mean(axis=0) + wanted * np.hypot(batch.std(axis=0), width), low, high)
    moving = np.arange(len(point))
    for _ in range(60):
        here = point[moving]
        following, low[moving], high[moving] = _newton(
            batch[:, moving], width[moving], wanted[moving], here, low[moving], high[moving]
        )
        point[moving] = following
        moving = moving[np.abs(following - here).max(axis=(1, 2)) >= ARRIVED_MGDL]
        if not moving.size:
            break
    return np.asarray(point.reshape(*lead, *scores.shape[-2:]))


def _newton(
    batch: Array, width: Array, wanted: Array, point: Array, low: Array, high: Array
) -> tuple[Array, Array, Array]:
    """One step of `_mixture_quantiles`: the next points, and the bracket as far as it is known now."""
    count = len(batch)
    scaled = point - batch
    scaled /= width
    below = ndtr(scaled)
    score = _scores(np.add.reduce(below) / count)
    low, high = np.where(score < wanted, point, low), np.where(score > wanted, point, high)
    np.multiply(scaled, scaled, out=scaled)
    np.multiply(scaled, -0.5, out=scaled)
    slope = (
        np.add.reduce(np.exp(scaled, out=scaled)) / (count * width) / np.maximum(np.exp(-0.5 * score * score), _TINY)
    )
    newton = point - (score - wanted) / np.maximum(slope, _TINY)
    return np.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high)), low, high


def _calibrated_cdf(samples: Array, spread: Array, calibration: Calibration, points: Array) -> Array:
    return np.asarray(ndtr(calibration.recalibrated(_scores(_mixture_cdf(samples, spread, points)))))


def _expected_distance(offset: Array, spread: Array) -> Array:
    """E|offset + spread * Z| for standard normal Z."""
    scaled = offset / spread
    density = np.exp(-0.5 * scaled * scaled) / _ROOT_TWO_PI
    return np.asarray(2.0 * spread * density + offset * (2.0 * ndtr(scaled) - 1.0))


def _squared_tail(
    samples: Array, spread: Array, calibration: Calibration, start: Array, stop: Array, *, upper: bool
) -> Array:
    half = 0.5 * (stop - start)
    points = (0.5 * (start + stop))[..., None, :] + half[..., None, :] * _NODES[:, None]
    height = _calibrated_cdf(samples, spread, calibration, points)
    height = 1.0 - height if upper else height
    return np.asarray(half * np.einsum("...ph,p->...h", height * height, _NODE_WEIGHTS))
