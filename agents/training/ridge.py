"""Linear anchor: ridge regression of the next hour on the past eight.

The level itself is regressed, not its change, because glucose returns to a person's middle and the weights say so. Rows
are centred first, so the penalty leaves the mean alone; it is the one with the smallest error on `select`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.training.splits import Examples

PENALTIES = (1e2, 1e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7)


@dataclass(frozen=True)
class Ridge:
    """Level forecast `past @ weight.T + bias`, mg/dL; weight (12, 96), bias (12,)."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    penalty: float

    def predict(self, past_mgdl: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, 96) -> (B, 12), mg/dL."""
        return np.asarray(past_mgdl, dtype=np.float64) @ self.weight.T + self.bias


def fit_ridge(train: Examples, select: Examples) -> Ridge:
    """Least squares on `train` under each of PENALTIES."""
    past, future = train.windows.past_mgdl.astype(np.float64), train.future_mgdl.astype(np.float64)
    centre, offset = past.mean(axis=0), future.mean(axis=0)
    gram, mixed = (past - centre).T @ (past - centre), (past - centre).T @ (future - offset)

    def fit(penalty: float) -> Ridge:
        weight = np.linalg.solve(gram + penalty * np.eye(gram.shape[0]), mixed).T
        return Ridge(weight, offset - weight @ centre, penalty)

    def error(ridge: Ridge) -> float:
        return float(np.mean((ridge.predict(select.windows.past_mgdl) - select.future_mgdl) ** 2))

    return min((fit(penalty) for penalty in PENALTIES), key=error)
