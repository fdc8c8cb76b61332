"""Serves copies of a model: fixed chunks, one or more devices, and what it costs.

Every matrix product is of the same number of windows on a path (one on a CPU, which is the live case and fits its
cache; several on a GPU, the last one padded), so it has the same shape whoever is in the batch, and a window's bits
depend on its own values, seed and number of samples alone. A chunk is also where work can be interrupted:
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
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch

from agents.core.calibration import Calibration
from agents.core.forecaster import Samples, Windows
from schemas.errors import ConfigurationError
from schemas.grid import HORIZON_STEPS, PAST_POINTS

SAMPLES_A_PASS = 16  # more run in several passes: memory stays bounded, and S samples are always cut the same way
WINDOWS_A_CHUNK = {"cpu": 1, "cuda": 8}
_FORGET = 0.2  # weight of the newest chunk in the measured cost


@dataclass(frozen=True)
class Chunk:
    """Windows start..stop of the batch are done."""

    start: int
    stop: int
    samples: Samples


def padded(windows: Windows, seeds: Sequence[bytes] | None, count: int) -> tuple[Windows, list[bytes] | None]:
    """`count` windows and as many seeds, if any: the last one again where there are fewer."""
    last = np.minimum(np.arange(count), len(windows) - 1)
    return windows.rows(last), None if seeds is None else [*seeds, *[seeds[-1]] * (count - len(seeds))]


class Copy(Protocol):
    """One copy of a model on one device. `sample` runs on one thread at a time."""

    @property
    def device(self) -> torch.device: ...

    @property
    def windows_a_chunk(self) -> int: ...

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        """One chunk of at most `windows_a_chunk` windows."""


C = TypeVar("C", bound=Copy)


class Engine(Generic[C]):
    """A forecaster of copies that work in turn; see agents.core.forecaster.

    `model_fingerprint` covers the checkpoint and the arithmetic; device and way of sampling are added here.
    """

    def __init__(self, name: str, copies: Sequence[C], model_fingerprint: str, calibration: Calibration | None) -> None:
        self.name = name
        self.copies = list(copies)
        self.calibration = calibration
        self.fingerprint = hashlib.sha256(b"glucast-forecaster-v1\n" + model_fingerprint.encode()).hexdigest()
        self._turn = cycle(self.copies)
        self._pool = ThreadPoolExecutor(len(self.copies), name) if len(self.copies) > 1 else None
        self._lock = threading.Lock()
        self._seconds_a_sample: float | None = None
        self._windows = self._samples = 0
        self._busy_seconds = 0.0

    def warm_up(self, num_samples: int = 10) -> None:
        """Runs each copy twice, the second time measured, so that the first batch has a cost to be planned with."""
        windows = Windows(
            np.full((self.copies[0].windows_a_chunk, PAST_POINTS), 120.0, dtype=np.float32),
            np.full(self.copies[0].windows_a_chunk, np.datetime64("2026-01-01T12:00:00", "s")),
        )
        for copy in self.copies:
            copy.sample(windows, [bytes(32)] * len(windows), num_samples)
            self._timed(copy, windows, [bytes(32)] * len(windows), num_samples, count=False)

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        """See the interface. Chunks go to the copies in turn."""
        parts = [chunk.samples for chunk in self.stream(windows, seeds, num_samples)]
        if not parts:
            return Samples(
                np.empty((0, num_samples, HORIZON_STEPS), np.float32), np.empty((0, HORIZON_STEPS), np.float32)
            )
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
            part = windows.rows(slice(start, start + size))
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

    def _timed(self, copy: C, part: Windows, seeds: Sequence[bytes], num_samples: int, count: bool = True) -> Samples:
        began = time.perf_counter()
        samples = copy.sample(part, seeds, num_samples)
        seconds = time.perf_counter() - began
        with self._lock:
            cost = seconds / (len(part) * num_samples)
            known = self._seconds_a_sample
            self._seconds_a_sample = cost if known is None else known + _FORGET * (cost - known)
            if count:
                self._windows += len(part)
                self._samples += len(part) * num_samples
                self._busy_seconds += seconds
        return samples

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
