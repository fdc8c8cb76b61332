"""The regression that a checkpoint carries, without its network: certain, every sample is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.core.calibration import Calibration
from agents.core.forecaster import Samples, Windows, equal_samples
from agents.models.checkpoint_file import checkpoint_path
from agents.models.choice import Choice
from agents.models.regression import Regression
from agents.models.sealed_file import declared_network
from schemas.errors import CheckpointError

if TYPE_CHECKING:
    from agents.models.gluformer.checkpoint import Checkpoint
    from agents.models.mlp.checkpoint import MlpCheckpoint


class RidgeForecaster:
    """A regression with one residual spread (12,) mg/dL for all windows."""

    name = "ridge"

    def __init__(
        self,
        regression: Regression,
        residual_sd_mgdl: NDArray[np.floating],
        calibration: Calibration | None,
        fingerprint: str,
    ) -> None:
        """`fingerprint`: of the checkpoint that they come from."""
        self._regression = regression
        self._spread = residual_sd_mgdl
        self.calibration = calibration
        self.fingerprint = hashlib.sha256(b"glucast-ridge-v1\n" + fingerprint.encode()).hexdigest()

    def warm_up(self) -> None:
        """Nothing to do."""

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        return equal_samples(self._regression.level(windows.past_mgdl), self._spread, seeds, num_samples)


def load(choice: Choice) -> RidgeForecaster:
    """The regression of the chosen checkpoint. CheckpointError where it holds none."""
    path = checkpoint_path(choice.checkpoint, choice.published)
    found: RidgeForecaster | None
    if path.suffix == ".safetensors" and declared_network(path) == "mlp":
        from agents.models.mlp.checkpoint import load_mlp

        found = ridge_beside_mlp(load_mlp(path))
    else:
        from agents.models.gluformer.chosen import chosen_checkpoint

        found = ridge_of_gluformer(chosen_checkpoint(choice))
    if found is None:
        raise CheckpointError(f"the checkpoint {choice.checkpoint} holds no ridge regression; use the bundled one")
    return found


def ridge_of_gluformer(checkpoint: Checkpoint) -> RidgeForecaster | None:
    """Its calibration was fitted to the samples of the networks, where there are any."""
    if checkpoint.regression is None:
        return None
    spread = checkpoint.scaler.scale_mgdl * np.sqrt(np.mean(checkpoint.residual_sd**2, axis=0))
    calibration = None if checkpoint.members else checkpoint.calibration
    return RidgeForecaster(checkpoint.regression, spread, calibration, checkpoint.fingerprint)


def ridge_beside_mlp(checkpoint: MlpCheckpoint) -> RidgeForecaster | None:
    """With the spread and the calibration of its own that the file holds."""
    anchor = checkpoint.anchor
    if anchor is None:
        return None
    return RidgeForecaster(anchor.regression, anchor.residual_sd_mgdl, anchor.calibration, checkpoint.fingerprint)
