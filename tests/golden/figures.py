"""The charts whose figures are kept here as JSON.

A test fails where a figure's structure differs from its file. Where that was the purpose, look at the figure, then
write the files anew, look at their differences, and commit them with the change that made them:

    python -m tests.golden.figures
"""

import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

from query_api.figure import figure
from query_api.style import Style
from schemas.fan_chart import OUTER_LEVELS, FanChart
from tests.kit.charts import fan_chart
from tests.kit.goldens import outline, write

DIRECTORY = Path(__file__).parent
RENEW = "python -m tests.golden.figures"


def swinging() -> FanChart:
    """A sample with its recorded hour: up through the target range and, for all one knows, far out of it."""
    normals = [NormalDist(150 + 8 * step, 6 + 4 * step) for step in range(1, 13)]
    return fan_chart(
        kind="sample",
        subject_id=None,
        handle="e" * 64,
        index=-7,
        past_mgdl=[150 + 45 * math.sin((step - 95) / 9) for step in range(96)],
        truth_mgdl=[152.0, 161.0, None, 178.0, 190.0, 201.0, 207.0, None, None, 231.0, 236.0, 240.0],
        median_mgdl=[normal.mean for normal in normals],
        quantiles_mgdl=[[normal.inv_cdf(level) for normal in normals] for level in OUTER_LEVELS],
        p_below_70=[normal.cdf(70) for normal in normals],
        p_above_180=[1 - normal.cdf(180) for normal in normals],
    )


def low() -> FanChart:
    """Down below 54 mg/dL, from a past that was low already."""
    normals = [NormalDist(74 - 2 * step, 4 + step) for step in range(1, 13)]
    return fan_chart(
        past_mgdl=[74.0] * 96,
        median_mgdl=[normal.mean for normal in normals],
        quantiles_mgdl=[[max(20.0, normal.inv_cdf(level)) for normal in normals] for level in OUTER_LEVELS],
        p_below_70=[normal.cdf(70) for normal in normals],
        p_above_180=[0.0] * 12,
    )


def quarters() -> FanChart:
    """Of a sensor that shows a value every quarter of an hour, with its recorded hour."""
    return swinging().model_copy(
        update={
            "truth_mgdl": tuple(152.0 + 8 * step for step in range(12)),
            "interpolated_points": tuple(place for place in range(108) if place % 3 != 95 % 3),
        }
    )


def without_width() -> FanChart:
    """Quantiles that lie on one point, as rounding may leave them."""
    return fan_chart(quantiles_mgdl=[[120.0] * 12] * len(OUTER_LEVELS), epistemic_sd_mgdl=[0.0] * 12)


CASES: dict[str, tuple[FanChart, Style]] = {
    "live": (fan_chart(), Style()),
    "live-epistemic": (fan_chart(), Style(fan="epistemic")),
    "sample-with-truth": (swinging(), Style()),
    "sample-with-truth-mmol": (swinging(), Style(unit="mmol/L")),
    "quarters": (quarters(), Style()),
    "low": (low(), Style()),
    "without-width": (without_width(), Style()),
}


def outline_of(name: str) -> dict[str, Any]:
    """The structure of a case's figure as the code draws it now."""
    return outline(figure(*CASES[name]))


def path_of(name: str) -> Path:
    return DIRECTORY / f"figure-{name}.json"


if __name__ == "__main__":
    for name in CASES:
        write(path_of(name), outline_of(name))
