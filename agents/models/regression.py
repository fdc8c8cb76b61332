"""The regression that a checkpoint carries beside its networks: of the next hour on the past eight.

It is linear in the past, or in the past and its bends, which are as simple but not linear: how far the last value lies
above a level, how far it has risen, and the highest and lowest of the last one and two hours. So a fall may go on
otherwise than a rise, and from high up otherwise than from the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.grid import PAST_POINTS

LEVELS_MGDL = (140.0, 180.0)  # a bend at 90 gains no accuracy and lets fewer lows be foreseen
RISES_STEPS = (1, 3, 6, 12)
EXTREMES_STEPS = (12, 24)
BENDS = len(LEVELS_MGDL) + len(RISES_STEPS) + 2 * len(EXTREMES_STEPS)
WIDTHS = (PAST_POINTS, PAST_POINTS + BENDS)
"""Regressors of a linear regression, and of one with bends."""

Array = NDArray[np.float32]


def regressors(past_mgdl: Array, width: int) -> Array:
    """(B, 96) -> (B, width), mg/dL: the past, followed by its bends where `width` is the larger of WIDTHS."""
    if width == PAST_POINTS:
        return past_mgdl
    last = past_mgdl[:, -1]
    above = [np.maximum(last - np.float32(level), np.float32(0.0)) for level in LEVELS_MGDL]
    risen = [np.maximum(last - past_mgdl[:, -1 - steps], np.float32(0.0)) for steps in RISES_STEPS]
    highest = [past_mgdl[:, -steps:].max(axis=1) for steps in EXTREMES_STEPS]
    lowest = [past_mgdl[:, -steps:].min(axis=1) for steps in EXTREMES_STEPS]
    return np.column_stack([past_mgdl, *above, *risen, *highest, *lowest])


@dataclass(frozen=True)
class Regression:
    """Level forecast `regressors @ weight.T + bias`, mg/dL: weight (12, one of WIDTHS), bias (12,)."""

    weight: Array
    bias: Array

    def level(self, past_mgdl: Array) -> Array:
        """(B, 96) -> (B, 12). Row by row, so that a row's bits never depend on its batch mates."""
        rows = [self.weight @ row + self.bias for row in regressors(past_mgdl, self.weight.shape[1])]
        return np.stack(rows) if rows else np.zeros((0, self.bias.size), dtype=np.float32)
