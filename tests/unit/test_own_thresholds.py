"""Chances at thresholds of one's own: between the published ones of the neighbours, and in order whatever is asked."""

import datetime
import itertools

import numpy as np
import pytest

from agents.calc.fan_chart import fan_chart
from agents.core.own_thresholds import (
    chances_above,
    chances_below,
    copula_above,
    copula_below,
    probability_below,
)
from agents.core.path_events import path_events
from schemas.fan_chart import FanChart
from tests.kit.falling import falling

BANK = path_events().bank
CHARTS = [fan_chart(falling(step), datetime.datetime.now(datetime.UTC)) for step in (3, 12, 16, 19)]
HORIZONS = range(4)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_nearer_threshold_is_never_less_likely_and_more_time_never_either(chart: FanChart) -> None:
    assert chart.p_path is not None
    below = {x: chances_below(chart, x, BANK) for x in (45.0, 50.0, *np.arange(53.0, 75.0, 0.5), 80.0, 95.0, 110.0)}
    below |= {54.0: chart.p_path.below_54, 70.0: chart.p_path.below_70}
    above = {x: chances_above(chart, x, BANK) for x in (120.0, 150.0, *np.arange(176.0, 256.0, 2.0), 300.0, 360.0)}
    above |= {180.0: chart.p_path.above_180, 250.0: chart.p_path.above_250}
    for chances, nearer_last in ((below, False), (above, True)):
        rows = [chances[x] for x in sorted(chances, reverse=nearer_last)]
        for farther, nearer in itertools.pairwise(rows):
            assert all(one <= other for one, other in zip(farther, nearer, strict=True))
        assert all(list(row) == sorted(row) and 0.0 <= row[0] <= row[-1] <= 1.0 for row in rows)


def test_a_hair_beside_a_fitted_threshold_the_chance_is_nearly_its() -> None:
    chart = CHARTS[2]
    assert chart.p_path is not None
    assert chances_below(chart, 69.99, BANK) == pytest.approx(chart.p_path.below_70, abs=0.02)
    assert chances_below(chart, 54.01, BANK) == pytest.approx(chart.p_path.below_54, abs=0.02)
    assert chances_above(chart, 180.01, BANK) == pytest.approx(chart.p_path.above_180, abs=0.02)


def test_between_them_it_moves() -> None:
    chart = CHARTS[2]
    chances = [chances_below(chart, x, BANK)[1] for x in (55.0, 60.0, 65.0, 70.0, 80.0)]
    assert len(set(chances)) == len(chances)
    assert chances[-1] - chances[0] > 0.2


@pytest.mark.parametrize("chart", CHARTS)
def test_the_distribution_is_that_of_the_chart(chart: FanChart) -> None:
    """Its quantiles and event probabilities come back, where the one does not contradict the other."""
    assert probability_below(chart, 70.0) == pytest.approx(np.array(chart.p_below_70), abs=0.03)
    assert probability_below(chart, 180.0) == pytest.approx(1 - np.array(chart.p_above_180), abs=0.03)
    medians = [probability_below(chart, chart.median_mgdl[step])[step] for step in range(12)]
    assert medians == pytest.approx([0.5] * 12, abs=0.05)


def test_the_copula_alone_is_no_less_than_any_step_and_no_more_than_all() -> None:
    for chart in CHARTS:
        for x in (62.0, 90.0):
            steps = probability_below(chart, x)
            assert copula_below(chart, x, BANK)[-1] >= steps.max() - 1 / 512
            assert copula_below(chart, x, BANK)[-1] <= min(1.0, steps.sum()) + 12 / 512
        assert copula_above(chart, 150.0, BANK)[-1] >= (1 - probability_below(chart, 150.0)).max() - 1 / 512
