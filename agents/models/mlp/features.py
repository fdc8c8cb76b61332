"""What the network reads of a window: the past as it lies around its last point, its statistics, the time of day, and
what is known of the week before.

Numpy alone, float32; a row's numbers never depend on the other rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.core.forecaster import Windows
from schemas.grid import HORIZON_STEPS, PAST_POINTS, STEPS_A_DAY

FEATURES_VERSION = 2
FURTHEST = 8.0  # standardised features are clipped here: nothing beyond was seen in training
STEPS_BACK = (1, 2, 3, 4, 6, 9, 12, 18, 24)
STRETCHES = (6, 12, 24, 48)
LAGS_WIDTH = PAST_POINTS - 1 + 5 + len(STEPS_BACK) + 3 * len(STRETCHES) + 4
DAY_HOURS = (STEPS_A_DAY - PAST_POINTS) // HORIZON_STEPS
"""Hours of the last day that lie before the window; the oldest is yesterday's next hour."""
HISTORY_WIDTH = DAY_HOURS + 4 + 6 + 2 + 2
WIDTH = LAGS_WIDTH + HISTORY_WIDTH
_DAY_SECONDS = 86_400
_LOW, _HIGH = 80.0, 180.0  # of an hour's mean

Array = NDArray[np.float32]


def features(windows: Windows) -> Array:
    """(B, WIDTH): `lag_features`, then `history_features`."""
    lags = lag_features(windows.past_mgdl, windows.end_times)
    return np.concatenate([lags, history_features(windows.past_mgdl[:, -1], windows.hours)], axis=1)


def lag_features(past_mgdl: Array, end_times: NDArray[np.datetime64]) -> Array:
    """(B, 96) mg/dL and local end times (B,) -> (B, LAGS_WIDTH).

    In order: distance of the 95 earlier points from the last; last point, mean, spread, lowest and highest of all 96;
    mean change a step over STEPS_BACK; mean, spread and mean absolute change over STRETCHES, the mean as a distance
    from the last point; sine and cosine of the day and of half of it.
    """
    past = np.ascontiguousarray(past_mgdl, dtype=np.float32)
    last = past[:, -1:]
    change = np.abs(np.diff(past, axis=1))
    columns = [past[:, :-1] - last, last]
    columns += [f(past, axis=1, keepdims=True) for f in (np.mean, np.std, np.min, np.max)]
    columns += [(last - past[:, -1 - step, None]) / np.float32(step) for step in STEPS_BACK]
    for steps in STRETCHES:
        stretch = past[:, -steps:]
        columns.append(stretch.mean(axis=1, keepdims=True) - last)
        columns.append(stretch.std(axis=1, keepdims=True))
        columns.append(change[:, -steps:].mean(axis=1, keepdims=True))
    seconds = end_times.astype("datetime64[s]").astype(np.int64) % _DAY_SECONDS
    turn = (2.0 * np.pi / _DAY_SECONDS * seconds)[:, None]
    columns += [f(turn * times) for times in (1, 2) for f in (np.sin, np.cos)]
    return np.concatenate([column.astype(np.float32) for column in columns], axis=1)


def history_features(last_mgdl: Array, hours_mgdl: Array) -> Array:
    """Last points (B,) and the hours before the windows (B, 168), NaN where unknown -> (B, HISTORY_WIDTH).

    In order: the DAY_HOURS, as distances from the last point; mean, spread, lowest and highest of the day and of the
    week, all but the spread as distances; shares of the week's hours below 80 and above 180 mg/dL; the mean over all
    days of the hour that comes next as a distance, and of its change from the hour before; the known shares of the day
    and of the week, which tell a zero that is meant from one that stands for nothing known.
    """
    away = hours_mgdl.astype(np.float32) - last_mgdl.astype(np.float32)[:, None]
    day = away[:, -DAY_HOURS:]
    next_hours, hours_now = hours_mgdl[:, -DAY_HOURS::-24], hours_mgdl[:, -DAY_HOURS - 1 :: -24]
    columns = [np.nan_to_num(day), *_statistics(day), *_statistics(away)]
    known = np.isfinite(hours_mgdl)
    columns += [_mean(np.where(known, side, np.nan)) for side in (hours_mgdl < _LOW, hours_mgdl > _HIGH)]
    columns.append(_mean(next_hours - last_mgdl[:, None]))
    columns.append(_mean(next_hours[:, : hours_now.shape[1]] - hours_now))
    columns += [known[:, -DAY_HOURS:].mean(axis=1, keepdims=True), known.mean(axis=1, keepdims=True)]
    return np.concatenate([column.astype(np.float32) for column in columns], axis=1)


def _statistics(away: Array) -> list[Array]:
    mean = _mean(away)
    known = np.isfinite(away)
    some = known.any(axis=1, keepdims=True)
    low = np.where(known, away, np.inf).min(axis=1, keepdims=True)
    high = np.where(known, away, -np.inf).max(axis=1, keepdims=True)
    spread = np.sqrt(_mean((away - mean) ** 2))
    return [mean, spread, np.where(some, low, 0.0), np.where(some, high, 0.0)]


def _mean(values: Array) -> Array:
    """Of what is known, row by row (B, 1); 0 where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, np.float32(0.0)).sum(axis=1, keepdims=True)
    return np.asarray(total / np.maximum(known.sum(axis=1, keepdims=True), 1), dtype=np.float32)
