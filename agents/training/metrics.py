"""What a forecast is judged by: point errors, the whole distribution (CRPS, coverage), clinical zones, warnings.

Point forecast: the median of the predictive distribution. Calibration error of one horizon step: mean absolute
difference between the published levels and the share of truths below their quantiles. MARD: mean absolute relative
difference in percent of the truth.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.core.calibration import Calibration
from agents.core.error_grid import clarke_zones, parkes_zones, zone_shares
from agents.core.predictive import crps, event_probabilities, quantiles
from agents.training.events import HIGH_MGDL, LOW_MGDL, event_score
from agents.training.splits import Examples
from schemas.grid import QUANTILE_LEVELS, THRESHOLDS_MGDL

INTERVALS = {"50": (0.25, 0.75), "80": (0.10, 0.90), "90": (0.05, 0.95), "95": (0.025, 0.975)}
_CHUNK = 2000


@dataclass(frozen=True)
class Predictive:
    """A forecaster's answer to B windows: samples (B, S, 12), residual spread (B, 12), and how it is calibrated."""

    samples_mgdl: NDArray[np.float32]
    residual_sd_mgdl: NDArray[np.float32]
    calibration: Calibration

    def take(self, rows: NDArray[np.int64]) -> Predictive:
        return Predictive(self.samples_mgdl[rows], self.residual_sd_mgdl[rows], self.calibration)


def evaluate_predictive(data: Examples, answer: Predictive) -> dict[str, Any]:
    """Every figure of one forecaster on one test part, as plain numbers and lists (JSON-able)."""
    truth = data.future_mgdl.astype(np.float64)
    fan, score, below_low, above_high = _distribution(truth, answer)
    median = fan[:, QUANTILE_LEVELS.index(0.5)]
    error = median - truth
    covered = {name: _inside(truth, fan, *ends) for name, ends in INTERVALS.items()}
    off = np.abs((truth[:, None] <= fan).mean(axis=0) - np.asarray(QUANTILE_LEVELS)[:, None]).mean(axis=0)
    return {
        "windows": len(data),
        "people": int(np.unique(data.person).size),
        "rmse_mgdl": float(np.sqrt(np.mean(error**2))),
        "mae_mgdl": float(np.mean(np.abs(error))),
        "mard_percent": float(100.0 * np.mean(np.abs(error) / truth)),
        "crps_mgdl": float(score.mean()),
        "coverage": {name: float(inside.mean()) for name, inside in covered.items()},
        "calibration_error": float(off.mean()),
        "by_horizon": {
            "rmse_mgdl": np.sqrt(np.mean(error**2, axis=0)).tolist(),
            "mae_mgdl": np.mean(np.abs(error), axis=0).tolist(),
            "crps_mgdl": score.mean(axis=0).tolist(),
            "coverage": {name: inside.mean(axis=0).tolist() for name, inside in covered.items()},
            "calibration_error": off.tolist(),
            "width_90_mgdl": (_level(fan, 0.95) - _level(fan, 0.05)).mean(axis=0).tolist(),
        },
        "clarke": zone_shares(clarke_zones(truth, median)),
        "parkes": zone_shares(parkes_zones(truth, median)),
        "low": asdict(event_score(data, below_low, LOW_MGDL, low=True)),
        "high": asdict(event_score(data, above_high, HIGH_MGDL, low=False)),
    }


def _distribution(truth: NDArray[np.float64], answer: Predictive) -> tuple[NDArray[np.float64], ...]:
    """Quantiles (B, K, 12), CRPS (B, 12), P(below the low) and P(above the high) (B, 12), in bounded memory."""
    parts = []
    for begin in range(0, truth.shape[0], _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        answered = (answer.samples_mgdl[rows], answer.residual_sd_mgdl[rows])
        below = event_probabilities(*answered, answer.calibration)[
            :, [THRESHOLDS_MGDL.index(LOW_MGDL), THRESHOLDS_MGDL.index(HIGH_MGDL)]
        ]
        fan = quantiles(*answered, answer.calibration)
        parts.append((fan, crps(*answered, truth[rows], answer.calibration), below[:, 0], 1.0 - below[:, 1]))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _inside(truth: NDArray[np.float64], fan: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (truth >= _level(fan, low)) & (truth <= _level(fan, high))
    return inside


def _level(fan: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """(B, levels, H) -> (B, H)."""
    return fan[:, QUANTILE_LEVELS.index(level)]
