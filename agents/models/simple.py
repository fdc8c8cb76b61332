"""Forecasters without a network: the last value, and ridge regression. Both are certain: every draw is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.core.forecaster import Draws, Windows
from agents.core.predictive import Calibration
from agents.models.gluformer.checkpoint import Checkpoint
from agents.models.gluformer.skip import Skip
from schemas.grid import HORIZON_STEPS


class Persistence:
    """The next hour equals the last value. `residual_sd_mgdl` (12,) widens it; 0 where nothing was measured."""

    name = "persistence"
    calibration: Calibration | None = None

    def __init__(self, residual_sd_mgdl: ArrayLike | None = None) -> None:
        spread = np.zeros(HORIZON_STEPS) if residual_sd_mgdl is None else residual_sd_mgdl
        self._spread = np.asarray(spread, dtype=np.float32)
        self.fingerprint = hashlib.sha256(b"glucast-persistence-v1\n" + self._spread.tobytes()).hexdigest()

    def warm_up(self) -> None:
        """Nothing to do."""

    def draw(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Draws:
        return same_draws(np.repeat(windows.past_mgdl[:, -1:], HORIZON_STEPS, axis=1), self._spread, seeds, num_samples)


class RidgeForecaster:
    """The regression of a checkpoint alone. ValueError when it has none."""

    name = "ridge"

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.skip is None:
            raise ValueError("the checkpoint holds no regression")
        self._skip: Skip = checkpoint.skip
        alone = not checkpoint.members
        self.calibration = checkpoint.calibration if alone else None  # fitted to the draws of the networks otherwise
        self._spread = checkpoint.scaler.scale_mgdl * np.sqrt(np.mean(checkpoint.residual_sd**2, axis=0))
        self.fingerprint = hashlib.sha256(b"glucast-ridge-v1\n" + checkpoint.fingerprint.encode()).hexdigest()

    def warm_up(self) -> None:
        """Nothing to do."""

    def draw(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Draws:
        return same_draws(self._skip.level(windows.past_mgdl), self._spread, seeds, num_samples)


def same_draws(
    mean_mgdl: NDArray[np.float32], spread_mgdl: NDArray[np.floating], seeds: Sequence[bytes], num_samples: int
) -> Draws:
    """`num_samples` equal draws of means (B, 12) with one residual spread (12,) for all windows."""
    if len(seeds) != mean_mgdl.shape[0] or num_samples < 1:
        raise ValueError(f"{mean_mgdl.shape[0]} windows need as many seeds, not {len(seeds)}, and at least one draw")
    samples = np.repeat(mean_mgdl[:, None, :], num_samples, axis=1).astype(np.float32)
    return Draws(samples, np.broadcast_to(spread_mgdl, mean_mgdl.shape).astype(np.float32))
