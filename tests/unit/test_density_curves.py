"""Densities drawn from quantiles: the normal's own where it is one, one in sum, and with the published quantiles."""

import itertools
import math
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.density_curves import DensityCurve, epistemic_curves, predictive_curves
from schemas.fan_chart import OUTER_LEVELS
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL
from tests.kit.charts import fan_chart


def mass(curve: DensityCurve, up_to: float = math.inf) -> float:
    """Of the curve below a level, by trapezoids."""
    total = 0.0
    for (left, start), (right, end) in itertools.pairwise(zip(*curve, strict=True)):
        if left >= up_to:
            break
        part = min(1.0, (up_to - left) / (right - left))
        total += part * (right - left) * (start + part * (end - start) / 2)
    return total


def test_of_a_normal_it_is_the_normals() -> None:
    for step, curve in enumerate(predictive_curves(fan_chart()), start=1):
        normal = NormalDist(120, 2 + 2 * step)
        for level, value in zip(*curve, strict=True):
            assert value == pytest.approx(normal.pdf(level), rel=0.02)


def _levels(steps: list[float]) -> list[float]:
    return [round(25 + sum(steps[: place + 1]), 1) for place in range(len(steps))]


quantiles = st.lists(st.floats(1, 60), min_size=9, max_size=9).map(_levels)


@settings(max_examples=40, deadline=None)
@given(quantiles)
def test_it_is_a_density_inside_what_a_sensor_shows(levels: list[float]) -> None:
    chart = fan_chart(median_mgdl=[levels[4]] * 12, quantiles_mgdl=[[level] * 12 for level in levels[:4] + levels[5:]])
    for curve in predictive_curves(chart, 1001)[:1]:
        assert list(curve.glucose_mgdl) == sorted(set(curve.glucose_mgdl))
        assert curve.glucose_mgdl[0] >= LOWEST_MGDL
        assert curve.glucose_mgdl[-1] <= HIGHEST_MGDL + 0.5
        assert all(math.isfinite(value) and value >= 0 for value in curve.density)
        assert max(curve.density) > 0
        assert mass(curve) <= 1.02


def test_it_has_the_published_quantiles() -> None:
    skewed = [70.0, 74.0, 80.0, 96.0, 150.0, 170.0, 176.0, 182.0]
    chart = fan_chart(median_mgdl=[120.0] * 12, quantiles_mgdl=[[level] * 12 for level in skewed])
    curve = predictive_curves(chart, 4001)[0]
    for level, quantile in zip(OUTER_LEVELS, skewed, strict=True):
        assert mass(curve, quantile) == pytest.approx(level, abs=0.003)


def test_the_draws_alone_are_as_wide_as_their_kernel_density_estimate() -> None:
    chart = fan_chart(num_samples=10, mean_mgdl=[100.0] * 12, epistemic_sd_mgdl=[5.0] * 12)
    curve = epistemic_curves(chart, 2001)[0]
    second = sum(
        value * (level - 100.0) ** 2 * (curve.glucose_mgdl[1] - curve.glucose_mgdl[0])
        for level, value in zip(*curve, strict=True)
    )
    assert math.sqrt(second) == pytest.approx(5.0 * math.sqrt(1 + 10 ** (-2 / 5)), rel=0.01)
