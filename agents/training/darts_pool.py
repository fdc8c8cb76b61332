"""Darts' N-HiTS and TiDE on the pool of studies, by Huber's loss; Darts is imported only when they are asked for.

They see the 96 points alone. Darts cannot leave single targets out: it learns from interpolated ones too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.training.lags import PointForecast
from agents.training.splits import Examples
from agents.training.table import Person
from schemas.grid import HORIZON_STEPS, PAST_POINTS

N_HITS, TIDE = "Darts N-HiTS", "Darts TiDE"
DARTS = (N_HITS, TIDE)

_LARGEST = 200_000  # windows in an epoch, as LightGBM's
_MIDDLE_MGDL, _SPREAD_MGDL = 150.0, 60.0  # glucose is given as distance from the one in units of the other
_HUBER_MGDL = 20.0
_AT_ONCE = 4096  # forecasts, so that memory stays bounded


def fit_darts(name: str, train: Sequence[Person], seed: int, epochs: int = 4) -> PointForecast:
    """One of DARTS; ModuleNotFoundError without Darts. ValueError where nobody has one window's unbroken points."""
    import torch
    from darts import TimeSeries
    from darts.models import NHiTSModel, TiDEModel

    for chatty in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    runs = [run for person in train for run in unbroken(person.mgdl)]
    count = sum(run.size - PAST_POINTS - HORIZON_STEPS + 1 for run in runs)
    if not count:
        raise ValueError(f"nobody has the {PAST_POINTS + HORIZON_STEPS} unbroken points that one window needs")
    series = [TimeSeries.from_values(_scaled(run)) for run in runs]
    options: dict[str, Any] = {
        "input_chunk_length": PAST_POINTS,
        "output_chunk_length": HORIZON_STEPS,
        "n_epochs": epochs,
        "batch_size": 512,
        "use_reversible_instance_norm": True,
        "loss_fn": torch.nn.HuberLoss(delta=_HUBER_MGDL / _SPREAD_MGDL),
        "random_state": seed,
        "save_checkpoints": False,
        "force_reset": True,
        "pl_trainer_kwargs": {
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": False,
        },
    }
    model = NHiTSModel(layer_widths=128, **options) if name == N_HITS else TiDEModel(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(series, stride=-(-count // _LARGEST), verbose=False)
    return _forecast(model)


def unbroken(mgdl: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Runs without a gap that hold one window and its next hour at least."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.isfinite(mgdl), [False]]).astype(np.int8)))
    return [
        mgdl[begin:end] for begin, end in edges.reshape(-1, 2).tolist() if end - begin >= PAST_POINTS + HORIZON_STEPS
    ]


def _scaled(mgdl: NDArray[np.float32]) -> NDArray[np.float32]:
    return ((mgdl - _MIDDLE_MGDL) / _SPREAD_MGDL).astype(np.float32)


def _forecast(model: Any) -> PointForecast:
    from darts import TimeSeries

    def forecast(data: Examples) -> NDArray[np.floating]:
        past, parts = _scaled(data.windows.past_mgdl), []
        for begin in range(0, len(past), _AT_ONCE):
            series = [TimeSeries.from_values(row) for row in past[begin : begin + _AT_ONCE]]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answers = model.predict(HORIZON_STEPS, series=series, batch_size=1024, verbose=False)
            parts.append(np.stack([answer.values(copy=False)[:, 0] for answer in answers]))
        return np.asarray(np.concatenate(parts) * _SPREAD_MGDL + _MIDDLE_MGDL)

    return forecast
