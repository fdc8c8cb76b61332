"""Samples in, fan chart out: calibrated quantiles, event probabilities and density curves. Pure numpy.

The closed form of a Gaussian kernel density estimate: the mean of normals of standard deviation h at the samples, with
Scott's h = n^(-1/5) * sd (sd with n - 1), which is scipy's `gaussian_kde` (Scott 1992, Multivariate Density
Estimation). The density of the calibrated distribution is the difference quotient of its distribution function over
each cell of the grid, so it integrates to one where the calibration map has a kink too.
"""

import datetime
import functools
import math

import numpy as np
from numpy.typing import NDArray

from agents.calc.chart_rows import slot_of
from agents.core import fingerprint, predictive
from agents.core.local_time import wall_clock, zone
from agents.core.predictive import Calibration
from schemas.errors import ImplausibleError, MalformedRecordError
from schemas.fan_chart import DensityCurve, FanChart
from schemas.forecast import Forecast
from schemas.grid import HORIZON_STEPS, PAST_POINTS, STEP, THRESHOLDS_MGDL

Array = NDArray[np.float64]

FAN_POINTS = 21
EPISTEMIC_POINTS = 15
WIDTH_MGDL = 1.0  # of the narrowest grid
LEAST_INSIDE = 0.01  # of the probability at any step: a model that says less has left what it knows
TAIL = 0.0005  # probability left outside a curve's grid at either end
SMALLEST_BANDWIDTH_MGDL = 0.01  # samples that agree have no spread to estimate from, and scipy refuses them
REACH = 4.0  # bandwidths beyond the outermost sample: there a kernel has fallen to 3e-4 of its height


def bandwidth(samples_mgdl: Array) -> Array:
    """Scott's bandwidth of samples (S, H) -> (H,), at least `SMALLEST_BANDWIDTH_MGDL`."""
    count = samples_mgdl.shape[0]
    if count < 2:
        return np.full(samples_mgdl.shape[1], SMALLEST_BANDWIDTH_MGDL)
    centred = samples_mgdl - np.add.reduce(samples_mgdl) / count
    spread = np.sqrt(np.add.reduce(centred * centred) / (count - 1)) * count ** (-1 / 5)
    return np.asarray(np.maximum(spread, SMALLEST_BANDWIDTH_MGDL))


def kernel_density(samples_mgdl: Array, grid_mgdl: Array) -> Array:
    """Gaussian KDE of samples (S, H) at grid points (G, H) -> (G, H), in 1/(mg/dL)."""
    width = bandwidth(samples_mgdl)
    scale = math.sqrt(0.5) / width
    kernels = samples_mgdl[:, None, :] - grid_mgdl[None, :, :]
    np.multiply(kernels, scale, out=kernels)  # in place: this array is all the time there is to save
    np.multiply(kernels, kernels, out=kernels)
    np.negative(kernels, out=kernels)
    np.exp(kernels, out=kernels)
    return np.asarray(np.add.reduce(kernels) * (scale / (math.sqrt(math.pi) * len(samples_mgdl))))


def kernel_grid(samples_mgdl: Array, points: int) -> Array:
    """Grid (points, H) over all kernels of samples (S, H)."""
    reach = REACH * bandwidth(samples_mgdl)
    return np.linspace(samples_mgdl.min(axis=0) - reach, samples_mgdl.max(axis=0) + reach, points)


def predictive_density(
    samples_mgdl: Array,
    residual_sd_mgdl: Array,
    calibration: Calibration,
    points: int,
    shown: predictive.SensorRange | None = None,
) -> tuple[Array, Array]:
    """Grid (points, H) and calibrated density on it; all but `TAIL` of the probability at either end lies inside."""
    shown = shown or predictive.sensor_range(samples_mgdl, residual_sd_mgdl, calibration)
    spread = np.maximum(residual_sd_mgdl, predictive.SMALLEST_SPREAD_MGDL)
    reach = 8.0 * spread
    low, high = predictive.SENSOR_RANGE_MGDL
    first_mgdl = np.clip(samples_mgdl.min(axis=0) - reach, low, high - WIDTH_MGDL)
    last_mgdl = np.clip(samples_mgdl.max(axis=0) + reach, low + WIDTH_MGDL, high)
    wide = np.linspace(first_mgdl, last_mgdl, 65)
    below = predictive.distribution(samples_mgdl, residual_sd_mgdl, calibration, wide, shown)
    step = np.arange(below.shape[1])
    first = np.maximum((below < TAIL).sum(axis=0) - 1, 0)
    last = np.minimum((below <= 1.0 - TAIL).sum(axis=0), len(wide) - 1)
    grid = np.linspace(wide[first, step], wide[last, step], points)
    half = 0.5 * (grid[1] - grid[0])
    cells = np.vstack([grid - half, grid[-1:] + half])
    edges = predictive.distribution(samples_mgdl, residual_sd_mgdl, calibration, cells, shown)
    return grid, np.maximum(np.diff(edges, axis=0), 0.0) / (2.0 * half)  # rounding may fall by 1e-16


