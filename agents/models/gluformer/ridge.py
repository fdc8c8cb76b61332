"""The regression of a checkpoint without its networks: certain, every sample is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agents.core.forecaster import Samples, Windows, equal_samples
from agents.models.choice import Choice
from agents.models.gluformer.checkpoint import Checkpoint
from agents.models.gluformer.chosen import chosen_checkpoint
from agents.models.gluformer.regression import Regression
from schemas.errors import CheckpointError


class RidgeForecaster:
    """The regression of a checkpoint alone. ValueError when it has none."""

    name = "ridge"

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.regression is None:
            raise ValueError("the checkpoint holds no regression")
        self._regression: Regression = checkpoint.regression
        alone = not checkpoint.members
        self.calibration = checkpoint.calibration if alone else None  # fitted to the samples of the networks otherwise
        self._spread = checkpoint.scaler.scale_mgdl * np.sqrt(np.mean(checkpoint.residual_sd**2, axis=0))
        self.fingerprint = hashlib.sha256(b"glucast-ridge-v1\n" + checkpoint.fingerprint.encode()).hexdigest()

    def warm_up(self) -> None:
        """Nothing to do."""

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        return equal_samples(self._regression.level(windows.past_mgdl), self._spread, seeds, num_samples)


def load(choice: Choice) -> RidgeForecaster:
    """The regression of the chosen checkpoint. CheckpointError where it holds none."""
    return ridge_of(chosen_checkpoint(choice), choice.checkpoint)


def ridge_of(checkpoint: Checkpoint, name: str | Path) -> RidgeForecaster:
    """CheckpointError where the checkpoint of this name holds no regression."""
    if checkpoint.regression is None:
        raise CheckpointError(f"the checkpoint {name} holds no ridge regression; use the bundled one")
    return RidgeForecaster(checkpoint)
