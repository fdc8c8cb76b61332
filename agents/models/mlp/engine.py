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
from numpy.typing import NDArray
from torch import Tensor

from agents.core.forecaster import Samples, Windows
from agents.models.dropout import SAMPLING_VERSION, DeviceMasks, HostMasks, Masks, kept_share, threshold_of
from agents.models.engine import SAMPLES_A_PASS, WINDOWS_A_CHUNK, Engine, chosen_devices
from agents.models.mlp.checkpoint import MlpCheckpoint
from agents.models.mlp.ensemble import MlpEnsemble
from agents.models.mlp.features import FURTHEST, features
from agents.models.mlp.tree_features import tree_features

_WINDOWS_READ = 8  # at once: reading them one by one costs as much as their products; more would keep others waiting
ARITHMETIC = "fp32-members"  # part of the fingerprint: a change of what is computed, or in which order, changes bits
Array = NDArray[np.float32]


class MlpCopy:
    """One copy of the networks on one device, in single precision: their products are too few to gain by less.

    What is read of the windows of a chunk and what trees say of them is worked out for all at once: no row depends on
    another there. Products are of `windows_a_product` windows, one on a CPU, the last ones padded.
    """

    def __init__(self, checkpoint: MlpCheckpoint, device: torch.device, windows_a_product: int | None = None) -> None:
        self.device = device
        self.windows_a_product = windows_a_product or WINDOWS_A_CHUNK.get(device.type, 1)
        self.windows_a_chunk = max(_WINDOWS_READ, self.windows_a_product)
        self._checkpoint = checkpoint
        self._threshold = threshold_of(checkpoint.config.dropout)
        self._network = MlpEnsemble(checkpoint.config, checkpoint.network, device)
        self._lock = threading.Lock()

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        """One chunk."""
        made, count = self._checkpoint, self.windows_a_product
        seen = features(windows)
        read = np.clip((seen - made.feature_centre) / made.feature_scale, -FURTHEST, FURTHEST)
        with self._lock, torch.inference_mode():
            parts = [
                self._drawn(read[start : start + count], seeds[start : start + count], num_samples)
                for start in range(0, len(windows), count)
            ]
        change, scale = (np.concatenate(part) for part in zip(*parts, strict=True))
        away = made.step_scale_mgdl * change
        if (beside := made.beside) is not None:
            theirs = beside.trees.change(tree_features(windows, seen))[:, None]
            away = np.float32(1.0 - beside.share) * away + np.float32(beside.share) * theirs
        samples = windows.past_mgdl[:, None, -1:] + away
        spread = made.step_scale_mgdl * np.sqrt(2.0 * np.mean(np.square(scale), axis=1))
        return Samples(np.ascontiguousarray(samples, dtype=np.float32), np.ascontiguousarray(spread, np.float32))

    def _drawn(self, read: Array, seeds: Sequence[bytes], num_samples: int) -> tuple[Array, Array]:
        """Of one product's windows: changes and scales (W, S, 12) in units of each step."""
        given, missing = len(seeds), self.windows_a_product - len(seeds)
        if missing:
            read, seeds = np.pad(read, ((0, missing), (0, 0)), mode="edge"), [*seeds, *[seeds[-1]] * missing]
        stem = self._network.stem(torch.from_numpy(read).to(self.device))
        masks, members = self._masks(seeds), self._network.members
        rounds, a_pass = -(-num_samples // members), max(1, SAMPLES_A_PASS // members)
        passes = [
            self._network.draws(stem, min(a_pass, rounds - start), self._drop(masks))
            for start in range(0, rounds, a_pass)
        ]
        change, log_scale = (torch.cat(part, dim=1)[:given, :num_samples] for part in zip(*passes, strict=True))
        return change.cpu().numpy(), log_scale.exp().cpu().numpy()

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

    `windows_a_product`: more than the device's own for much at once, as in an evaluation; the last bits may differ.
    """

    def __init__(
        self,
        checkpoint: MlpCheckpoint,
        *,
        device: str = "auto",
        copies_per_device: int = 1,
        windows_a_product: int | None = None,
    ) -> None:
        devices = chosen_devices(device)
        self.checkpoint = checkpoint
        super().__init__(
            "mlp",
            [MlpCopy(checkpoint, one, windows_a_product) for one in devices for _ in range(copies_per_device)],
            f"{checkpoint.fingerprint} {devices[0].type} {ARITHMETIC} {SAMPLING_VERSION}",
            checkpoint.calibration,
        )
