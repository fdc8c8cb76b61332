"""What a forecaster is: windows of the past in, samples of the next hour out. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agents.core.calibration import Calibration
from schemas.grid import PAST_HOURS, PAST_POINTS


@dataclass(frozen=True)
class Windows:
    """B windows of the past on the 5-minute grid. ValueError when the shapes do not fit each other.

    past_mgdl  float32 (B, 96), oldest first, finite
    end_times  datetime64[s] (B,), local time of the last known point: what the calendar marks are computed from
    hours_mgdl float32 (B, 168), oldest first: means of the hours before the 96 points, NaN where unknown; None
               where nothing is known of any
    """

    past_mgdl: NDArray[np.float32]
    end_times: NDArray[np.datetime64]
    hours_mgdl: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.past_mgdl.ndim != 2 or self.past_mgdl.shape[1] != PAST_POINTS:
            raise ValueError(f"past_mgdl must be (B, {PAST_POINTS}), not {self.past_mgdl.shape}")
        if self.end_times.shape != self.past_mgdl.shape[:1]:
            raise ValueError(f"{self.past_mgdl.shape[0]} windows but end_times {self.end_times.shape}")
        if self.hours_mgdl is not None and self.hours_mgdl.shape != (self.past_mgdl.shape[0], PAST_HOURS):
            raise ValueError(f"{self.past_mgdl.shape[0]} windows but hours_mgdl {self.hours_mgdl.shape}")

    def __len__(self) -> int:
        return int(self.past_mgdl.shape[0])

    def rows(self, chosen: slice | NDArray[np.int64]) -> Windows:
        """Some of them."""
        hours_mgdl = None if self.hours_mgdl is None else self.hours_mgdl[chosen]
        return Windows(self.past_mgdl[chosen], self.end_times[chosen], hours_mgdl)

    @property
    def hours(self) -> NDArray[np.float32]:
        """`hours_mgdl`, all of it."""
        if self.hours_mgdl is None:
            return np.full((len(self), PAST_HOURS), np.nan, dtype=np.float32)
        return self.hours_mgdl


@dataclass(frozen=True)
class Samples:
    """Samples of the next hour for B windows, step h at 5 (h + 1) minutes after the last known point.

    samples_mgdl      float32 (B, S, 12): one mean a sample; their spread is what the model does not know
    residual_sd_mgdl  float32 (B, 12): spread of the truth around a right mean; 0 where the model has none
    """

    samples_mgdl: NDArray[np.float32]
    residual_sd_mgdl: NDArray[np.float32]


class Forecaster(Protocol):
    """The seam that every model stands behind.

    `fingerprint` is a hex SHA-256 over everything that determines the samples on one machine and path; `calibration` is
    None for a model that was never calibrated.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def calibration(self) -> Calibration | None: ...

    def warm_up(self) -> None:
        """Do everything that the first forecast would otherwise wait for."""

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        """`num_samples` samples a window. seeds[i]: 32 bytes; same window, seed and number give the same bits, whoever
        the batch mates are. ValueError when seeds and windows differ in number.
        """


def equal_samples(
    mean_mgdl: NDArray[np.float32], spread_mgdl: NDArray[np.floating], seeds: Sequence[bytes], num_samples: int
) -> Samples:
    """`num_samples` equal samples of means (B, 12) with one residual spread (12,) for all windows."""
    if len(seeds) != mean_mgdl.shape[0] or num_samples < 1:
        raise ValueError(f"{mean_mgdl.shape[0]} windows need as many seeds, not {len(seeds)}, and at least one sample")
    samples = np.repeat(mean_mgdl[:, None, :], num_samples, axis=1).astype(np.float32)
    return Samples(samples, np.broadcast_to(spread_mgdl, mean_mgdl.shape).astype(np.float32))