def fan_chart(forecast: Forecast, computed_at: datetime.datetime) -> FanChart:
    """The chart of a forecast.

    Raises `MalformedRecordError` where its numbers are not S x 12 finite ones, `ImplausibleError` where they leave what
    a sensor can show.
    """
    samples, residual = _numbers(forecast)
    calibration = _calibration(forecast.calibration_json)
    shown = predictive.sensor_range(samples, residual, calibration)
    _check_range(shown)
    quantiles = predictive.quantiles(samples, residual, calibration, shown)
    below = predictive.probability_below(samples, residual, calibration, THRESHOLDS_MGDL, shown)
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
        began_ms=forecast.began_ms,
        demand_id=forecast.demand_id,
        input_hash=forecast.input_hash,
        model=forecast.model,
        model_fingerprint=forecast.model_fingerprint,
        model_serves=forecast.model_serves,
        num_samples=forecast.num_samples,
        seed=forecast.seed,
        simulated=forecast.simulated,
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
        epistemic_sd_mgdl=_rounded(predictive.epistemic_sd(samples), 2),
        total_sd_mgdl=_rounded(predictive.total_sd(samples, residual), 2),
        fan=_curves(*predictive_density(samples, residual, calibration, FAN_POINTS, shown)),
        epistemic_fan=_epistemic_fan(samples),
        warnings=tuple(forecast.warnings),
    )


def _check_range(shown: predictive.SensorRange) -> None:
    if float(shown.inside.min()) < LEAST_INSIDE:
        low, high = predictive.SENSOR_RANGE_MGDL
        raise ImplausibleError(
            f"the forecast leaves the {low:.0f} to {high:.0f} mg/dL that a sensor can show: nothing can be said of the "
            "next hour from these readings"
        )


def _place(forecast: Forecast, issue: datetime.datetime) -> str:
    if forecast.kind == "live":
        return fingerprint.slot_place(slot_of(issue))
    if forecast.handle is None or forecast.index is None:
        raise MalformedRecordError("a sample's forecast needs handle and index")
    return fingerprint.handle_place(forecast.handle, forecast.index)


def _numbers(forecast: Forecast) -> tuple[Array, Array]:
    samples = np.asarray(forecast.samples_mgdl, dtype=np.float64)
    residual = np.asarray(forecast.residual_sd_mgdl or [0.0] * HORIZON_STEPS, dtype=np.float64)
    if samples.size == 0 or samples.size != forecast.num_samples * HORIZON_STEPS or residual.size != HORIZON_STEPS:
        raise MalformedRecordError(
            f"{samples.size} values and {residual.size} residual spreads for {forecast.num_samples} samples of 12 steps"
        )
    if not (np.isfinite(samples).all() and np.isfinite(residual).all()):
        raise MalformedRecordError("the forecaster's numbers are not all finite")
    return samples.reshape(forecast.num_samples, HORIZON_STEPS), residual


@functools.lru_cache(maxsize=8)
def _calibration(text: str) -> Calibration:
    if not text:
        return Calibration.identity()
    try:
        return Calibration.from_json(text)
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedRecordError(f"the forecast's calibration cannot be read: {error}") from None


def _epistemic_fan(samples: Array) -> tuple[DensityCurve, ...]:
    grid = kernel_grid(samples, EPISTEMIC_POINTS)
    return _curves(grid, kernel_density(samples, grid))


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
