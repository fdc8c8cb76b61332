"""The answer of a model, for steps of the calc role."""

import numpy as np

from schemas.forecast import Forecast

LIVE = Forecast(
    request_id="a" * 64,
    kind="live",
    series_key="ada",
    subject_id="ada",
    timezone="+02:00",
    end_seconds=1_710_000_000,
    past_centi_mgdl=[12000] * 96,
    truth_centi_mgdl=[],
    input_hash="b" * 64,
    num_samples=10,
    seed=0,
    forecast_id="c" * 64,
    model="test",
    model_fingerprint="d" * 64,
    samples_mgdl=(120 + np.cumsum(np.random.default_rng(0).normal(0, 4, (10, 12)), axis=1)).ravel().tolist(),
    residual_sd_mgdl=[10.0] * 12,
)
"""Ten samples that wander off from 120 mg/dL."""
