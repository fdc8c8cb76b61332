"""A fan chart of made-up glucose, for tests that draw or store."""

import datetime
from statistics import NormalDist
from typing import Any

from schemas.fan_chart import OUTER_LEVELS, FanChart

ISSUE = datetime.datetime(2026, 3, 1, 14, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
STEP = datetime.timedelta(minutes=5)


def fan_chart(**changes: Any) -> FanChart:
    """A level forecast of 120 mg/dL whose spread grows with the horizon."""
    normals = [NormalDist(120, 2 + 2 * step) for step in range(1, 13)]
    fields: dict[str, Any] = {
        "chart_id": "a" * 64,
        "forecast_id": "b" * 64,
        "kind": "live",
        "series_key": "anna",
        "subject_id": "anna",
        "input_hash": "c" * 64,
        "model": "test",
        "model_fingerprint": "d" * 64,
        "num_samples": 10,
        "seed": 0,
        "issue_time": ISSUE,
        "computed_at": ISSUE,
        "first_target_time": ISSUE + STEP,
        "past_mgdl": [120.0] * 96,
        "truth_mgdl": [None] * 12,
        "median_mgdl": [120.0] * 12,
        "quantiles_mgdl": [[normal.inv_cdf(level) for normal in normals] for level in OUTER_LEVELS],
        **{f"p_below_{level}": [normal.cdf(level) for normal in normals] for level in (54, 70)},
        **{f"p_above_{level}": [1 - normal.cdf(level) for normal in normals] for level in (180, 250)},
        "mean_mgdl": [120.0] * 12,
        "epistemic_sd_mgdl": [1.0] * 12,
        "total_sd_mgdl": [normal.stdev for normal in normals],
    }
    return FanChart.model_validate(fields | changes)
