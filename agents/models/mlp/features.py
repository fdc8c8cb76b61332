"""What the network reads of a window: the past as it lies around its last point, its statistics, the time of day.

Numpy alone, float32; a row's numbers never depend on the other rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.grid import PAST_POINTS

FEATURES_VERSION = 1
FURTHEST = 8.0  # standardised features are clipped here: nothing beyond was seen in training
STEPS_BACK = (1, 2, 3, 4, 6, 9, 12, 18, 24)
STRETCHES = (6, 12, 24, 48)
_DAY_SECONDS = 86_400
WIDTH = PAST_POINTS - 1 + 5 + len(STEPS_BACK) + 3 * len(STRETCHES) + 4

Array = NDArray[np.float32]


def features(past_mgdl: Array, end_times: NDArray[np.datetime64]) -> Array:
    """(B, 96) mg/dL and local end times (B,) -> (B, WIDTH).

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
