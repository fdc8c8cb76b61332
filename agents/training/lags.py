"""Baselines on the pool of studies: what a forecast from the last points alone can do.

Ridge on 24 or 96 lags, one regression a step on the windows whose target was measured, penalty by the error on the
selection people. LightGBM on the lags and their statistics (those of the network, without the week before), one
model a step, by Huber's loss; LightGBM is imported only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.models.mlp.features import lag_features
from agents.training.splits import Examples
from agents.training.table import Pool
from schemas.grid import HORIZON_STEPS, PAST_POINTS

PENALTIES = (1e3, 1e4, 1e5, 1e6, 1e7)
_BLOCK = 65_536
_LARGEST_BOOSTED = 200_000

PointForecast = Callable[[Examples], NDArray[np.floating]]


@dataclass(frozen=True)
class LagRidge:
    """Level forecast of the next hour: weight (12, 96), zero beyond the lags in use; bias (12,)."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    penalty: float

    def predict(self, past_mgdl: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, 96) -> (B, 12), mg/dL."""
        return past_mgdl.astype(np.float64) @ self.weight.T + self.bias

    def __call__(self, data: Examples) -> NDArray[np.float64]:
        return self.predict(data.windows.past_mgdl)


def fit_lag_ridge(train: Pool, select: Pool, lags: int = PAST_POINTS) -> LagRidge:
    """The regression on the last `lags` points under the penalty that errs least on `select`."""
    moments = [_Moments.none(lags) for _ in range(HORIZON_STEPS)]
    for begin in range(0, len(train), _BLOCK):
        rows = np.arange(begin, min(begin + _BLOCK, len(train)))
        known, target = train.past(rows)[:, -lags:].astype(np.float64), train.future(rows)
        for step, moment in enumerate(moments):
            moment.add(known, target[:, step])
    whole = np.arange(len(select))
    past, future = select.past(whole), select.future(whole)

    def fit(penalty: float) -> LagRidge:
        weight, bias = np.zeros((HORIZON_STEPS, PAST_POINTS)), np.zeros(HORIZON_STEPS)
        for step, moment in enumerate(moments):
            weight[step, -lags:], bias[step] = moment.solved(penalty)
        return LagRidge(weight, bias, penalty)

    def error(ridge: LagRidge) -> float:
        return float(np.nanmean((ridge.predict(past) - future) ** 2))

    return min((fit(penalty) for penalty in PENALTIES), key=error)


@dataclass
class _Moments:
    """Sums of one step's regression over the windows with a target; levels are taken from 150 mg/dL."""

    gram: NDArray[np.float64]
    mixed: NDArray[np.float64]
    past: NDArray[np.float64]
    future: float = 0.0
    count: int = 0

    @classmethod
    def none(cls, lags: int) -> _Moments:
        return cls(np.zeros((lags, lags)), np.zeros(lags), np.zeros(lags))

    def add(self, past: NDArray[np.float64], future: NDArray[np.float32]) -> None:
        have = np.isfinite(future)
        known, target = past[have] - 150.0, future[have].astype(np.float64) - 150.0
        self.gram += known.T @ known
        self.mixed += known.T @ target
        self.past += known.sum(axis=0)
        self.future += float(target.sum())
        self.count += int(have.sum())

    def solved(self, penalty: float) -> tuple[NDArray[np.float64], float]:
        centre, middle = self.past / self.count, self.future / self.count
        gram = self.gram - self.count * np.outer(centre, centre) + penalty * np.eye(centre.size)
        weight = np.linalg.solve(gram, self.mixed - self.count * centre * middle)
        return np.asarray(weight), 150.0 + middle - float(weight @ (centre + 150.0))


def fit_boosted(
    train: Pool, seed: int, threads: int, progress: Callable[[int], None] = lambda step: None
) -> PointForecast:
    """LightGBM on the lags' features, a model a step, on at most 200,000 windows; ModuleNotFoundError without it."""
    import lightgbm

    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(train), min(len(train), _LARGEST_BOOSTED), replace=False))
    known, future = lag_features(train.past(rows), train.end_times(rows)), train.future(rows)
    last = train.past(rows)[:, -1]
    settings: dict[str, Any] = {
        "objective": "huber",
        "alpha": 20.0,
        "num_leaves": 31,
        "learning_rate": 0.08,
        "min_data_in_leaf": 200,
        "feature_fraction": 0.5,
        "max_bin": 63,
        "num_threads": threads,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }
    models = []
    for step in range(HORIZON_STEPS):
        have = np.isfinite(future[:, step])
        made = lightgbm.Dataset(known[have], label=future[have, step] - last[have])
        models.append(lightgbm.train(settings, made, num_boost_round=150))
        progress(step)

    def forecast(data: Examples) -> NDArray[np.floating]:
        read = lag_features(data.windows.past_mgdl, data.windows.end_times)
        change = np.stack([np.asarray(model.predict(read)) for model in models], axis=1)
        return np.asarray(data.windows.past_mgdl[:, -1:] + change)

    return forecast
