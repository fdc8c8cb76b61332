"""The last value as the forecast: certain, every sample is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from agents.core.calibration import Calibration
from agents.core.forecaster import Samples, Windows, equal_samples
from agents.models.choice import Choice
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

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        return equal_samples(
            np.repeat(windows.past_mgdl[:, -1:], HORIZON_STEPS, axis=1), self._spread, seeds, num_samples
        )


def load(_: Choice) -> Persistence:
    """Needs no file."""
    return Persistence()
