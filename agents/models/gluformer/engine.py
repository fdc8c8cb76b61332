"""Serves a Gluformer checkpoint: scaling, seeded dropout, the members of an ensemble, the spread around each."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.core.forecaster import Samples, Windows
from agents.models.choice import Precision
from agents.models.dropout import SAMPLING_VERSION, DeviceMasks, HostMasks, Masks, NoDropout, threshold_of
from agents.models.engine import SAMPLES_A_PASS, WINDOWS_A_CHUNK, Engine, chosen_devices, padded
from agents.models.gluformer.checkpoint import Checkpoint
from agents.models.gluformer.marks import marks_of
from agents.models.gluformer.served_network import ServedNetwork

_NARROWEST_BF16 = 256  # below this width the conversions cost more than the products gain


class GluformerCopy:
    """One copy of every member on one device. `sample` runs on one thread at a time."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.windows_a_chunk = WINDOWS_A_CHUNK.get(device.type, 1)
        self._checkpoint = checkpoint
        self._threshold = threshold_of(checkpoint.config.r_drop)
        self._members = [ServedNetwork(checkpoint.config, state, device, dtype) for state in checkpoint.members]
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def sample(self, windows: Windows, seeds: Sequence[bytes] | None, num_samples: int) -> Samples:
        """One chunk. Without seeds nothing is dropped: every sample is the mean network."""
        with self._lock, torch.inference_mode(), torch.cuda.stream(self._stream):
            return self._sample(windows, seeds, num_samples)

    def _sample(self, windows: Windows, seeds: Sequence[bytes] | None, num_samples: int) -> Samples:
        config, count = self._checkpoint.config, len(windows)
        whole, chunk_seeds = padded(windows, seeds, self.windows_a_chunk)
        past_mgdl, ends = whole.past_mgdl, whole.end_times
        offset, scale = self._checkpoint.scaler.fitted(past_mgdl)
        past = self._sent((past_mgdl - offset) / scale)
        marks = self._sent(marks_of(ends, config.len_seq, config.len_pred)[:, :, : config.num_dynamic_features])
        # All members are queued before the first answer is fetched: on a GPU its copy overlaps with the next's work.
        answers = [
            self._member_samples(place, past, marks, chunk_seeds, num_samples)
            for place in range(min(len(self._members), num_samples))
        ]
        means, spread = self._gathered(answers, num_samples)
        regression = self._checkpoint.regression if self._checkpoint.residual else None
        level = offset if regression is None else regression.level(past_mgdl)
        samples = level[:, None, :] + scale[:, :, None] * means
        return Samples(np.ascontiguousarray(samples[:count]), np.ascontiguousarray((scale * spread)[:count]))

    def _gathered(
        self, answers: Sequence[tuple[Tensor, Tensor]], num_samples: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Members' (means, log-variances) -> means (W, S, 12) and residual spread (W, 12), scaled units.

        The spread is the root of the samples' mean variance, so members count by their samples.
        """
        hosted = [(self._fetched(mean), self._fetched(log_variance)) for mean, log_variance in answers]
        if self._stream is not None:
            self._stream.synchronize()
        rows, steps = self.windows_a_chunk, self._checkpoint.config.len_pred
        means = np.empty((rows, num_samples, steps), dtype=np.float32)
        variance = np.zeros((rows, steps), dtype=np.float32)
        for place, (mean, log_variance) in enumerate(hosted):
            means[:, place :: len(self._members)] = mean.numpy()
            factor = np.exp(log_variance.numpy())[:, None] if self._checkpoint.log_variance else np.float32(1.0)
            variance += mean.shape[1] * factor * self._checkpoint.residual_sd[place] ** 2
        return means, np.sqrt(variance / np.float32(num_samples))

    def _member_samples(
        self, place: int, past: Tensor, marks: Tensor, seeds: Sequence[bytes] | None, num_samples: int
    ) -> tuple[Tensor, Tensor]:
        """Means of the samples dealt to member `place`, and its log-variances."""
        samples = len(range(place, num_samples, len(self._members)))
        masks = self._masks(seeds, place)
        passes = [
            self._members[place](past, marks, masks, min(SAMPLES_A_PASS, samples - start))
            for start in range(0, samples, SAMPLES_A_PASS)
        ]
        return torch.cat([mean for mean, _ in passes], dim=1), passes[0][1]

    def _masks(self, seeds: Sequence[bytes] | None, member: int) -> Masks:
        if seeds is None or not self._threshold:
            return NoDropout(self._threshold)
        if self.device.type == "cpu":
            return HostMasks(seeds, member, self._threshold)
        return DeviceMasks(seeds, member, self._threshold, self.device)

    def _sent(self, values: NDArray[np.float32]) -> Tensor:
        host = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        return host if self._stream is None else host.pin_memory().to(self.device, non_blocking=True)

    def _fetched(self, values: Tensor) -> Tensor:
        if self._stream is None:
            return values
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        return host.copy_(values, non_blocking=True)


class GluformerEngine(Engine[GluformerCopy]):
    """The Gluformer forecaster. ConfigurationError for a device that is not there."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        copies_per_device: int = 1,
    ) -> None:
        devices = chosen_devices(device)
        self.precision = chosen_precision(precision, devices[0], checkpoint.config.d_model)
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.checkpoint = checkpoint
        super().__init__(
            "gluformer",
            [GluformerCopy(checkpoint, one, dtype) for one in devices for _ in range(copies_per_device)],
            f"{checkpoint.fingerprint} {devices[0].type} {self.precision} {SAMPLING_VERSION}",
            checkpoint.calibration,
        )

    def mean(self, windows: Windows) -> NDArray[np.float32]:
        """The forecast without dropout, (B, members, 12) mg/dL."""
        members = len(self.checkpoint.members)
        copy = self.copies[0]
        rows = [copy.sample(windows.rows(slice(at, at + 1)), None, members).samples_mgdl for at in range(len(windows))]
        return np.concatenate(rows) if rows else np.empty((0, members, self.checkpoint.config.len_pred), np.float32)


def chosen_precision(precision: Precision, device: torch.device, d_model: int) -> Literal["fp32", "bf16"]:
    """auto: bf16 where the processor multiplies it natively and the network is wide enough to gain, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native and d_model >= _NARROWEST_BF16 else "fp32"
