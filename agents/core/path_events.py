"""P(glucose crosses a threshold at any time in the next 15, 30, 45, 60 minutes), of many forecasts at once. Pure numpy.

A fan says how likely each step alone is beyond a threshold; how likely any of them is depends on how errors hang
together along the hour. Two answers are averaged:

1. the empirical copula of the errors that forecasts made: `bank` (N, 12) holds whole vectors of ranks u in (0, 1), each
   column evenly spread. Vector n crosses below x at step h where u_n,h < P_h(Y < x), so each step alone keeps exactly
   the fan's probability (Schaake shuffle, Clark et al. 2004, J. Hydrometeorology 5, turned round), and

       P(min over H steps < x) = 1/N * #{n : u_n,h < P_h(Y < x) for some h <= H}

2. a small network that reads the last two hours, the fan and the first answer, fitted to what happened.

Both are fitted on people whom the forecaster was not judged by (agents/training/alert_fit.py) and lie beside this file.
Nothing is drawn: the same forecast has the same probabilities.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from schemas.grid import HORIZON_STEPS, THRESHOLDS_MGDL

Array = NDArray[np.float64]

STEPS = (3, 6, 9, 12)
"""Of the horizons: 15, 30, 45, 60 minutes."""
LOWS = 2
"""So many of THRESHOLDS_MGDL are lows, and stand first."""
OUTCOMES = len(THRESHOLDS_MGDL) * len(STEPS)
FILE = Path(__file__).with_name("path_events.safetensors")
_BACK = (1, 2, 3, 4, 6, 9, 12, 18, 24)
_STRETCHES = (4, 12, 24)
_EDGE = 1e-4
_FURTHEST = 6.0  # standardised inputs are clipped here: nothing beyond was seen


@dataclass(frozen=True)
class PathEvents:
    """bank (N, 12); centre, scale (F,); first (F, W), first_bias (W,); last (W, 16), last_bias (16,)."""

    bank: Array
    centre: Array
    scale: Array
    first: Array
    first_bias: Array
    last: Array
    last_bias: Array

    @functools.cached_property
    def _ranks(self) -> Array:
        return ranks_of(self.bank)

    def probabilities(self, beyond: Array, past_mgdl: Array, mean_mgdl: Array, spread_mgdl: Array) -> Array:
        """(B, 4 thresholds, 4 horizons): rises with the horizon, and a farther threshold is never the likelier.

        beyond (B, 4, 12): P of being beyond each threshold at each step, as in a fan chart; past_mgdl (B, at least 25),
        oldest first; mean_mgdl, spread_mgdl (B, 12): of the samples, and of the residuals.
        """
        by_copula = copula(beyond, self._ranks)
        read = np.clip((inputs(beyond, past_mgdl, mean_mgdl, spread_mgdl, by_copula) - self.centre) / self.scale,
                       -_FURTHEST, _FURTHEST)  # fmt: skip
        hidden = read @ self.first + self.first_bias
        logits = (hidden * ndtr(hidden)) @ self.last + self.last_bias
        learnt = 1.0 / (1.0 + np.exp(-logits.reshape(by_copula.shape)))
        return ordered((by_copula + learnt) / 2.0)


def ranks_of(bank: Array) -> Array:
    """bank (N, 12) as `copula` compares it: (12, 4 thresholds, N), of the highs counted from above."""
    below = bank.T
    return np.stack([below if place < LOWS else 1.0 - below for place in range(len(THRESHOLDS_MGDL))], axis=1)


def copula(beyond: Array, ranks: Array) -> Array:
    """The first answer: (B, 4, 12) and the `ranks_of` a bank -> (B, 4, 4)."""
    found = np.empty((len(beyond), len(THRESHOLDS_MGDL), len(STEPS)))
    crossed = np.zeros((len(beyond), *ranks.shape[1:]), dtype=bool)
    for step in range(HORIZON_STEPS):
        crossed |= ranks[step] < beyond[:, :, step, None]
        if step + 1 in STEPS:
            found[:, :, STEPS.index(step + 1)] = np.count_nonzero(crossed, axis=2)
    return np.asarray(found / ranks.shape[2])


def inputs(beyond: Array, past_mgdl: Array, mean_mgdl: Array, spread_mgdl: Array, by_copula: Array) -> Array:
    """What the network reads: (B, F)."""
    count, last = len(beyond), past_mgdl[:, -1:]
    sure = np.clip(by_copula, _EDGE, 1.0 - _EDGE)
    score = ndtri(np.clip(beyond[:, :, 2::3], _EDGE, 1.0 - _EDGE))
    change = np.abs(np.diff(past_mgdl[:, -max(_BACK) - 1 :], axis=1))
    columns = [np.log(sure / (1.0 - sure)).reshape(count, -1), score.reshape(count, -1), last / 40.0]
    columns += [(last - past_mgdl[:, -1 - back, None]) / back for back in _BACK]
    columns += [change[:, 1 - steps :].mean(axis=1, keepdims=True) for steps in _STRETCHES]
    columns.append(past_mgdl[:, -1:] - 2.0 * past_mgdl[:, -2:-1] + past_mgdl[:, -3:-2])
    columns += [(mean_mgdl[:, 2::3] - last) / 10.0, spread_mgdl[:, 2::3] / 10.0]
    columns.append((past_mgdl[:, -13:-1] - last) / 40.0)
    return np.concatenate(columns, axis=1)


def ordered(probabilities: Array) -> Array:
    """Rising with the horizon; below 54 at most as likely as below 70, above 250 at most as above 180."""
    rising = np.maximum.accumulate(probabilities, axis=2)
    rising[:, 0] = np.minimum(rising[:, 0], rising[:, 1])
    rising[:, 3] = np.minimum(rising[:, 3], rising[:, 2])
    return np.clip(rising, 0.0, 1.0)


@functools.cache
def path_events() -> PathEvents:
    """What lies beside this file, read once a process."""
    return read(FILE)


def read(path: Path) -> PathEvents:
    """OSError without the file, ValueError or KeyError for one that is none."""
    from safetensors.numpy import load

    found = load(path.read_bytes())
    return PathEvents(**{name: found[name].astype(np.float64) for name in PathEvents.__dataclass_fields__})
