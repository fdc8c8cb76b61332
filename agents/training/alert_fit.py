"""Fits what turns a fan into P(crossing within the hour): the bank of error ranks and the network beside it.

On windows of people whom the judged study does not hold, as served: samples of a checkpoint, its calibration. The bank
is of people kept back from its training. The network has 48 hidden units and minimises the log loss of 16 outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from agents.core import predictive
from agents.core.calibration import Calibration
from agents.core.forecaster import Forecaster
from agents.core.path_events import LOWS, OUTCOMES, STEPS, PathEvents, copula, inputs, ranks_of
from agents.training.evaluate import SERVED_SAMPLES, sampling_seeds
from agents.training.table import Pool
from schemas.grid import HORIZON_STEPS, THRESHOLDS_MGDL

Array = NDArray[np.float64]
Progress = Callable[[str], None]

BANK, HIDDEN, STEPS_OF_FIT, BATCH = 512, 48, 3000, 1024
BACK_POINTS = 36
_BLOCK = 512


@dataclass(frozen=True)
class Fans:
    """B windows with what a forecaster says of them, and the hour after.

    past_mgdl (B, 36), beyond (B, 4, 12), mean_mgdl, spread_mgdl (B, 12); future_mgdl (B, 12): points of the grid, those
    of short gaps interpolated, NaN where nothing is known; slot, owner (B,): of the last point, and whose it is.
    """

    past_mgdl: Array
    beyond: Array
    mean_mgdl: Array
    spread_mgdl: Array
    future_mgdl: Array
    slot: NDArray[np.int64]
    owner: NDArray[np.int64]

    @classmethod
    def of(
        cls, forecaster: Forecaster, pool: Pool, rows: NDArray[np.int64], progress: Progress = lambda text: None
    ) -> Fans:
        """Sampled as served, of these rows of the pool."""
        calibration = forecaster.calibration or Calibration.identity()
        parts: list[tuple[NDArray[np.floating], ...]] = []
        for begin in range(0, len(rows), _BLOCK):
            chosen = rows[begin : begin + _BLOCK]
            windows = pool.windows(chosen)
            made = forecaster.sample(windows, sampling_seeds(windows), SERVED_SAMPLES)
            below = predictive.probability_below(made.samples_mgdl, made.residual_sd_mgdl, calibration, THRESHOLDS_MGDL)
            beyond = np.concatenate([below[:, :LOWS], 1.0 - below[:, LOWS:]], axis=1)
            past = windows.past_mgdl[:, -BACK_POINTS:].astype(np.float64)
            future = pool.flat[pool.ends[chosen, None] + np.arange(1, HORIZON_STEPS + 1)].astype(np.float64)
            parts.append((past, beyond, made.samples_mgdl.mean(axis=1), made.residual_sd_mgdl, future))
            progress(f"{begin + len(chosen):,} of {len(rows):,} windows")
        past, beyond, mean, spread, future = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(past, beyond, mean.astype(np.float64), spread.astype(np.float64), future,
                   pool.slot[pool.ends[rows]], pool.owner[rows])  # fmt: skip

    def __len__(self) -> int:
        return len(self.slot)

    def events(self) -> Array:
        """(B, 4, 4): 1 where the threshold is crossed within the horizon, 0 where not, NaN where it is not known."""
        found = np.full((len(self), len(THRESHOLDS_MGDL), len(STEPS)), np.nan)
        for column, steps in enumerate(STEPS):
            ahead = self.future_mgdl[:, :steps]
            known = np.isfinite(ahead).all(axis=1)
            for place, threshold in enumerate(THRESHOLDS_MGDL):
                crossed = (ahead < threshold) if place < LOWS else (ahead > threshold)
                found[known, place, column] = crossed[known].any(axis=1)
        return found

    def read(self, events: PathEvents) -> Array:
        """What would be served: (B, 4, 4)."""
        return np.concatenate([
            events.probabilities(*(part[begin : begin + 4096] for part in self._columns()))
            for begin in range(0, len(self), 4096)
        ])  # fmt: skip

    def _columns(self) -> tuple[Array, Array, Array, Array]:
        return self.beyond, self.past_mgdl, self.mean_mgdl, self.spread_mgdl


def some_rows(pool: Pool, most: int, seed: int) -> NDArray[np.int64]:
    """At most so many windows of a pool, in order."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(len(pool), min(most, len(pool)), replace=False))


def fit_path_events(kept_back: Fans, others: Sequence[Fans], seed: int = 0) -> PathEvents:
    """The bank of `kept_back`, the network of all. The same seed gives the same on one machine."""
    bank = _bank(kept_back, seed)
    members = (kept_back, *others)
    ranks = ranks_of(bank)
    read = np.concatenate([inputs(*each._columns(), copula(each.beyond, ranks)) for each in members])
    happened = np.concatenate([each.events().reshape(-1, OUTCOMES) for each in members])
    centre, scale = read.mean(axis=0), read.std(axis=0) + 1e-3
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Linear(read.shape[1], HIDDEN), torch.nn.GELU(), torch.nn.Linear(HIDDEN, OUTCOMES)
    )
    standard = torch.from_numpy(np.clip((read - centre) / scale, -6.0, 6.0).astype(np.float32))
    target = torch.from_numpy(happened.astype(np.float32))
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=STEPS_OF_FIT)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(STEPS_OF_FIT):
        chosen = torch.randint(len(standard), (BATCH,), generator=draws)
        truth = target[chosen]
        known = torch.isfinite(truth)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(standard[chosen])[known], truth[known])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    weights = [part.detach().double().numpy() for part in network.parameters()]
    return PathEvents(bank, centre, scale, weights[0].T, weights[1], weights[2].T, weights[3])


def save(events: PathEvents, path: Path, licence: str) -> None:
    """As `agents.core.path_events.read` reads it, in single precision; `licence` is an SPDX expression."""
    from safetensors.numpy import save_file

    tensors = {
        name: np.ascontiguousarray(getattr(events, name), np.float32) for name in PathEvents.__dataclass_fields__
    }
    save_file(tensors, path, {"licence": licence})


def _bank(fans: Fans, seed: int) -> Array:
    """Ranks of whole hours of errors, each in units of its window's spread: (BANK, 12), columns evenly spread."""
    error = (fans.future_mgdl - fans.mean_mgdl) / np.maximum(fans.spread_mgdl, predictive.SMALLEST_SPREAD_MGDL)
    error = error[np.isfinite(error).all(axis=1)]
    chosen = np.random.default_rng(seed).choice(len(error), min(BANK, len(error)), replace=False)
    ranks = rankdata(error[chosen], method="ordinal", axis=0)
    return np.asarray((ranks - 0.5) / len(chosen))
