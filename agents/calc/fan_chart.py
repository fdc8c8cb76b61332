"""Samples in, fan chart out: calibrated quantiles, event probabilities and density curves. Pure numpy.

The closed form of a Gaussian kernel density estimate: the mean of normals of standard deviation h at the draws, with
Scott's h = n^(-1/5) * sd (sd with n - 1), which is scipy's `gaussian_kde` (Scott 1992, Multivariate Density
Estimation). The density of the calibrated distribution is the difference quotient of its distribution function over
each cell of the grid, so it integrates to one where the calibration map has a kink too.
"""

import datetime
import functools
import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from agents.core import fingerprint, predictive
from agents.core.local_time import wall_clock, zone
from agents.core.predictive import Calibration
from schemas import chart_keys
from schemas.errors import MalformedRecordError
from schemas.fan_chart import DensityCurve, FanChart
from schemas.forecast import Forecast
from schemas.grid import HORIZON_STEPS, PAST_POINTS, STEP, STEP_SECONDS, THRESHOLDS_MGDL

Array = NDArray[np.float64]

FAN_POINTS = 21
EPISTEMIC_POINTS = 15
TAIL = 0.0005  # probability left outside a curve's grid at either end
SMALLEST_BANDWIDTH_MGDL = 0.01  # draws that agree have no spread to estimate from, and scipy refuses them
REACH = 4.0  # bandwidths beyond the outermost draw: there a kernel has fallen to 3e-4 of its height


def bandwidth(draws_mgdl: Array) -> Array:
    """Scott's bandwidth of draws (S, H) -> (H,), at least `SMALLEST_BANDWIDTH_MGDL`."""
    count = draws_mgdl.shape[0]
    if count < 2:
        return np.full(draws_mgdl.shape[1], SMALLEST_BANDWIDTH_MGDL)
    centred = draws_mgdl - np.add.reduce(draws_mgdl) / count
    spread = np.sqrt(np.add.reduce(centred * centred) / (count - 1)) * count ** (-1 / 5)
    return np.asarray(np.maximum(spread, SMALLEST_BANDWIDTH_MGDL))


def kernel_density(draws_mgdl: Array, grid_mgdl: Array) -> Array:
    """Gaussian KDE of draws (S, H) at grid points (G, H) -> (G, H), in 1/(mg/dL)."""
    width = bandwidth(draws_mgdl)
    scale = math.sqrt(0.5) / width
    kernels = draws_mgdl[:, None, :] - grid_mgdl[None, :, :]
    np.multiply(kernels, scale, out=kernels)  # in place: this array is all the time there is to save
    np.multiply(kernels, kernels, out=kernels)
    np.negative(kernels, out=kernels)
    np.exp(kernels, out=kernels)
    return np.asarray(np.add.reduce(kernels) * (scale / (math.sqrt(math.pi) * len(draws_mgdl))))


def kernel_grid(draws_mgdl: Array, points: int) -> Array:
    """Grid (points, H) over all kernels of draws (S, H)."""
    reach = REACH * bandwidth(draws_mgdl)
    return np.linspace(draws_mgdl.min(axis=0) - reach, draws_mgdl.max(axis=0) + reach, points)


def distribution(draws_mgdl: Array, residual_sd_mgdl: Array, calibration: Calibration, points_mgdl: Array) -> Array:
    """Calibrated P(glucose < point) at points (P, H) -> (P, H)."""
    scores = predictive.normal_scores(draws_mgdl, residual_sd_mgdl, points_mgdl)
    return np.asarray(ndtr(calibration.recalibrated(scores)))


def predictive_density(
    draws_mgdl: Array, residual_sd_mgdl: Array, calibration: Calibration, points: int
) -> tuple[Array, Array]:
    """Grid (points, H) and calibrated density on it; all but `TAIL` of the probability at either end lies inside."""
    spread = np.maximum(residual_sd_mgdl, predictive.SMALLEST_SPREAD_MGDL)
    reach = 8.0 * spread
    wide = np.linspace(draws_mgdl.min(axis=0) - reach, draws_mgdl.max(axis=0) + reach, 65)
    below = distribution(draws_mgdl, residual_sd_mgdl, calibration, wide)
    step = np.arange(below.shape[1])
    first = np.maximum((below < TAIL).sum(axis=0) - 1, 0)
    last = np.minimum((below <= 1.0 - TAIL).sum(axis=0), len(wide) - 1)
    grid = np.linspace(wide[first, step], wide[last, step], points)
    half = 0.5 * (grid[1] - grid[0])
    edges = distribution(draws_mgdl, residual_sd_mgdl, calibration, np.vstack([grid - half, grid[-1:] + half]))
    return grid, np.maximum(np.diff(edges, axis=0), 0.0) / (2.0 * half)  # rounding may fall by 1e-16


