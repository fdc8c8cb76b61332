"""Any model that Darts saved, behind the forecaster interface. Darts is imported when such a model is loaded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.core.calibration import Calibration
from agents.core.forecaster import Samples, Windows
from agents.models.checkpoint_file import read_bounded
from agents.models.choice import Choice
from schemas.errors import CheckpointError, ConfigurationError
from schemas.grid import HORIZON_STEPS, PAST_POINTS, STEP_SECONDS


def load(choice: Choice) -> DartsForecaster:
    """ConfigurationError where Darts is not installed, CheckpointError for a file that is no Torch model of Darts."""
    return DartsForecaster(Path(choice.checkpoint))


class DartsForecaster:
    """Samples by `predict(num_samples=..., mc_dropout=True)`; the model reads and writes mg/dL, without covariates.

    Darts saves models as pickles: loading one runs what is in it, so load none that you did not make.
    ConfigurationError where Darts is not installed, CheckpointError for a file that is no Torch model of Darts.
    """

    name = "darts"
    calibration: Calibration | None = None

    def __init__(self, path: Path) -> None:
        try:
            from darts.models.forecasting.torch_forecasting_model import TorchForecastingModel
        except ImportError as error:
            raise ConfigurationError("forecaster darts needs the package: pip install 'glucast[train]'") from error
        raw = read_bounded(path)
        weights = path.with_name(path.name + ".ckpt")  # where Darts puts the weights of `path`
        raw += read_bounded(weights) if weights.exists() else b""
        try:
            self._model: Any = TorchForecastingModel.load(str(path), map_location="cpu")
        except Exception as error:
            raise CheckpointError(f"{path} is no Torch model that Darts saved: {error}") from error
        self.fingerprint = hashlib.sha256(b"glucast-darts-v1\n" + raw).hexdigest()

    def warm_up(self) -> None:
        """The first prediction sets the trainer up."""
        past = np.full((1, PAST_POINTS), 120.0, dtype=np.float32)
        self.sample(Windows(past, np.array(["2026-01-01T12:00:00"], dtype="datetime64[s]")), [bytes(32)], 2)

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        """One call of Darts a window: its random numbers come from one global stream, seeded for each window."""
        if len(seeds) != len(windows) or num_samples < 1:
            raise ValueError(f"{len(windows)} windows need as many seeds, not {len(seeds)}, and at least one sample")
        samples = np.empty((len(windows), num_samples, HORIZON_STEPS), dtype=np.float32)
        for row, (past, end, seed) in enumerate(zip(windows.past_mgdl, windows.end_times, seeds, strict=True)):
            samples[row] = self._one(past, end, seed, num_samples)
        return Samples(samples, np.zeros((len(windows), HORIZON_STEPS), dtype=np.float32))

    def _one(self, past_mgdl: Any, end: np.datetime64, seed: bytes, num_samples: int) -> Any:
        import pandas as pd
        import torch
        from darts import TimeSeries

        start = end - np.timedelta64(STEP_SECONDS * (PAST_POINTS - 1), "s")
        series = TimeSeries.from_times_and_values(
            pd.date_range(str(start), periods=PAST_POINTS, freq="5min"), past_mgdl
        )
        state = torch.random.get_rng_state()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.manual_seed(int.from_bytes(seed[:7], "little"))
                word = int.from_bytes(seed[7:11], "little")
                answer = self._model.predict(
                    HORIZON_STEPS,
                    series=series,
                    num_samples=num_samples,
                    mc_dropout=True,
                    verbose=False,
                    random_state=word,
                )
        finally:
            torch.random.set_rng_state(state)
        return answer.all_values(copy=False)[:, 0, :].T
