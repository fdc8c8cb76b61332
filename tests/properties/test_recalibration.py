"""Scores of a fan and its recalibration: what has to hold for any fan, any truths and any stream of forecasts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import ndtr, ndtri

from agents.calc.scorekeeping import keep
from agents.core import fan_scores, recalibration
from schemas.errors import MalformedRecordError
from schemas.fan_chart import MEDIAN, FanChart
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL, QUANTILE_LEVELS
from schemas.score_state import BINS, LARGEST_ROW, SCORED_STEPS, ScoreState
from tests.kit.live_charts import chart_at

Array = NDArray[np.float64]


@st.composite
def fans(draw: st.DrawFn) -> Array:
    """Quantiles (1, 9) as they are published: in tenths of mg/dL, some of them no further apart than that."""
    steps = draw(st.lists(st.integers(0, 300), min_size=8, max_size=8))
    fan = (draw(st.integers(400, 3000)) + np.cumsum([0, *steps])[None, :].astype(float)) / 10
    return fan_scores.told_apart(fan)


rows = st.lists(st.floats(0, 2000), min_size=BINS, max_size=BINS).map(lambda row: np.tile(row, (5, 1)))
weights = st.tuples(rows, rows).map(np.stack)
NORMAL, HIGH = np.full(5, 120.0), np.full(5, 280.0)


@given(fans(), st.sampled_from(range(9)))
def test_a_fan_says_its_own_levels_at_its_quantiles(fan: Array, place: int) -> None:
    fan = fan + np.arange(9) / 10  # no two are equal
    (score,) = fan_scores.normal_scores(fan, fan[:, place])
    assert fan_scores.chances(score) == pytest.approx(QUANTILE_LEVELS[place])
    assert fan_scores.values_at(fan, fan_scores.LEVEL_SCORES[None])[0] == pytest.approx(fan[0])


@given(fans(), st.floats(20, 600), st.floats(20, 600))
def test_a_higher_truth_has_no_lower_score(fan: Array, one: float, other: float) -> None:
    low, high = fan_scores.normal_scores(np.repeat(fan, 2, axis=0), np.array(sorted((one, other))))
    assert -fan_scores.FURTHEST_SCORE <= low <= high <= fan_scores.FURTHEST_SCORE


@settings(max_examples=25, deadline=None)
@given(st.floats(60, 300), st.floats(2, 60), st.floats(-3, 3))
def test_crps_is_the_integral_of_the_squared_distance_of_the_distribution(mean: float, sd: float, z: float) -> None:
    fan, truth = (mean + sd * fan_scores.LEVEL_SCORES)[None], mean + sd * z
    ends = mean - 9 * sd, mean + 9 * sd
    parts = [(ends[0], truth, 0.0), (truth, ends[1], 1.0)]
    exact = sum(quad(lambda x, one: (ndtr((x - mean) / sd) - one) ** 2, *part[:2], args=part[2:])[0] for part in parts)
    assert fan_scores.crps(fan, np.array([truth]))[0] == pytest.approx(exact, rel=0.01, abs=0.01 * sd)


@given(fans())
def test_the_mean_of_a_fan_is_that_of_its_own_quantile_function(fan: Array) -> None:
    levels = (np.arange(20_000) + 0.5) / 20_000
    exact = fan_scores.values_at(fan, ndtri(levels)[None]).mean()
    assert fan_scores.mean_of(fan)[0] == pytest.approx(exact, abs=0.001 * (fan[0, -1] - fan[0, 0]) + 1e-9)


@given(st.floats(60, 300), st.floats(2, 60))
def test_the_mean_of_a_normal_fan_is_its_median(mean: float, sd: float) -> None:
    assert fan_scores.mean_of((mean + sd * fan_scores.LEVEL_SCORES)[None])[0] == pytest.approx(mean)


@given(fans())
def test_without_a_truth_the_fan_stays_as_it_is(fan: Array) -> None:
    shifts = recalibration.shifts(np.zeros((2, 5, BINS)), np.repeat(fan[:, MEDIAN], 5))
    assert not shifts.any()
    assert recalibration.recalibrated(fan, shifts[:1]).tolist() == fan.tolist()


@given(fans(), weights)
def test_a_recalibrated_fan_rises_and_is_neither_too_narrow_nor_too_wide(fan: Array, counts: Array) -> None:
    published = recalibration.recalibrated(fan, recalibration.shifts(counts, np.repeat(fan[:, MEDIAN], 5))[:1])[0]
    assert all(np.diff(published) >= 0)
    assert LOWEST_MGDL <= published[0] <= published[-1] <= HIGHEST_MGDL
    assert (published[:MEDIAN:-1] - published[:MEDIAN] > 0.05).all(), "no interval is without width"
    width, base = published - published[MEDIAN], fan[0] - fan[0, MEDIAN]
    inside = (published > LOWEST_MGDL) & (published < HIGHEST_MGDL)
    assert np.all(np.abs(width)[inside] <= recalibration.WIDEST * np.abs(base)[inside] + 0.11)
    if inside[MEDIAN]:
        assert np.all(np.abs(width)[inside] >= recalibration.NARROWEST * np.abs(base)[inside] - 0.11)


def test_levels_are_moved_to_where_the_truths_fall() -> None:
    """Truths twice as far from the median as the fan says, and on its upper side: it follows them."""
    truths = np.random.default_rng(0).normal(0.5, 1.6, 5000)
    counts = np.zeros((2, 5, BINS))
    recalibration.count(counts, np.zeros(5000, dtype=int), truths, np.full(5000, 260.0), np.ones(5000))
    for median in (NORMAL, HIGH):
        read = fan_scores.LEVEL_SCORES + recalibration.shifts(counts, median)[0]
        shares = [(truths < score).mean() for score in read]
        assert shares == pytest.approx(QUANTILE_LEVELS, abs=0.015)


@given(weights, weights, st.floats(20, 180), st.floats(250, 600))
def test_a_fan_that_is_not_high_knows_nothing_of_high_ones_and_a_high_one_of_them_alone(
    counts: Array, others: Array, low: float, high: float
) -> None:
    mixed = np.stack([counts[0], others[1]])
    of_low = [recalibration.shifts(each, np.full(5, low)) for each in (counts, mixed)]
    of_high = [recalibration.shifts(each, np.full(5, high)) for each in (others, mixed)]
    assert of_low[0].tolist() == of_low[1].tolist()
    assert of_high[0].tolist() == of_high[1].tolist()


@given(weights, st.floats(20, 600), st.floats(0, 1))
def test_from_not_high_to_high_nothing_jumps(counts: Array, median: float, further: float) -> None:
    """At most by what lies between both, in proportion to the way, and by rounding."""
    ends = [recalibration.shifts(counts, each) for each in (NORMAL, HIGH)]
    here, there = (recalibration.shifts(counts, np.full(5, each)) for each in (median, median + further))
    assert np.all(np.abs(there - here) <= np.abs(ends[1] - ends[0]) * further / 70 + 0.0101)
    assert np.all((np.minimum(*ends) - 0.0101 <= here) & (here <= np.maximum(*ends) + 0.0101))


@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5), st.floats(20, 600), st.floats(0, 1)), min_size=1),
    st.integers(0, 5000),
)
def test_no_truth_counts_more_as_a_high_one_than_at_all(
    truths: list[tuple[int, float, float, float]], steps: int
) -> None:
    counts = np.zeros((2, 5, BINS))
    places, scores, medians, aged = (np.array(column) for column in zip(*truths, strict=True))
    recalibration.count(counts, places, scores, medians, aged)
    assert counts[0].sum() == pytest.approx(aged.sum())
    assert np.all((counts[1] >= 0) & (counts[1] <= counts[0] + 1e-9))
    assert counts[1].sum() == pytest.approx((aged * recalibration.highness(medians)).sum())
    assert recalibration.decayed(counts, steps).sum() <= counts.sum()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-30, 400), st.integers(0, 3), st.floats(60, 300), st.booleans()), min_size=1, max_size=60
    )
)
def test_a_row_stays_small_and_reads_back_for_any_stream(stream: list[tuple[int, int, float, bool]]) -> None:
    row: bytes | None = None
    position = 0
    for step, version, level, gaps in stream:
        position += step
        missing = frozenset(range(0, 95, 2)) if gaps else frozenset()
        state = ScoreState.from_bytes(row)
        chart = chart_at(position, past=[level] * 96, level=level, version=version, missing=missing)
        published, scores = keep(state, chart, recalibrate=True)
        row = state.to_bytes()
        assert len(row) <= LARGEST_ROW < 10_000
        assert ScoreState.from_bytes(row).to_bytes() == row
        assert FanChart.from_json(published.to_json()).median_mgdl == published.median_mgdl
        assert all(math.isfinite(score.crps_mgdl) for record in scores for score in record.scores)


@given(st.binary(min_size=1, max_size=600))
def test_bytes_that_are_no_row_are_said_to_be_none(noise: bytes) -> None:
    for data in (noise, ScoreState().to_bytes() + noise, ScoreState().to_bytes()[: -len(noise)] or noise):
        with pytest.raises(MalformedRecordError):
            ScoreState.from_bytes(data)


def test_steps_that_are_scored_are_steps_of_the_horizon() -> None:
    assert recalibration.over_horizon(np.eye(5)).shape == (12, 5)
    assert recalibration.over_horizon(np.eye(5))[np.array(SCORED_STEPS) - 1].tolist() == np.eye(5).tolist()
