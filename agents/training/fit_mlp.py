"""Fits the MLP to a pool of windows: Laplace likelihood per step, so the errors count by their size, not by its square.

    loss = mean over measured targets of |y - m_h| / b_h + log b_h        Laplace, m: location, b: scale

Both are learnt together: what cannot be foreseen widens b and pulls less on m. Weights kept are an exponential moving
average over a fixed number of steps. Every step draws its windows and its dropout from (seed, step), so a run that was
stopped goes on to the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agents.core.forecaster import Windows
from agents.models.dropout import HostMasks, kept_share, threshold_of
from agents.models.mlp.config import MlpConfig
from agents.models.mlp.features import FURTHEST, features
from agents.models.mlp.network import Mlp
from agents.training.table import Pool
from schemas.grid import PAST_HOURS

_SCALING_WINDOWS = 100_000
_NOTHING_KNOWN, _SOME_KNOWN = 0.125, 0.375  # shares of the windows of a step, the second with the first


@dataclass(frozen=True)
class MlpSchedule:
    """How long and how hard to train."""

    steps: int = 4000
    batch_size: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    average: float = 0.999
    warm_up: float = 0.05  # share of the steps


class MlpFit:
    """Training of one member that goes on from `path` where it was stopped; one seed, one result on one machine."""

    def __init__(
        self,
        pool: Pool,
        config: MlpConfig,
        schedule: MlpSchedule,
        seed: int,
        path: Path | None = None,
        saved_every: int = 500,
        member: int = 0,
    ) -> None:
        self.saved_every, self.member = saved_every, member
        self.pool, self.config, self.schedule, self.seed, self.path = pool, config, schedule, seed, path
        torch.manual_seed(seed + member)
        self.network = Mlp(config)
        with torch.no_grad():
            self.network.head.weight.mul_(0.1)
            self.network.head.bias.zero_()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.step = 0
        self.centre, self.scale, self.unit = self._scaling()
        if path is not None and path.exists():
            self._resume(path)

    def run(self) -> Iterator[tuple[int, float]]:
        """Trains to the end of the schedule; yields (step, loss) now and then, after each the state is saved."""
        self.network.train()
        losses: list[float] = []
        while self.step < self.schedule.steps:
            losses.append(self._one_step())
            self.step += 1
            if self.step % self.saved_every == 0 or self.step == self.schedule.steps:
                if self.path is not None:
                    self._save(self.path)
                yield self.step, float(np.mean(losses))
                losses = []

    def weights(self) -> dict[str, np.ndarray]:
        """The averaged network."""
        return {name: value.numpy().copy() for name, value in self.average.items()}

    def _scaling(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        rows = np.sort(rng.choice(len(self.pool), min(len(self.pool), _SCALING_WINDOWS), replace=False))
        windows = self.pool.windows(rows)
        read = features(windows).astype(np.float64)
        change = np.abs(self.pool.future(rows) - windows.past_mgdl[:, -1:]).astype(np.float64)
        spread = np.maximum(read.std(axis=0), 1e-3)
        unit = np.maximum(np.nanmean(change, axis=0), 0.5)
        return read.mean(axis=0).astype(np.float32), spread.astype(np.float32), unit.astype(np.float32)

    def _one_step(self) -> float:
        rng = np.random.default_rng([self.seed, self.step, self.member])
        rows = rng.integers(len(self.pool), size=self.schedule.batch_size)
        windows = forgotten(self.pool.windows(rows), rng)
        read = np.clip((features(windows) - self.centre) / self.scale, -FURTHEST, FURTHEST)
        target = torch.from_numpy((self.pool.future(rows) - windows.past_mgdl[:, -1:]) / self.unit)
        change, log_scale = self.network(torch.from_numpy(read), self._dropout(rng.bytes(32)))
        loss = laplace_loss(target, change, log_scale)
        self._set_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self._follow()
        return float(loss.detach())

    def _dropout(self, seed: bytes) -> Callable[[Tensor], Tensor]:
        """The masks of serving: the framework's own would take a third of the training time."""
        threshold = threshold_of(self.config.dropout)
        if not threshold:
            return lambda x: x
        masks = HostMasks([seed], 0, threshold)
        return lambda x: x * masks.apply(torch.full_like(x, 1.0 / kept_share(threshold)))

    def _set_rate(self) -> None:
        done = self.step / self.schedule.steps
        shape = min(1.0, done / self.schedule.warm_up) * 0.5 * (1.0 + math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * shape

    @torch.no_grad()
    def _follow(self) -> None:
        pace = 1.0 - min(self.schedule.average, (self.step + 1) / (self.step + 10))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, pace)

    def _save(self, path: Path) -> None:
        part = path.with_suffix(".part")
        torch.save(
            {
                "step": self.step,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
            },
            part,
        )
        part.replace(path)

    def _resume(self, path: Path) -> None:
        document = torch.load(path, weights_only=True)
        self.step = document["step"]
        self.network.load_state_dict(document["network"])
        self.optimizer.load_state_dict(document["optimizer"])
        self.average = document["average"]


def forgotten(windows: Windows, rng: np.random.Generator) -> Windows:
    """The windows as of people who came later: of one in eight nothing before the window is known, of another quarter
    the hours from some time on. So a forecast does not need them."""
    draw = rng.random(len(windows))
    known = rng.integers(PAST_HOURS, size=len(windows))
    known = np.where(draw < _NOTHING_KNOWN, 0, np.where(draw < _SOME_KNOWN, known, PAST_HOURS))
    there = np.arange(PAST_HOURS) >= PAST_HOURS - known[:, None]
    return replace(windows, hours_mgdl=np.where(there, windows.hours, np.float32(np.nan)))


def laplace_loss(target: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """Mean negative log likelihood, less log 2, over the targets that are there; a missing one is NaN. All (B, 12)."""
    there = torch.isfinite(target)
    error = (torch.where(there, target, 0.0) - location).abs()
    loss = error * torch.exp(-log_scale) + log_scale
    return (loss * there).sum() / there.sum()
