"""Serves a checkpoint: fixed chunks, seeded dropout, several copies of the model on one or more devices.

A chunk always holds the same number of windows on a path (one on a CPU, which is the live case and fits its cache;
several on a GPU, the last one padded), so every matrix product has the same shape whoever is in the batch, and a
window's bits depend on its own values, seed and number of samples alone. A chunk is also where work can be interrupted:
`stream` yields after each.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.core.forecaster import Samples, Windows
from agents.core.predictive import Calibration
from agents.models.gluformer.checkpoint import Checkpoint
from agents.models.gluformer.dropout import SAMPLING_VERSION, DeviceMasks, HostMasks, Masks, NoDropout, threshold_of
from agents.models.gluformer.marks import marks_of
from agents.models.gluformer.served_network import ServedNetwork
from schemas.errors import ConfigurationError

Precision = Literal["auto", "fp32", "bf16"]

SAMPLES_A_PASS = 16  # more run in several passes: memory stays bounded, and S samples are always cut the same way
_WINDOWS_A_CHUNK = {"cpu": 1, "cuda": 8}
_NARROWEST_BF16 = 256  # below this width the conversions cost more than the products gain
_FORGET = 0.2  # weight of the newest chunk in the measured cost


@dataclass(frozen=True)
class Chunk:
    """Windows start..stop of the batch are done."""

    start: int
    stop: int
    samples: Samples


class Copy:
    """One copy of every member on one device. `sample` runs on one thread at a time."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.windows_a_chunk = _WINDOWS_A_CHUNK.get(device.type, 1)
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
        short = self.windows_a_chunk - count
        past_mgdl = np.pad(windows.past_mgdl, ((0, short), (0, 0)), mode="edge").astype(np.float32, copy=False)
        ends = np.pad(windows.end_times, (0, short), mode="edge")
        chunk_seeds = None if seeds is None else [*seeds, *[seeds[-1]] * short]
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


