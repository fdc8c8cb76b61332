"""Fits the conformal step on windows that neither trained nor selected the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.core.calibration import Calibration
from agents.core.predictive import normal_scores
from schemas.grid import QUANTILE_LEVELS

_LEAST_STEP = 0.02  # scores must rise strictly


def residual_spread(samples_mgdl: ArrayLike, truth_mgdl: ArrayLike) -> NDArray[np.float64]:
    """Root mean squared error of the mean of the samples (B, S, 12) per step: (12,), rising along the horizon.

    A truth that is missing is NaN.
    """
    error = np.asarray(truth_mgdl) - np.asarray(samples_mgdl, dtype=np.float64).mean(axis=1)
    return np.maximum.accumulate(np.sqrt(np.nanmean(error**2, axis=0)))


def fit_calibration(
    samples_mgdl: ArrayLike, residual_sd_mgdl: ArrayLike, truth_mgdl: ArrayLike, weight: ArrayLike | None = None
) -> Calibration:
    """Weighted empirical quantiles of the normal scores of the truth, per level and horizon step.

    samples (B, S, 12), spread (B, 12), truth (B, 12) with NaN where it is missing, weight (B,). Neighbouring steps are
    averaged (1/4, 1/2, 1/4): their errors are of one kind, and the average is steadier. ValueError when windows are too
    few for the outer levels.
    """
    scores = normal_scores(samples_mgdl, residual_sd_mgdl, truth_mgdl)
    fewest = int(np.isfinite(scores).sum(axis=0).min())
    if fewest < 200:
        raise ValueError(f"{fewest} windows are too few to calibrate the 2.5 % level; 200 are needed")
    share = np.ones(scores.shape[0]) if weight is None else np.asarray(weight, dtype=np.float64)
    table = np.stack([_weighted_quantiles(scores[:, step], share) for step in range(scores.shape[1])], axis=1)
    padded = np.concatenate([table[:, :1], table, table[:, -1:]], axis=1)
    smooth = 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
    for level in range(1, len(QUANTILE_LEVELS)):
        smooth[level] = np.maximum(smooth[level], smooth[level - 1] + _LEAST_STEP)
    return Calibration.of(smooth)


def _weighted_quantiles(values: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    there = np.isfinite(values)
    values, share = values[there], share[there]
    order = np.argsort(values)
    reached = (np.cumsum(share[order]) - 0.5 * share[order]) / share.sum()
    return np.asarray(np.interp(np.asarray(QUANTILE_LEVELS), reached, values[order]))


def even_weight(groups: NDArray[np.str_]) -> NDArray[np.float64]:
    """Weights (B,) that let every group count the same, with mean 1."""
    names, place, count = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(groups.size / (names.size * count[place]))
