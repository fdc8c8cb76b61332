"""What trees read of a window: all that the network does, in mg/dL, and more of the shape of the past and of the week.

A tree looks at one column at a time and cannot form a slope or a habit from many, so they are formed here. Unknown is 0
everywhere; the network's features say how much of day and week is known. Numpy alone, float32; a row's numbers never
depend on the other rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.core.forecaster import Windows
from agents.models.mlp.features import DAY_HOURS, WIDTH, features
from schemas.grid import PAST_HOURS

TREE_FEATURES_VERSION = 1
_DAYS = 7  # of the week: each has an hour that came next, and one before and behind it
_AFTER = 3  # of them whose hour after the next one is looked at
_LAGS = (1, 2, 3, 6, 24)
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_LOW, _HIGH = 70.0, 250.0  # of an hour's mean
_ALIKE = ((25.0, 15.0), (50.0, 25.0))  # mg/dL: how near level and trend of an hour must lie to those of now
_SLOPES = (3, 4, 6, 9, 12, 18, 24)
_BENDS = (12, 6)
_EXTREMES = (12, 24, 36, 48, 96)
_RISES, _RISE = (12, 24, 48), 3
OLDER_WIDTH = PAST_HOURS - DAY_HOURS
HABIT_WIDTH = 2 * _DAYS + _AFTER + 5
SPREAD_WIDTH = 3 + len(_LAGS) + 2 + len(_QUANTILES) + 2
ALIKE_WIDTH = 2 * len(_ALIKE)
SHAPE_WIDTH = len(_SLOPES) + 3 * len(_BENDS) + 4 * len(_EXTREMES) + 3 * len(_RISES)
TREE_WIDTH = WIDTH + OLDER_WIDTH + HABIT_WIDTH + SPREAD_WIDTH + ALIKE_WIDTH + SHAPE_WIDTH

Array = NDArray[np.float32]
_NAN = np.float32(np.nan)


def tree_features(windows: Windows, network_features: Array | None = None) -> Array:
    """(B, TREE_WIDTH): the network's features, hours older than a day, `habits`, `spreads`, `alike` and `shape`.

    `network_features`: those of these windows, where they are known already.
    """
    past, hours, last = windows.past_mgdl, windows.hours, windows.past_mgdl[:, -1:]
    older = hours[:, :-DAY_HOURS] - last
    parts = (older, habits(last, hours), spreads(last, hours), alike(past, hours))
    further = np.nan_to_num(np.concatenate(parts, axis=1), posinf=0.0, neginf=0.0)
    read = features(windows) if network_features is None else network_features
    return np.concatenate([read, further, shape(past)], axis=1, dtype=np.float32)


def habits(last_mgdl: Array, hours_mgdl: Array) -> Array:
    """Last points (B, 1) and hours (B, 168) -> (B, HABIT_WIDTH), NaN where unknown.

    For each of the days before: how the hour that comes next differed from the one before it, and from the last point;
    of the newest, how the one after it went on; then median, spread, lowest and highest of the first, mean of the last.
    """
    following, here, after = (
        hours_mgdl[:, place::-24][:, :_DAYS] for place in (-DAY_HOURS, -DAY_HOURS - 1, 1 - DAY_HOURS)
    )
    change, later = following - here, after - following
    ordered = np.sort(change, axis=1)
    known = np.isfinite(change)
    low = np.where(known, change, np.inf).min(axis=1, keepdims=True)
    high = np.where(known, change, -np.inf).max(axis=1, keepdims=True)
    return np.concatenate(
        [
            change,
            following - last_mgdl,
            later[:, :_AFTER],
            _quantiles(ordered, (0.5,)),
            _spread(change),
            low,
            high,
            _mean(later),
        ],
        axis=1,
    )


def spreads(last_mgdl: Array, hours_mgdl: Array) -> Array:
    """Last points (B, 1) and hours (B, 168) -> (B, SPREAD_WIDTH): how glucose moved in the week, NaN where unknown.

    Spread, mean size and mean rise of the changes from hour to hour; autocorrelations at _LAGS hours; shares of hours
    below 70 and above 250 mg/dL; quantiles as distances from the last point; mean; spread of the last day's changes.
    """
    mean = _mean(hours_mgdl)
    away = hours_mgdl - mean
    variance = _mean(away * away)
    change = np.diff(hours_mgdl, axis=1)
    known = np.isfinite(hours_mgdl)
    ordered = np.sort(hours_mgdl - last_mgdl, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        again = [_mean(away[:, lag:] * away[:, :-lag]) / variance for lag in _LAGS]
    columns = [_spread(change), _mean(np.abs(change)), _mean(np.where(change > 0.0, change, _NAN)), *again]
    columns += [_mean(np.where(known, side, _NAN)) for side in (hours_mgdl < _LOW, hours_mgdl > _HIGH)]
    columns.append(_quantiles(ordered, _QUANTILES))
    return np.concatenate([*columns, mean, _spread(change[:, -24:])], axis=1)


def alike(past_mgdl: Array, hours_mgdl: Array) -> Array:
    """Windows (B, 96) and hours (B, 168) -> (B, ALIKE_WIDTH): what followed in the week on hours that were as the last.

    For each of _ALIKE the mean change to the next hour, hours weighted by a normal density of their distance in level
    and trend, drawn to 0 as by one hour without change; and the sum of the weights.
    """
    level = past_mgdl[:, -12:].mean(axis=1, keepdims=True)
    trend = level - past_mgdl[:, -24:-12].mean(axis=1, keepdims=True)
    change = np.diff(hours_mgdl, axis=1)
    before, after, off = change[:, :-1], change[:, 1:], hours_mgdl[:, 1:-1] - level
    known = np.isfinite(before) & np.isfinite(after)
    columns = []
    for wide, steep in _ALIKE:
        distance = np.square(off / np.float32(wide)) + np.square((before - trend) / np.float32(steep))
        weight = np.where(known, np.exp(np.float32(-0.5) * np.where(known, distance, np.float32(0.0))), np.float32(0.0))
        whole = weight.sum(axis=1, keepdims=True)
        followed = (weight * np.where(known, after, np.float32(0.0))).sum(axis=1, keepdims=True)
        columns += [followed / (whole + np.float32(1.0)), whole]
    return np.concatenate(columns, axis=1)


def shape(past_mgdl: Array) -> Array:
    """Windows (B, 96) -> (B, SHAPE_WIDTH): how the curve goes.

    Slopes over the last _SLOPES points; slope, bend and offset of a parabola through the last _BENDS; over _EXTREMES
    how long ago the highest and the lowest were and their distance from the last point; over _RISES the steepest rise
    and fall in a quarter of an hour, and how long ago the rise was.
    """
    last = past_mgdl[:, -1:]
    columns = [_fitted(past_mgdl[:, -count:], _line(count)) for count in _SLOPES]
    for count in _BENDS:
        slope, bend, level = (_fitted(past_mgdl[:, -count:], row) for row in _parabola(count))
        columns += [slope, bend, level - last]
    for count in _EXTREMES:
        part = past_mgdl[:, -count:]
        columns += [_ago(part.argmax(axis=1), count), _ago(part.argmin(axis=1), count)]
        columns += [part.max(axis=1, keepdims=True) - last, part.min(axis=1, keepdims=True) - last]
    rise = past_mgdl[:, _RISE:] - past_mgdl[:, :-_RISE]
    for count in _RISES:
        part = rise[:, -count:]
        columns += [part.max(axis=1, keepdims=True), part.min(axis=1, keepdims=True), _ago(part.argmax(axis=1), count)]
    return np.concatenate([column.astype(np.float32) for column in columns], axis=1)


def _line(count: int) -> Array:
    at = np.arange(count) - 0.5 * (count - 1)
    return np.asarray(at / (at @ at), dtype=np.float32)


def _parabola(count: int) -> list[Array]:
    """Weights of slope and bend at the last point, and of the level there."""
    at = np.arange(1.0 - count, 1.0)
    level, slope, bend = np.linalg.pinv(np.stack([np.ones(count), at, at * at], axis=1)).astype(np.float32)
    return [slope, bend, level]


def _fitted(part: Array, weight: Array) -> Array:
    return np.asarray((part * weight).sum(axis=1, keepdims=True))


def _ago(place: NDArray[np.intp], count: int) -> Array:
    return (count - 1 - place[:, None]).astype(np.float32)


def _mean(values: Array) -> Array:
    """Of what is known, row by row (B, 1); NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=1, keepdims=True)
    total = np.where(known, values, np.float32(0.0)).sum(axis=1, keepdims=True)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), dtype=np.float32)


def _spread(values: Array) -> Array:
    return np.asarray(np.sqrt(_mean(np.square(values - _mean(values)))))


def _quantiles(ordered: Array, shares: tuple[float, ...]) -> Array:
    """Of rows in rising order with what is unknown at the end (B, shares), between neighbours on a line."""
    most = np.maximum(np.isfinite(ordered).sum(axis=1, keepdims=True) - 1, 0)
    place = most * np.array(shares, dtype=np.float32)
    lower = place.astype(np.int64)
    low, high = (np.take_along_axis(ordered, np.minimum(at, most), axis=1) for at in (lower, lower + 1))
    return np.asarray(low + (place - lower) * (high - low), dtype=np.float32)
