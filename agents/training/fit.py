"""Fits one network to what the ridge forecast leaves over, together with how uncertain each hour is.

The network predicts (future - ridge forecast) / scale and one log-variance a window; with a free spread s_h per horizon
step the loss is the negative log likelihood of a normal distribution with variance s_h^2 exp(log-variance), each error
weighted by its standard deviation (beta-NLL with beta 1/2, Seitzer et al. 2022), so that the mean is also learnt where
the spread is wide. The weights kept are an exponential moving average, of the epoch with the best CRPS on `select`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.core.predictive import crps

Tensor = torch.Tensor
Forward = Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(network, scaled past (B, 96), marks (B, 108, 6)) -> residual (B, 12), log-variance (B, 1)."""


@dataclass(frozen=True)
class Material:
    """Tensors of B windows: scaled past (B, 96), marks (B, 108, 6), scaled residual target (B, 12), row weight (B,)."""

    past: Tensor
    marks: Tensor
    target: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return int(self.past.shape[0])


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train. One epoch shows `share` of the windows, drawn anew."""

    epochs: int = 6
    share: float = 0.35
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    average: float = 0.995
    level_jitter: float = 0.25  # sd of a random shift of the level, in scaler units


@dataclass
class Fitted:
    """What is kept of a member: averaged state, spread per step in scaler units (12,), its CRPS on `select`."""

    state: dict[str, Tensor]
    spread: NDArray[np.float64]
    select_crps: float


class Fit:
    """Training of one member that can stop after any epoch and resume from `path`; one seed, one result."""

    def __init__(
        self, network: torch.nn.Module, forward: Forward, schedule: Schedule, seed: int, path: Path | None = None
    ) -> None:
        self.network, self.forward, self.schedule, self.seed, self.path = network, forward, schedule, seed, path
        self.log_spread = torch.nn.Parameter(torch.linspace(-2.0, -0.5, 12))
        self.optimizer = torch.optim.AdamW(
            [*network.parameters(), self.log_spread],
            lr=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
        )
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.average_spread = self.log_spread.detach().clone()
        self.best: Fitted | None = None
        self.epoch = 0
        if path is not None and path.exists():
            self._resume(path)

    def epochs(self, train: Material, select: Material, scale_mgdl: float) -> Iterator[tuple[int, float, float]]:
        """Trains to the end of the schedule; yields (epoch, training loss, CRPS on `select` in mg/dL)."""
        while self.epoch < self.schedule.epochs:
            loss = self._one_epoch(train)
            score = self._score(select, scale_mgdl)
            self.epoch += 1
            if self.best is None or score < self.best.select_crps:
                spread = np.exp(self.average_spread.numpy().astype(np.float64))
                self.best = Fitted({name: value.clone() for name, value in self.average.items()}, spread, score)
            if self.path is not None:
                self._save(self.path)
            yield self.epoch, loss, score

    def _one_epoch(self, train: Material) -> float:
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(2**31)))
        count = int(len(train) * self.schedule.share)
        order = torch.from_numpy(rng.permutation(len(train))[:count])
        steps = max(1, count // self.schedule.batch_size)
        total = steps * self.schedule.epochs
        self.network.train()
        losses = []
        for step, rows in enumerate(order.tensor_split(steps)):
            self._set_rate((self.epoch * steps + step) / total)
            past = train.past[rows]
            past = past + torch.randn(rows.numel(), 1) * self.schedule.level_jitter
            residual, log_variance = self.forward(self.network, past, train.marks[rows])
            loss = _beta_nll(train.target[rows] - residual, self.log_spread, log_variance, train.weight[rows])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self._follow(
                1.0 - min(self.schedule.average, (step + 1 + self.epoch * steps) / (step + 10 + self.epoch * steps))
            )
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _set_rate(self, progress: float) -> None:
        shape = min(1.0, progress / 0.05) * 0.5 * (1.0 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * shape

    @torch.no_grad()
    def _follow(self, pace: float) -> None:
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, pace)
            else:
                self.average[name].copy_(value)
        self.average_spread.lerp_(self.log_spread.detach(), pace)

    @torch.no_grad()
    def _score(self, select: Material, scale_mgdl: float) -> float:
        current = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        self.network.eval()
        parts = [
            self.forward(self.network, past, marks)
            for past, marks in zip(torch.split(select.past, 256), torch.split(select.marks, 256), strict=True)
        ]
        self.network.load_state_dict(current)
        residual, log_variance = (torch.cat(column) for column in zip(*parts, strict=True))
        spread = torch.exp(self.average_spread + 0.5 * log_variance)
        score = crps(
            residual[:, None].numpy() * scale_mgdl, spread.numpy() * scale_mgdl, select.target.numpy() * scale_mgdl
        )
        return float(np.average(score.mean(axis=1), weights=select.weight.numpy()))

    def _save(self, path: Path) -> None:
        best = self.best
        document: dict[str, Any] = {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "log_spread": self.log_spread.detach(),
            "average": self.average,
            "average_spread": self.average_spread,
            "best_state": best.state if best else {},
            "best_spread": torch.from_numpy(best.spread) if best else torch.zeros(12),
            "best_crps": best.select_crps if best else math.inf,
        }
        part = path.with_suffix(".part")
        torch.save(document, part)
        part.replace(path)

    def _resume(self, path: Path) -> None:
        document = torch.load(path, weights_only=True)
        self.epoch = document["epoch"]
        self.network.load_state_dict(document["network"])
        self.optimizer.load_state_dict(document["optimizer"])
        self.log_spread.data.copy_(document["log_spread"])
        self.average, self.average_spread = document["average"], document["average_spread"]
        if document["best_state"]:
            self.best = Fitted(document["best_state"], document["best_spread"].numpy(), document["best_crps"])


def _beta_nll(error: Tensor, log_spread: Tensor, log_variance: Tensor, weight: Tensor) -> Tensor:
    log_sd = log_spread + 0.5 * log_variance  # (B, 12)
    likelihood = 0.5 * (error * torch.exp(-log_sd)) ** 2 + log_sd
    return (likelihood * torch.exp(log_sd).detach() * weight[:, None]).mean()
