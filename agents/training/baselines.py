"""Forecasters to beat, each with a residual spread and a conformal step of its own, fitted on one calibration part.

Persistence repeats the last reading. Ridge is the linear anchor. The two Darts models (linear regression on 96 lags
and N-HiTS) are trained on the same series; Darts is imported only when they are asked for.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.training.calibrate import even_weight, fit_calibration, residual_spread
from agents.training.data import Series
from agents.training.metrics import Predictive
from agents.training.ridge import Ridge
from agents.training.splits import Examples
from schemas.grid import HORIZON_STEPS, PAST_POINTS, STEP_SECONDS

PointForecast = Callable[[Examples], NDArray[np.floating]]
"""B windows to their next hour (B, 12), mg/dL."""


def persistence(data: Examples) -> NDArray[np.floating]:
    return np.repeat(data.windows.past_mgdl[:, -1:], HORIZON_STEPS, axis=1)


def ridge_forecast(ridge: Ridge) -> PointForecast:
    return lambda data: ridge.predict(data.windows.past_mgdl)


def with_spread(forecast: PointForecast, calibrate: Examples) -> Callable[[Examples], Predictive]:
    """A point forecast as a distribution: its error on `calibrate` as the spread, then the conformal step."""
    answer = spread_around(forecast(calibrate), calibrate)
    return lambda data: answer(forecast(data))


def spread_around(
    centre_mgdl: NDArray[np.floating], calibrate: Examples
) -> Callable[[NDArray[np.floating]], Predictive]:
    """The same of numbers that were forecast before: (C, 12) of `calibrate`, then (N, 12) of any windows."""
    centre = centre_mgdl[:, None]
    spread = residual_spread(centre, calibrate.future_mgdl).astype(np.float32)
    weight = even_weight(calibrate.data_set)
    calibration = fit_calibration(centre, _rows(spread, len(calibrate)), calibrate.future_mgdl, weight)
    return lambda ahead: Predictive(
        np.asarray(ahead, dtype=np.float32)[:, None], _rows(spread, len(ahead)), calibration
    )


def darts_models(train: Sequence[Series], select: Sequence[Series], seed: int) -> dict[str, PointForecast]:
    """Two Darts models fitted on the training series; ModuleNotFoundError without Darts."""
    from darts.models import LinearRegressionModel, NHiTSModel

    for chatty in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    series, held = [_darts_series(one) for one in train], [_darts_series(one) for one in select]
    scale = float(np.std(np.concatenate([one.mgdl for one in train])))
    centre = float(np.mean(np.concatenate([one.mgdl for one in train])))
    linear = LinearRegressionModel(lags=PAST_POINTS, output_chunk_length=HORIZON_STEPS)
    nhits = NHiTSModel(
        input_chunk_length=PAST_POINTS,
        output_chunk_length=HORIZON_STEPS,
        n_epochs=10,
        batch_size=128,
        use_reversible_instance_norm=True,
        layer_widths=128,
        random_state=seed,
        save_checkpoints=False,
        force_reset=True,
        pl_trainer_kwargs={
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": False,
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linear.fit([(one - centre) / scale for one in series])
        nhits.fit([(one - centre) / scale for one in series], val_series=[(one - centre) / scale for one in held])
    return {
        "Darts linear regression": _darts_forecast(linear, centre, scale),
        "Darts N-HiTS": _darts_forecast(nhits, centre, scale),
    }


def _rows(spread: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    return np.broadcast_to(spread, (count, spread.size))


def _darts_series(one: Series) -> Any:
    import pandas as pd
    from darts import TimeSeries

    times = pd.date_range(str(one.start), periods=len(one), freq="5min")
    return TimeSeries.from_times_and_values(times, one.mgdl.astype(np.float32))


def _darts_forecast(model: Any, centre: float, scale: float) -> PointForecast:
    def forecast(data: Examples) -> NDArray[np.floating]:
        windows = [
            _darts_series(
                Series("", end - np.timedelta64(STEP_SECONDS * (PAST_POINTS - 1), "s"), (past - centre) / scale)
            )
            for past, end in zip(data.windows.past_mgdl, data.windows.end_times, strict=True)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = model.predict(HORIZON_STEPS, series=windows, verbose=False)
        return np.stack([answer.values()[:, 0] for answer in answers]) * scale + centre

    return forecast
