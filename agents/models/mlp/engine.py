"""Serves an MLP checkpoint: every sample is one pass of one member with dropout masks of the window's own seed.

A sample is a pass's location; the residual spread is the standard deviation of the Laplace noise around it, sqrt(2)
times its scale, as the root of its mean square over the passes. Spread is all that travels: which shape lies between
the quantiles is learnt by the conformal step, per horizon (agents/core/predictive.py).

Where the checkpoint holds trees, the location of every pass is drawn to theirs by their share; the spread stays the
network's. Trees are walked on the host, whatever the device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from agents.core.forecaster import Samples, Windows
from agents.models.dropout import SAMPLING_VERSION, DeviceMasks, HostMasks, Masks, kept_share, threshold_of
from agents.models.engine import SAMPLES_A_PASS, WINDOWS_A_CHUNK, Engine, chosen_devices, padded
from agents.models.mlp.checkpoint import MlpCheckpoint
from agents.models.mlp.ensemble import MlpEnsemble
from agents.models.mlp.features import FURTHEST, features
from agents.models.mlp.tree_features import tree_features
from schemas.grid import HORIZON_STEPS


class MlpCopy:
    """One copy of the network on one device, in single precision: its products are too few to gain by less."""

    def __init__(self, checkpoint: MlpCheckpoint, device: torch.device, windows_a_chunk: int | None = None) -> None:
        self.device = device
        self.windows_a_chunk = windows_a_chunk or WINDOWS_A_CHUNK.get(device.type, 1)
        self._checkpoint = checkpoint
        self._threshold = threshold_of(checkpoint.config.dropout)
        self._network = MlpEnsemble(checkpoint.config, checkpoint.network, device)
        self._lock = threading.Lock()

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        """One chunk."""
        with self._lock, torch.inference_mode():
            whole, chunk_seeds = padded(windows, seeds, self.windows_a_chunk)
            made = self._checkpoint
            read = (features(whole) - made.feature_centre) / made.feature_scale
            stem = self._network.stem(torch.from_numpy(np.clip(read, -FURTHEST, FURTHEST)).to(self.device))
            masks = self._masks(chunk_seeds or [])
            members = self._network.members
            rounds, a_pass = -(-num_samples // members), max(1, SAMPLES_A_PASS // members)
            passes = [
                self._network.draws(stem, min(a_pass, rounds - start), self._drop(masks))
                for start in range(0, rounds, a_pass)
            ]
            change, log_scale = (torch.cat(part, dim=1)[:, :num_samples] for part in zip(*passes, strict=True))
            change, scale = change.cpu().numpy(), log_scale.exp().cpu().numpy()
        away = made.step_scale_mgdl * change
        if (beside := made.beside) is not None:
            theirs = beside.trees.change(tree_features(whole))[:, None]
            away = np.float32(1.0 - beside.share) * away + np.float32(beside.share) * theirs
        samples = whole.past_mgdl[:, None, -1:] + away
        spread = made.step_scale_mgdl * np.sqrt(2.0 * np.mean(np.square(scale), axis=1))
        count = len(windows)
        return Samples(
            np.ascontiguousarray(samples[:count], dtype=np.float32), np.ascontiguousarray(spread[:count], np.float32)
        )

    def _drop(self, masks: Masks | None) -> Callable[[Tensor], Tensor]:
        if masks is None:
            return lambda x: x
        kept = kept_share(self._threshold)
        return lambda x: masks.apply(x).div_(kept)

    def _masks(self, seeds: Sequence[bytes]) -> Masks | None:
        if not self._threshold:
            return None
        if self.device.type == "cpu":
            return HostMasks(seeds, 0, self._threshold)
        return DeviceMasks(seeds, 0, self._threshold, self.device)


class MlpEngine(Engine[MlpCopy]):
    """The MLP forecaster. ConfigurationError for a device that is not there.

    `windows_a_chunk`: more than the device's own for much at once, as in an evaluation; the last bits may then differ.
    """

    def __init__(
        self,
        checkpoint: MlpCheckpoint,
        *,
        device: str = "auto",
        copies_per_device: int = 1,
        windows_a_chunk: int | None = None,
    ) -> None:
        devices = chosen_devices(device)
        self.checkpoint = checkpoint
        super().__init__(
            "mlp",
            [MlpCopy(checkpoint, one, windows_a_chunk) for one in devices for _ in range(copies_per_device)],
            f"{checkpoint.fingerprint} {devices[0].type} fp32 {SAMPLING_VERSION}",
            checkpoint.calibration,
        )
