"""Would forecasts gain from a correction of each person's own? Measured on what is held out; nothing of it is served.

A ridge regression on the residuals of one person, learnt as they come, with the network as prior: at every step h

    residual = w_h . x + noise,    x = (1, level, trend, change that is forecast),    w_h ~ N(0, noise / PRIOR_WINDOWS)

Residuals are forgotten with MEMORY_DAYS (recursive least squares with exponential forgetting; the prior stays), and a
forecast is corrected by those alone whose whole hour was over when it was made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.training.splits import Examples
from schemas.grid import HORIZON_STEPS

MEMORY_DAYS = 7.0
PRIOR_WINDOWS = 30.0
_MIDDLE_MGDL, _LEVEL_MGDL, _TREND_MGDL = 150.0, 50.0, 15.0
_TREND_STEPS = 3
_HOUR_SECONDS, _DAY_SECONDS = 3600, 86_400

Array = NDArray[np.float64]


def adapted_error(data: Examples, error: Array) -> Array:
    """Errors (N, 12) mg/dL, NaN where nothing was measured, as they would be with the correction."""
    ends = data.windows.end_times.astype("datetime64[s]").astype(np.int64)
    corrected = np.full_like(error, np.nan)
    for person in np.unique(data.person):
        rows = np.flatnonzero(data.person == person)
        rows = rows[np.argsort(ends[rows], kind="stable")]
        corrected[rows] = _one_person(ends[rows], _read(data, rows, error[rows]), error[rows])
    return corrected


def _read(data: Examples, rows: NDArray[np.int64], error: Array) -> Array:
    """x of each window and step (N, 12, 4); 0 where nothing was measured: there it neither teaches nor is scored."""
    past = data.windows.past_mgdl[rows].astype(np.float64)
    last = past[:, -1:]
    forecast = data.future_mgdl[rows] + error
    columns = (
        np.ones_like(error),
        np.broadcast_to((last - _MIDDLE_MGDL) / _LEVEL_MGDL, error.shape),
        np.broadcast_to((last - past[:, [-1 - _TREND_STEPS]]) / _TREND_MGDL, error.shape),
        (forecast - last) / _LEVEL_MGDL,
    )
    return np.where(np.isfinite(error)[..., None], np.stack(columns, axis=-1), 0.0)


def _one_person(ends: NDArray[np.int64], read: Array, error: Array) -> Array:
    residual = -np.nan_to_num(error)
    width = read.shape[-1]
    prior = PRIOR_WINDOWS * np.eye(width)
    gram, mixed = np.zeros((HORIZON_STEPS, width, width)), np.zeros((HORIZON_STEPS, width))
    corrected = np.empty_like(error)
    over = 0
    for place, now in enumerate(ends):
        faded = np.exp(-(now - ends[place - 1]) / (MEMORY_DAYS * _DAY_SECONDS)) if place else 1.0
        gram, mixed = gram * faded, mixed * faded
        while ends[over] + _HOUR_SECONDS <= now:
            gram += read[over, :, :, None] * read[over, :, None, :]
            mixed += read[over] * residual[over, :, None]
            over += 1
        weight = np.linalg.solve(gram + prior, mixed[..., None])[..., 0]
        corrected[place] = error[place] + np.einsum("hx,hx->h", read[place], weight)
    return corrected