class GluformerEngine:
    """The Gluformer forecaster; see agents.core.forecaster. ConfigurationError for a device that is not there."""

    name = "gluformer"

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
        self.copies = [Copy(checkpoint, one, dtype) for one in devices for _ in range(copies_per_device)]
        path = f"{checkpoint.fingerprint} {devices[0].type} {self.precision} {SAMPLING_VERSION}"
        self.fingerprint = hashlib.sha256(b"glucast-forecaster-v1\n" + path.encode()).hexdigest()
        self._turn = cycle(self.copies)
        self._pool = ThreadPoolExecutor(len(self.copies), "gluformer") if len(self.copies) > 1 else None
        self._lock = threading.Lock()
        self._seconds_a_sample: float | None = None
        self._windows = self._samples = 0
        self._busy_seconds = 0.0

    @property
    def calibration(self) -> Calibration | None:
        return self.checkpoint.calibration

    def warm_up(self, num_samples: int = 10) -> None:
        """Runs each copy twice, the second time measured, so that the first batch has a cost to be planned with."""
        windows = Windows(
            np.full((self.copies[0].windows_a_chunk, self.checkpoint.config.len_seq), 120.0, dtype=np.float32),
            np.full(self.copies[0].windows_a_chunk, np.datetime64("2026-01-01T12:00:00", "s")),
        )
        for copy in self.copies:
            copy.sample(windows, [bytes(32)] * len(windows), num_samples)
            self._timed(copy, windows, [bytes(32)] * len(windows), num_samples, count=False)

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        """See the interface. Chunks go to the copies in turn."""
        parts = [chunk.samples for chunk in self.stream(windows, seeds, num_samples)]
        steps = self.checkpoint.config.len_pred
        if not parts:
            return Samples(np.empty((0, num_samples, steps), np.float32), np.empty((0, steps), np.float32))
        return Samples(
            np.concatenate([part.samples_mgdl for part in parts]),
            np.concatenate([part.residual_sd_mgdl for part in parts]),
        )

    def stream(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Iterator[Chunk]:
        """The same samples chunk by chunk, in order; whoever stops iterating leaves the rest undone.

        ValueError when seeds and windows differ in number or no sample is asked for.
        """
        if len(seeds) != len(windows) or num_samples < 1:
            raise ValueError(f"{len(windows)} windows need as many seeds, not {len(seeds)}, and at least one sample")
        size = self.copies[0].windows_a_chunk
        pending: deque[tuple[int, Callable[[], Samples]]] = deque()
        for start in range(0, len(windows), size):
            part = Windows(windows.past_mgdl[start : start + size], windows.end_times[start : start + size])
            pending.append((start, self._started(part, seeds[start : start + size], num_samples)))
            if len(pending) >= len(self.copies):
                yield self._finished(pending.popleft())
        while pending:
            yield self._finished(pending.popleft())

    def _started(self, part: Windows, seeds: Sequence[bytes], num_samples: int) -> Callable[[], Samples]:
        copy = next(self._turn)
        if self._pool is None:
            samples = self._timed(copy, part, seeds, num_samples)
            return lambda: samples
        future: Future[Samples] = self._pool.submit(self._timed, copy, part, seeds, num_samples)
        return future.result

    @staticmethod
    def _finished(entry: tuple[int, Callable[[], Samples]]) -> Chunk:
        samples = entry[1]()
        return Chunk(entry[0], entry[0] + samples.samples_mgdl.shape[0], samples)

    def _timed(
        self, copy: Copy, part: Windows, seeds: Sequence[bytes], num_samples: int, count: bool = True
    ) -> Samples:
        began = time.perf_counter()
        samples = copy.sample(part, seeds, num_samples)
        seconds = time.perf_counter() - began
        with self._lock:
            cost = seconds / (copy.windows_a_chunk * num_samples)
            known = self._seconds_a_sample
            self._seconds_a_sample = cost if known is None else known + _FORGET * (cost - known)
            if count:
                self._windows += len(part)
                self._samples += len(part) * num_samples
                self._busy_seconds += seconds
        return samples

    def seconds_per_window(self, num_samples: int) -> float:
        """Measured cost of one window with `num_samples` samples, all copies at work; 0 before anything has run."""
        return (self._seconds_a_sample or 0.0) * num_samples / len(self.copies)

    def stats(self) -> dict[str, float]:
        """Plain numbers for metrics. Memory of the GPUs is 0 where there are none."""
        gpus = {copy.device for copy in self.copies if copy.device.type == "cuda"}
        with self._lock:
            busy = self._busy_seconds
            return {
                "copies": float(len(self.copies)),
                "windows_total": float(self._windows),
                "samples_total": float(self._samples),
                "busy_seconds_total": busy,
                "windows_per_busy_second": self._windows / busy if busy else 0.0,
                "seconds_per_sample": self._seconds_a_sample or 0.0,
                "vram_allocated_bytes": float(sum(torch.cuda.memory_allocated(gpu) for gpu in gpus)),
                "vram_peak_bytes": float(sum(torch.cuda.max_memory_allocated(gpu) for gpu in gpus)),
            }

    def mean(self, windows: Windows) -> NDArray[np.float32]:
        """The forecast without dropout, (B, members, 12) mg/dL."""
        members = len(self.checkpoint.members)
        copy = self.copies[0]
        rows = [
            copy.sample(
                Windows(windows.past_mgdl[at : at + 1], windows.end_times[at : at + 1]), None, members
            ).samples_mgdl
            for at in range(len(windows))
        ]
        return np.concatenate(rows) if rows else np.empty((0, members, self.checkpoint.config.len_pred), np.float32)


def chosen_devices(device: str) -> list[torch.device]:
    """auto: every GPU, else the CPU; cuda: every GPU; cuda:N; cpu. ConfigurationError when it is not there."""
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cpu" or (device == "auto" and not gpus):
        return [torch.device("cpu")]
    if device in ("auto", "cuda") and gpus:
        return [torch.device("cuda", place) for place in range(gpus)]
    kind, _, number = device.partition(":")
    if kind == "cuda" and number.isdigit() and int(number) < gpus:
        return [torch.device("cuda", int(number))]
    raise ConfigurationError(f"device {device!r} is not available: {gpus} GPUs found; use auto, cpu, cuda or cuda:N")


def chosen_precision(precision: Precision, device: torch.device, d_model: int) -> Literal["fp32", "bf16"]:
    """auto: bf16 where the processor multiplies it natively and the network is wide enough to gain, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native and d_model >= _NARROWEST_BF16 else "fp32"
