"""What a forecast of a held-out study is judged by. A target that was not measured is NaN and counts nowhere.

Squared errors (RMSE) are of the mean of the published fan, absolute ones (MAE, MARD) of its median: these are what they
ask for. Of a forecaster that gives one number and no draws both are of that number, before its conformal step; what the
mean and the median of its own fan would have made stands beside it. Regimes are those of a window when the forecast is
made: rising and falling by 1 mg/dL a minute or more over 15 minutes, last value below 80 or above 250 mg/dL, local time
before 6 o'clock. Confidence intervals are of the bootstrap over people: the same people drawn for every forecaster, so
that differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.core.fan_scores import mean_of
from agents.core.predictive import crps, event_probabilities, quantiles, sensor_range
from agents.training.adaptation import adapted_error
from agents.training.metrics import Predictive
from agents.training.reliability import AHEAD, EVENTS, bins_of, reliability
from agents.training.splits import Examples
from schemas.grid import QUANTILE_LEVELS, THRESHOLDS_MGDL

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

NUMBERS = ("mean of the fan", "median of the fan")
_CHUNK = 250
_TREND_STEPS, _TREND_MGDL = 3, 15.0
_NIGHT_HOURS = 6
_HIGH_FROM = 2  # of THRESHOLDS_MGDL: from here on an event is above
_DRAWS = 1000


@dataclass(frozen=True)
class Scored:
    """A forecaster's published distribution against the truth of N windows; NaN where nothing was measured.

    error (N, 12) mg/dL, of the median or the one number; mean_error (N, 12), of the mean or the one number; fan_errors
    (N, 2, 12), of mean and median of the fan, whatever counts; crps (N, 12) mg/dL; relative (N, 12) error in % of the
    truth; in_50, in_90 (N, 12) 0 or 1; events (N, 4, 12) published probability of each of EVENTS.
    """

    error: Array
    mean_error: Array
    fan_errors: Array
    relative: Array
    crps: Array
    in_50: Array
    in_90: Array
    events: Array


def scored(data: Examples, answer: Predictive) -> Scored:
    """Scores every window in bounded memory."""
    parts: list[tuple[Array, ...]] = []
    for begin in range(0, len(data), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        truth = data.future_mgdl[rows].astype(np.float64)
        missing = np.isnan(truth)
        filled = np.where(missing, 120.0, truth)
        given = (answer.samples_mgdl[rows], answer.residual_sd_mgdl[rows])
        shown = sensor_range(*given, answer.calibration)
        fan = quantiles(*given, answer.calibration, shown)
        below = event_probabilities(*given, answer.calibration, shown)
        score = np.where(missing, np.nan, crps(*given, filled, answer.calibration))
        middle = np.stack([mean_of(np.swapaxes(fan, 1, 2)), fan[:, QUANTILE_LEVELS.index(0.5)]], axis=1)
        fan_errors = np.where(missing[:, None], np.nan, middle - truth[:, None])
        if given[0].shape[1] == 1:
            error = mean_error = np.where(missing, np.nan, given[0][:, 0] - truth)
        else:
            mean_error, error = fan_errors[:, 0], fan_errors[:, 1]
        inside = (
            np.where(missing, np.nan, (_level(fan, low) <= truth) & (truth <= _level(fan, 1.0 - low)))
            for low in (0.25, 0.05)
        )
        above = np.arange(len(THRESHOLDS_MGDL))[:, None] >= _HIGH_FROM
        events = np.where(above, 1.0 - below, below)
        parts.append((error, mean_error, fan_errors, 100.0 * error / truth, score, *inside, events))
    return Scored(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def figures(data: Examples, found: Scored) -> dict[str, Any]:
    """Every figure of one forecaster on one study, as plain numbers and lists (JSON-able)."""
    return {
        "windows": len(data),
        "people": int(np.unique(data.person).size),
        "all": summary(found, slice(None)),
        "at": {name: summary(found, slice(step, step + 1)) for name, step in AHEAD.items()},
        "by_horizon": {
            "rmse_mgdl": np.sqrt(_mean(found.mean_error**2, axis=0)).tolist(),
            "mae_mgdl": _mean(np.abs(found.error), axis=0).tolist(),
            "crps_mgdl": _mean(found.crps, axis=0).tolist(),
            "coverage_50": _mean(found.in_50, axis=0).tolist(),
            "coverage_90": _mean(found.in_90, axis=0).tolist(),
        },
        "numbers": {
            minutes: {
                name: {"rmse_mgdl": float(np.sqrt(_mean(off**2))), "mae_mgdl": float(_mean(np.abs(off)))}
                for name, off in zip(NUMBERS, np.moveaxis(found.fan_errors[..., step], 1, 0), strict=True)
            }
            for minutes, step in AHEAD.items()
        },
        "regimes": {
            name: summary(found, slice(None), rows) | {"windows": int(rows.sum())}
            for name, rows in regimes(data).items()
            if rows.any()
        },
        "reliability": reliability(bins_of(data, found.events)),
        "by_person": {
            str(person): {
                "windows": int((data.person == person).sum()),
                "all": summary(found, slice(None), data.person == person),
                "60": summary(found, slice(11, 12), data.person == person),
            }
            for person in np.unique(data.person)
        },
    }


def summary(found: Scored, steps: slice, rows: Mask | slice = slice(None)) -> dict[str, float]:
    """Figures over some windows and steps; nan where nothing of them was measured."""
    return {
        "rmse_mgdl": float(np.sqrt(_mean(found.mean_error[rows, steps] ** 2))),
        "mae_mgdl": float(_mean(np.abs(found.error[rows, steps]))),
        "mard_percent": float(_mean(np.abs(found.relative[rows, steps]))),
        "crps_mgdl": float(_mean(found.crps[rows, steps])),
        "in_50": float(_mean(found.in_50[rows, steps])),
        "in_90": float(_mean(found.in_90[rows, steps])),
    }


def adaptation(data: Examples, found: Scored) -> dict[str, dict[str, float]]:
    """RMSE (of the mean) and MAE (of the median) over all steps and at 60 minutes, as served and after a person's
    correction: of each number by its own errors."""
    parts = {"all": slice(None), "60": slice(11, 12)}
    corrected = adapted_error(data, found.mean_error), adapted_error(data, found.error)
    return {
        f"{name}, {side}": {
            "rmse_mgdl": float(np.sqrt(_mean(of_mean[:, steps] ** 2))),
            "mae_mgdl": float(_mean(np.abs(of_median[:, steps]))),
        }
        for name, steps in parts.items()
        for side, (of_mean, of_median) in (("served", (found.mean_error, found.error)), ("corrected", corrected))
    }


def regimes(data: Examples) -> dict[str, Mask]:
    """Name -> which windows (N,)."""
    past = data.windows.past_mgdl
    trend = past[:, -1] - past[:, -1 - _TREND_STEPS]
    hour = (data.windows.end_times.astype("datetime64[h]").astype(np.int64)) % 24
    return {
        "rising": trend >= _TREND_MGDL,
        "falling": trend <= -_TREND_MGDL,
        "below 80": past[:, -1] < 80.0,
        "above 250": past[:, -1] > 250.0,
        "night": hour < _NIGHT_HOURS,
    }


def lows_seen(data: Examples, found: Scored, at_precision: float | None = None) -> dict[str, float]:
    """Lows 30 minutes ahead of windows that are not low yet: how many are seen, and how many warnings are right.

    A warning is P(<70) of one half or more; with `at_precision` of that probability or more at which at least so many
    warnings are right, where the most lows are seen.
    """
    step = AHEAD["30"]
    truth = data.future_mgdl[:, step]
    open_question = np.isfinite(truth) & (data.windows.past_mgdl[:, -1] >= 70.0)
    chance, low = found.events[open_question, EVENTS.index("<70"), step], truth[open_question] < 70.0
    order = np.argsort(-chance, kind="stable")
    right, warned = np.cumsum(low[order]), np.arange(1, order.size + 1)
    if at_precision is None:
        count = int((chance >= 0.5).sum())
    else:
        good = np.flatnonzero(right / warned >= at_precision)
        count = int(good[-1]) + 1 if good.size else 0
    hits = int(right[count - 1]) if count else 0
    return {
        "lows": int(low.sum()),
        "warnings": count,
        "seen": hits / max(1, int(low.sum())),
        "precision": hits / count if count else float("nan"),
        "threshold": float(chance[order[count - 1]]) if count else float("nan"),
    }


def bootstrap(data: Examples, named: dict[str, Scored], base: str, seed: int) -> dict[str, Any]:
    """95 % intervals over people at 60 minutes: RMSE and MAE of each forecaster and its change from `base` in %."""
    people, place = np.unique(data.person, return_inverse=True)
    drawn = np.random.default_rng(seed).integers(people.size, size=(_DRAWS, people.size))
    draws: dict[str, tuple[Array, Array]] = {}
    for name, found in named.items():
        error, mean_error = found.error[:, AHEAD["60"]], found.mean_error[:, AHEAD["60"]]
        there = np.isfinite(error)
        sums = [
            np.bincount(place[there], weights=weight[there], minlength=people.size)[drawn].sum(axis=1)
            for weight in (np.ones(error.size), mean_error**2, np.abs(error))
        ]
        draws[name] = (np.sqrt(sums[1] / sums[0]), sums[2] / sums[0])
    return {
        name: {
            "rmse_mgdl": _interval(rmse),
            "mae_mgdl": _interval(mae),
            "rmse_change_percent": _interval(100.0 * (rmse / draws[base][0] - 1.0)),
            "mae_change_percent": _interval(100.0 * (mae / draws[base][1] - 1.0)),
        }
        for name, (rmse, mae) in draws.items()
    }


def _mean(values: Array, axis: int | None = None) -> Array:
    """Over what is there; NaN where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=axis)
    return np.where(count > 0, np.where(there, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)


def _interval(values: Array) -> list[float]:
    return [float(value) for value in np.quantile(values, (0.025, 0.975))]


def _level(fan: Array, level: float) -> Array:
    return fan[:, QUANTILE_LEVELS.index(round(level, 3))]
