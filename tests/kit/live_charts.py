"""Live charts of one subject, a slot after another."""

import datetime
import hashlib
from collections.abc import Collection, Sequence

from schemas.fan_chart import FanChart
from schemas.grid import STEP
from tests.kit.charts import fan_chart

START = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def chart_at(
    step: int, *, past: Sequence[float], level: float = 120.0, version: int = 0, missing: Collection[int] = ()
) -> FanChart:
    """The chart of the slot `step` after the start: its fan lies about `level`, and `version` was made so late."""
    chart = fan_chart()
    fan = [[min(max(round(value + level - 120.0, 1), 20.0), 600.0) for value in row] for row in chart.quantiles_mgdl]
    return fan_chart(
        chart_id=hashlib.sha256(f"{step} {version} {level}".encode()).hexdigest(),
        issue_time=START + step * STEP,
        first_target_time=START + (step + 1) * STEP,
        began_ms=1_000 + version,
        past_mgdl=past,
        median_mgdl=[round(level, 1)] * 12,
        quantiles_mgdl=fan,
        interpolated_points=sorted(missing),
    )