def fan_chart(forecast: Forecast, computed_at: datetime.datetime) -> FanChart:
    """The chart of a forecast. Raises `MalformedRecordError` where its numbers are not S x 12 finite ones."""
    draws, residual = _numbers(forecast)
    calibration = _calibration(forecast.calibration_json)
    quantiles = predictive.quantiles(draws, residual, calibration)
    below = predictive.probability_below(draws, residual, calibration, THRESHOLDS_MGDL)
    issue = wall_clock(forecast.end_seconds).replace(tzinfo=zone(forecast.timezone))
    truth = [None if value is None else value / 100 for value in forecast.truth_centi_mgdl[:HORIZON_STEPS]]
    return FanChart(
        chart_id=fingerprint.chart_id(
            forecast.forecast_id, forecast.kind, forecast.series_key, _place(forecast, issue)
        ),
        forecast_id=forecast.forecast_id,
        kind="live" if forecast.kind == "live" else "sample",
        series_key=forecast.series_key,
        subject_id=forecast.subject_id,
        handle=forecast.handle,
        index=forecast.index,
        epoch_ms=forecast.epoch_ms,
        demand_id=forecast.demand_id,
        input_hash=forecast.input_hash,
        model=forecast.model,
        model_fingerprint=forecast.model_fingerprint,
        num_samples=forecast.num_samples,
        seed=forecast.seed,
        issue_time=issue,
        computed_at=computed_at,
        target_times=_times(issue, 1, HORIZON_STEPS),
        past_times=_times(issue, 1 - PAST_POINTS, 0),
        past_mgdl=tuple(value / 100 for value in forecast.past_centi_mgdl),
        truth_mgdl=tuple(truth + [None] * (HORIZON_STEPS - len(truth))),
        median_mgdl=_rounded(quantiles[len(quantiles) // 2], 1),
        quantiles_mgdl=tuple(_rounded(row, 1) for row in quantiles),
        p_below_54=_rounded(below[0], 4),
        p_below_70=_rounded(below[1], 4),
        p_above_180=_rounded(1.0 - below[2], 4),
        p_above_250=_rounded(1.0 - below[3], 4),
        epistemic_sd_mgdl=_rounded(predictive.epistemic_sd(draws), 2),
        total_sd_mgdl=_rounded(predictive.total_sd(draws, residual), 2),
        fan=_curves(*predictive_density(draws, residual, calibration, FAN_POINTS)),
        epistemic_fan=_epistemic_fan(draws),
        warnings=tuple(forecast.warnings),
    )


def table_key(chart: FanChart, history_steps: int) -> str:
    """The row of the fan-chart table that a chart belongs to."""
    if chart.kind == "live":
        return chart_keys.subject_key(chart.series_key, slot_of(chart.issue_time), history_steps)
    if chart.handle is None or chart.index is None:
        raise MalformedRecordError("a sample's fan chart needs handle and index")
    return chart_keys.handle_key(chart.handle, chart.index)


def slot_of(time: datetime.datetime) -> int:
    """The UTC 5-minute slot nearest to a time."""
    return round(time.timestamp() / STEP_SECONDS)


def _place(forecast: Forecast, issue: datetime.datetime) -> str:
    if forecast.kind == "live":
        return fingerprint.slot_place(slot_of(issue))
    if forecast.handle is None or forecast.index is None:
        raise MalformedRecordError("a sample's forecast needs handle and index")
    return fingerprint.handle_place(forecast.handle, forecast.index)


def _numbers(forecast: Forecast) -> tuple[Array, Array]:
    draws = np.asarray(forecast.samples_mgdl, dtype=np.float64)
    residual = np.asarray(forecast.residual_sd_mgdl or [0.0] * HORIZON_STEPS, dtype=np.float64)
    if draws.size == 0 or draws.size != forecast.num_samples * HORIZON_STEPS or residual.size != HORIZON_STEPS:
        raise MalformedRecordError(
            f"{draws.size} samples and {residual.size} residual spreads for {forecast.num_samples} draws of 12 steps"
        )
    if not (np.isfinite(draws).all() and np.isfinite(residual).all()):
        raise MalformedRecordError("the forecaster's numbers are not all finite")
    return draws.reshape(forecast.num_samples, HORIZON_STEPS), residual


@functools.lru_cache(maxsize=8)
def _calibration(text: str) -> Calibration:
    if not text:
        return Calibration.identity()
    try:
        return Calibration.from_json(text)
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedRecordError(f"the forecast's calibration cannot be read: {error}") from None


def _epistemic_fan(draws: Array) -> tuple[DensityCurve, ...]:
    grid = kernel_grid(draws, EPISTEMIC_POINTS)
    return _curves(grid, kernel_density(draws, grid))


def _curves(grid: Array, density: Array) -> tuple[DensityCurve, ...]:
    """One curve a step, rounded to what a plot shows: a tenth of a grid cell, four digits of density."""
    curves = []
    for step in range(grid.shape[1]):
        decimals = 1 + max(0, math.ceil(-math.log10(grid[1, step] - grid[0, step])))
        heights = tuple(float(f"{value:.4g}") for value in density[:, step].tolist())
        curves.append(DensityCurve(glucose_mgdl=_rounded(grid[:, step], decimals), density=heights))
    return tuple(curves)


def _rounded(values: Array, decimals: int) -> tuple[float, ...]:
    return tuple(np.round(values, decimals).tolist())


def _times(issue: datetime.datetime, first: int, last: int) -> tuple[datetime.datetime, ...]:
    """Times 5 minutes apart around the issue time, by the clock of its zone, whatever that does meanwhile."""
    instant = issue.astimezone(datetime.UTC)
    return tuple((instant + step * STEP).astimezone(issue.tzinfo) for step in range(first, last + 1))


def stored_slot(row: bytes | None) -> int | None:
    """The slot of a stored chart's issue time; None where there is no row or it cannot be read."""
    if not row:
        return None
    try:
        document: dict[str, Any] = json.loads(row)
        return slot_of(datetime.datetime.fromisoformat(document["issue_time"]))
    except (ValueError, KeyError, TypeError):
        return None
