"""Fits the step of the lows: how often one came where a probability was given, on people not trained on.

    P(Y < low) = Phi(a + b * Phi^-1(p))        p: the conformal P(Y < low); a line for each low and step

a and b by the weighted likelihood of what happened, drawn to a = 0, b = 1 as by PRIOR_WINDOWS windows' worth of it, so
that where lows hardly fell the conformal step stands. Neighbouring steps are averaged as there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtri

from agents.core.calibration import LOWS_MGDL, LowLines

PRIOR_WINDOWS = 50.0
_SLOPES, _OFFSETS = (0.2, 3.0), (-3.0, 3.0)
_FURTHEST_SCORE = 6.0  # beyond it one window that came otherwise would weigh more than a thousand
_DECIMALS = 4  # they travel with every forecast


def fit_low_lines(below: ArrayLike, truth_mgdl: ArrayLike, weight: ArrayLike | None = None) -> LowLines:
    """below (B, T, 12): conformal P(Y < threshold), LOWS_MGDL first; truth (B, 12), NaN where missing; weight (B,)."""
    chance = np.asarray(below, dtype=np.float64)[:, : len(LOWS_MGDL)]
    truth = np.asarray(truth_mgdl, dtype=np.float64)
    share = np.ones(truth.shape[0]) if weight is None else np.asarray(weight, dtype=np.float64)
    scores = np.clip(ndtri(chance), -_FURTHEST_SCORE, _FURTHEST_SCORE)
    table = np.zeros((2, *chance.shape[1:]))
    for step in range(truth.shape[1]):
        there = np.isfinite(truth[:, step])
        for place, low in enumerate(LOWS_MGDL):
            table[:, place, step] = _line(scores[there, place, step], truth[there, step] < low, share[there])
    padded = np.concatenate([table[..., :1], table, table[..., -1:]], axis=-1)
    offsets, slopes = np.round(0.25 * padded[..., :-2] + 0.5 * padded[..., 1:-1] + 0.25 * padded[..., 2:], _DECIMALS)
    return LowLines.of(offsets, slopes)


def _line(score: NDArray[np.float64], happened: NDArray[np.bool_], share: NDArray[np.float64]) -> NDArray[np.float64]:
    side = np.where(happened, 1.0, -1.0)

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        reached = side * (line[0] + line[1] * score)
        log_chance = log_ndtr(reached)
        slope = -share * side * np.exp(-0.5 * reached * reached - log_chance) / np.sqrt(2.0 * np.pi)
        away = line - np.array([0.0, 1.0])
        value = -float(share @ log_chance) + 0.5 * PRIOR_WINDOWS * float(away @ away)
        return value, np.array([slope.sum(), slope @ score]) + PRIOR_WINDOWS * away

    found = minimize(loss, np.array([0.0, 1.0]), jac=True, bounds=[_OFFSETS, _SLOPES], method="L-BFGS-B")
    return np.asarray(found.x)
