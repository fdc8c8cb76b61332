"""A person whose glucose falls into a low, and what a good forecaster says of it: for tests of alerts."""

import dataclasses

import numpy as np

from schemas.forecast import Forecast
from tests.kit.forecasts import LIVE

STEP_MS = 300_000
BEGIN_MS = (LIVE.end_seconds - 7200) * 1000
FALLS_AT, RATE, LOWEST = 10, 6.0, 64.0
"""At step FALLS_AT from 140 mg/dL, so many mg/dL a step, down to LOWEST: below 70 from step 22 on."""


def glucose(step: int) -> float:
    """mg/dL at a step."""
    return float(max(LOWEST, 140.0 - RATE * max(0, step - FALLS_AT)))


def falling(step: int) -> Forecast:
    """The forecast at a step: ten samples around what comes if it goes on as in the last step."""
    now = glucose(step)
    ahead = np.maximum(LOWEST, now + (now - glucose(step - 1)) * np.arange(1, 13))
    samples = ahead + np.linspace(-3, 3, 10)[:, None]
    return dataclasses.replace(
        LIVE,
        request_id=f"{step:064x}",
        forecast_id=f"{step + 1000:064x}",
        input_hash=f"{step + 2000:064x}",
        began_ms=BEGIN_MS + step * STEP_MS,
        end_seconds=LIVE.end_seconds + step * 300,
        past_centi_mgdl=[round(100 * glucose(at)) for at in range(step - 95, step + 1)],
        samples_mgdl=samples.ravel().tolist(),
        residual_sd_mgdl=np.linspace(3, 10, 12).tolist(),
    )
