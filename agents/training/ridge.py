"""Ridge regression of the next hour on the past eight: the plain one as an anchor to beat, one with bends to serve.

The level itself is regressed, not its change, because glucose returns to a person's middle and the weights say so. Rows
are centred first, so the penalty leaves the mean alone; it is the one with the smallest error on `select`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.models.regression import WIDTHS, regressors
from agents.training.splits import Examples
from schemas.grid import PAST_POINTS

PENALTIES = (1e2, 1e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7)
BENT_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


@dataclass(frozen=True)
class Ridge:
    """Level forecast `regressors @ weight.T + bias`, mg/dL; weight (12, one of WIDTHS), bias (12,)."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    penalty: float

    def predict(self, past_mgdl: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, 96) -> (B, 12), mg/dL."""
        return _regressors(past_mgdl, self.weight.shape[1]) @ self.weight.T + self.bias


def fit_ridge(train: Examples, select: Examples) -> Ridge:
    """Least squares on the past of `train` under each of PENALTIES."""
    return _fit(train, select, np.eye(PAST_POINTS), PENALTIES)


def fit_bent_ridge(train: Examples, select: Examples) -> Ridge:
    """Least squares on the past and its bends under each of BENT_PENALTIES.

    The penalty is on the last value, the distances of the others from it and the bends, each in units of its spread:
    points on a line differ by little, and their differences are what tells.
    """
    basis = np.eye(WIDTHS[1])
    basis[PAST_POINTS - 1, : PAST_POINTS - 1] = -1.0
    spread = (_regressors(train.windows.past_mgdl, WIDTHS[1]) @ basis).std(axis=0)
    return _fit(train, select, basis / np.maximum(spread, 1e-6), BENT_PENALTIES)


def _fit(train: Examples, select: Examples, basis: NDArray[np.float64], penalties: Sequence[float]) -> Ridge:
    """Regression on `regressors @ basis` (width, width), whose coefficients the penalty shrinks."""
    known = _regressors(train.windows.past_mgdl, basis.shape[0]) @ basis
    future = train.future_mgdl.astype(np.float64)
    centre, offset = known.mean(axis=0), future.mean(axis=0)
    gram, mixed = (known - centre).T @ (known - centre), (known - centre).T @ (future - offset)

    def fit(penalty: float) -> Ridge:
        coefficients = np.linalg.solve(gram + penalty * np.eye(gram.shape[0]), mixed)
        return Ridge((basis @ coefficients).T, offset - centre @ coefficients, penalty)

    def error(ridge: Ridge) -> float:
        return float(np.mean((ridge.predict(select.windows.past_mgdl) - select.future_mgdl) ** 2))

    return min((fit(penalty) for penalty in penalties), key=error)


def _regressors(past_mgdl: NDArray[np.float32], width: int) -> NDArray[np.float64]:
    return regressors(past_mgdl, width).astype(np.float64)
