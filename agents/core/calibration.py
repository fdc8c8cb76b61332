"""How a raw predictive distribution is calibrated: by scores that held-out people gave, and of the lows by lines.

What they do, and in which order, stands in `agents.core.predictive`; they travel as JSON in checkpoints and forecasts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from schemas.grid import HORIZON_STEPS, QUANTILE_LEVELS, THRESHOLDS_MGDL

Array = NDArray[np.float64]
LOWS_MGDL = THRESHOLDS_MGDL[:2]
_LEVEL_SCORES: Array = ndtri(np.asarray(QUANTILE_LEVELS))

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LowLines:
    """The step of the lows: (len(LOWS_MGDL), H) offsets and slopes in normal scores. ValueError unless all rise."""

    offsets: Rows
    slopes: Rows

    def __post_init__(self) -> None:
        offsets, slopes = self.tables
        if offsets.ndim != 2 or offsets.shape[0] != len(LOWS_MGDL) or offsets.shape != slopes.shape:
            raise ValueError(f"lines must be {len(LOWS_MGDL)} lows by horizon, not {offsets.shape} and {slopes.shape}")
        if not (np.all(np.abs(offsets) <= 8.0) and np.all((slopes > 0.0) & (slopes <= 8.0))):
            raise ValueError("offsets of lines must be finite and within -8..8, slopes above 0 and at most 8")

    @classmethod
    def of(cls, offsets: ArrayLike, slopes: ArrayLike) -> LowLines:
        return cls(_rows(offsets), _rows(slopes))

    @cached_property
    def tables(self) -> tuple[Array, Array]:
        """Offsets and slopes as arrays (len(LOWS_MGDL), H)."""
        return np.asarray(self.offsets, dtype=np.float64), np.asarray(self.slopes, dtype=np.float64)

    def published(self, below: Array) -> Array:
        """Of probabilities below each of THRESHOLDS_MGDL (..., T, H), the lows first; rising with the threshold."""
        offsets, slopes = self.tables
        lows = ndtr(offsets + slopes * ndtri(below[..., : len(LOWS_MGDL), :]))
        return np.asarray(np.maximum.accumulate(np.concatenate([lows, below[..., len(LOWS_MGDL) :, :]], -2), axis=-2))


@dataclass(frozen=True)
class Calibration:
    """The conformal step: at which normal score of the raw distribution each published quantile is read.

    `scores` is (len(QUANTILE_LEVELS), H), strictly rising along the levels; ValueError otherwise. `lows`: the step of
    the lows, where they have one.
    """

    scores: Rows
    lows: LowLines | None = None

    def __post_init__(self) -> None:
        table = np.asarray(self.scores, dtype=np.float64)
        if table.ndim != 2 or table.shape[0] != len(QUANTILE_LEVELS):
            raise ValueError(f"calibration scores must be {len(QUANTILE_LEVELS)} levels by horizon, not {table.shape}")
        if not np.all(np.isfinite(table)) or np.any(np.abs(table) > 8.0):
            raise ValueError("calibration scores must be finite and within -8..8")
        if np.any(np.diff(table, axis=0) <= 0.0):
            raise ValueError("calibration scores must rise with the level at every horizon step")
        if self.lows is not None and len(self.lows.offsets[0]) != table.shape[1]:
            raise ValueError(f"lines of lows are for {len(self.lows.offsets[0])} steps, not {table.shape[1]}")

    @classmethod
    def of(cls, scores: ArrayLike, lows: LowLines | None = None) -> Calibration:
        return cls(_rows(scores), lows)

    @classmethod
    def identity(cls, horizon: int = HORIZON_STEPS) -> Calibration:
        """Publishes the raw distribution as it is."""
        return cls.of(np.repeat(_LEVEL_SCORES[:, None], horizon, axis=1))

    @cached_property
    def table(self) -> Array:
        """Scores as an array (len(QUANTILE_LEVELS), H)."""
        return np.asarray(self.scores, dtype=np.float64)

    @property
    def horizon(self) -> int:
        return len(self.scores[0])

    def to_json(self) -> str:
        document: dict[str, Any] = {"levels": QUANTILE_LEVELS, "scores": self.scores}
        if self.lows is not None:
            document["lows"] = {"mgdl": LOWS_MGDL, "offsets": self.lows.offsets, "slopes": self.lows.slopes}
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str | bytes | dict[str, Any]) -> Calibration:
        """Inverse of `to_json`; also takes the decoded object.

        ValueError when the levels are not QUANTILE_LEVELS or the lows not LOWS_MGDL.
        """
        document = json.loads(text) if isinstance(text, (str, bytes)) else text
        if tuple(document["levels"]) != QUANTILE_LEVELS:
            raise ValueError(
                f"calibration is for levels {document['levels']}, this version publishes {QUANTILE_LEVELS}"
            )
        lows = document.get("lows")
        if lows is not None and tuple(lows["mgdl"]) != LOWS_MGDL:
            raise ValueError(f"lows are calibrated at {lows['mgdl']}, this version publishes {LOWS_MGDL}")
        return cls.of(document["scores"], lows and LowLines.of(lows["offsets"], lows["slopes"]))

    def recalibrated(self, raw_scores: Array) -> Array:
        """g_h: raw normal scores (..., H) to calibrated ones, piecewise linear between the published levels."""
        table = self.table
        interior = table[1:-1]
        segment = np.sum(raw_scores[..., None, :] >= interior, axis=-2)  # 0 .. len(QUANTILE_LEVELS) - 2
        step = np.arange(self.horizon)
        left, right = table[segment, step], table[segment + 1, step]
        low, high = _LEVEL_SCORES[segment], _LEVEL_SCORES[segment + 1]
        return np.asarray(low + (raw_scores - left) * ((high - low) / (right - left)))

    def raw(self, calibrated_scores: Array) -> Array:
        """The inverse of `recalibrated`: (K, H) to (K, H)."""
        segment = np.sum(calibrated_scores[..., None, :] >= _LEVEL_SCORES[1:-1, None], axis=-2)
        step = np.arange(self.horizon)
        left, right = self.table[segment, step], self.table[segment + 1, step]
        low, high = _LEVEL_SCORES[segment], _LEVEL_SCORES[segment + 1]
        return np.asarray(left + (calibrated_scores - low) * ((right - left) / (high - low)))


def _rows(table: ArrayLike) -> Rows:
    return tuple(tuple(float(value) for value in row) for row in np.asarray(table, dtype=np.float64))
