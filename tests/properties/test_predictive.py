"""Laws of the predictive distribution, whatever the draws, spreads and calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtr
from scipy.stats import norm

from agents.core.calibration import LOWS_MGDL, Calibration, LowLines
from agents.core.predictive import (
    crps,
    distribution,
    event_probabilities,
    moments,
    normal_scores,
    probability_below,
    quantiles,
    sensor_range,
)
from schemas.grid import QUANTILE_LEVELS, THRESHOLDS_MGDL

HORIZON = 3
samples_mgdl = st.integers(1, 12).flatmap(
    lambda draws: arrays(np.float64, (draws, HORIZON), elements=st.floats(60.0, 350.0, width=32))
)
spreads_mgdl = arrays(np.float64, (HORIZON,), elements=st.floats(0.0, 60.0, width=32))
calibrations = arrays(np.float64, (len(QUANTILE_LEVELS), HORIZON), elements=st.floats(0.0625, 0.75, width=32)).map(
    lambda steps: Calibration.of(np.cumsum(steps, axis=0) - steps[:5].sum(axis=0))
)


@given(samples_mgdl, spreads_mgdl, calibrations)
def test_quantiles_never_cross_and_stay_on_the_sensor_scale(samples, spread, calibration):
    fan = quantiles(samples, spread, calibration)
    assert fan.shape == (len(QUANTILE_LEVELS), HORIZON)
    assert np.all(np.diff(fan, axis=0) >= 0.0)
    assert fan.min() >= 20.0
    assert fan.max() <= 600.0


@given(samples_mgdl, spreads_mgdl, calibrations)
def test_probabilities_are_probabilities_and_rise_with_the_threshold(samples, spread, calibration):
    below = probability_below(samples, spread, calibration, (54.0, 70.0, 180.0, 250.0))
    assert np.all((below >= 0.0) & (below <= 1.0))
    assert np.all(np.diff(below, axis=0) >= 0.0)


lines = st.tuples(
    arrays(np.float64, (len(LOWS_MGDL), HORIZON), elements=st.floats(-3.0, 3.0)),
    arrays(np.float64, (len(LOWS_MGDL), HORIZON), elements=st.floats(0.2, 3.0)),
).map(lambda tables: LowLines.of(*tables))


@given(samples_mgdl, spreads_mgdl, calibrations, lines)
def test_the_step_of_the_lows_keeps_them_probabilities_in_order(samples, spread, calibration, lines):
    plain = probability_below(samples, spread, calibration, THRESHOLDS_MGDL)
    np.testing.assert_array_equal(event_probabilities(samples, spread, calibration), plain)
    stepped = Calibration(calibration.scores, lines)
    below = event_probabilities(samples, spread, stepped)
    assert np.all((below >= 0.0) & (below <= 1.0))
    assert np.all(np.diff(below, axis=0) >= 0.0)
    offsets, slopes = lines.tables
    np.testing.assert_allclose(below[0], norm.cdf(offsets[0] + slopes[0] * norm.ppf(plain[0])), atol=1e-12)
    np.testing.assert_array_equal(quantiles(samples, spread, stepped), quantiles(samples, spread, calibration))


@given(samples_mgdl, spreads_mgdl, calibrations)
def test_the_probability_below_a_quantile_is_its_level(samples, spread, calibration):
    spread = np.maximum(spread, 3.0)
    fan = quantiles(samples, spread, calibration)
    for step in range(HORIZON):
        below = probability_below(samples, spread, calibration, fan[:, step])[:, step]
        inside = (fan[:, step] > 20.0) & (fan[:, step] < 600.0)
        np.testing.assert_allclose(below[inside], np.asarray(QUANTILE_LEVELS)[inside], atol=2e-5)


@given(samples_mgdl, spreads_mgdl)
def test_without_calibration_quantiles_invert_the_mixture(samples, spread):
    fan = quantiles(samples, spread, Calibration.identity(HORIZON))

    def mixture(points: np.ndarray) -> np.ndarray:
        return ndtr((points[:, None, :] - samples[None]) / np.maximum(spread, 0.5)).mean(axis=1)

    low, high = mixture(np.full((1, HORIZON), 20.0)), mixture(np.full((1, HORIZON), 600.0))
    reached = (mixture(fan) - low) / (high - low)
    np.testing.assert_allclose(reached, np.broadcast_to(np.asarray(QUANTILE_LEVELS)[:, None], fan.shape), atol=1e-6)


@given(samples_mgdl, spreads_mgdl, st.floats(40.0, 400.0))
@settings(max_examples=40)
def test_closed_crps_equals_its_integral(samples, spread, truth):
    spread = np.maximum(spread, 2.0)
    grid = np.linspace(-500.0, 1000.0, 30_001)
    height = ndtr((grid[:, None, None] - samples[None]) / spread).mean(axis=1)
    integral = np.trapezoid((height - (grid >= truth)[:, None]) ** 2, grid, axis=0)
    np.testing.assert_allclose(crps(samples, spread, np.full(HORIZON, truth)), integral, atol=0.05, rtol=1e-3)


@given(samples_mgdl, spreads_mgdl, st.floats(40.0, 400.0))
@settings(max_examples=40)
def test_quadrature_crps_under_the_identity_equals_the_closed_form(samples, spread, truth):
    spread = np.maximum(spread, 5.0)
    observed = np.full(HORIZON, truth)
    closed = crps(samples, spread, observed)
    numeric = crps(samples, spread, observed, Calibration.identity(HORIZON))
    np.testing.assert_allclose(numeric, closed, atol=0.5, rtol=0.02)


@given(samples_mgdl, spreads_mgdl, calibrations)
def test_batches_agree_with_single_forecasts(samples, spread, calibration):
    many = np.stack([samples, samples + 7.0])
    spreads = np.stack([spread, spread])
    together = quantiles(many, spreads, calibration)
    np.testing.assert_allclose(together[1], quantiles(many[1], spread, calibration), atol=1e-5)


@given(samples_mgdl, spreads_mgdl)
def test_spreads_add_in_quadrature(samples, spread):
    found = moments(samples, spread, sensor_range(samples, spread, Calibration.identity(HORIZON)))
    shares = found.epistemic_sd / found.total_sd
    between, residual = samples.astype(np.float64).std(axis=0), np.maximum(spread.astype(np.float64), 0.5)
    np.testing.assert_allclose(shares, between / np.hypot(between, residual))


@given(samples_mgdl, spreads_mgdl)
@settings(max_examples=40)
def test_moments_are_those_of_the_mixture_within_what_a_sensor_shows(samples, spread):
    samples, spread = 3.0 * (samples - 200.0), np.maximum(spread, 4.0)  # many of them outside
    found = moments(samples, spread, sensor_range(samples, spread, Calibration.identity(HORIZON)))
    grid = np.linspace(20.0, 600.0, 40_001)
    density = np.exp(-0.5 * ((grid[:, None, None] - samples[None]) / spread) ** 2).mean(axis=1)
    mass = np.trapezoid(density, grid, axis=0)
    if mass.min() < 1e-9:
        return  # of which no chart is made
    mean = np.trapezoid(density * grid[:, None], grid, axis=0) / mass
    variance = np.trapezoid(density * (grid[:, None] - mean) ** 2, grid, axis=0) / mass
    np.testing.assert_allclose(found.mean, mean, atol=0.01)
    np.testing.assert_allclose(found.total_sd, np.sqrt(variance), atol=0.01)


def test_one_draw_is_a_normal_distribution():
    fan = quantiles(np.full((1, 2), 120.0), np.array([10.0, 15.0]), Calibration.identity(2))
    for step, spread in enumerate((10.0, 15.0)):
        np.testing.assert_allclose(fan[:, step], norm.ppf(QUANTILE_LEVELS, 120.0, spread), atol=1e-6)
    assert crps(np.full((1, 1), 100.0), np.array([1.0]), np.array([100.0]))[0] == pytest.approx(0.23369, abs=1e-5)


def test_scores_of_a_true_mixture_are_standard_normal():
    rng = np.random.default_rng(3)
    samples = rng.normal(150.0, 20.0, (4000, 10, 1))
    picked = samples[np.arange(4000), rng.integers(0, 10, 4000)]
    truth = picked + rng.normal(0.0, 8.0, (4000, 1))
    scores = normal_scores(samples, np.full((4000, 1), 8.0), truth)
    assert abs(scores.mean()) < 0.05
    assert abs(scores.std() - 1.0) < 0.05


def test_calibration_survives_json_and_refuses_nonsense():
    calibration = Calibration.identity()
    assert Calibration.from_json(calibration.to_json()) == calibration
    with pytest.raises(ValueError, match="rise with the level"):
        Calibration.of(np.zeros((len(QUANTILE_LEVELS), 12)))
    with pytest.raises(ValueError, match="levels by horizon"):
        Calibration.of(np.zeros((3, 12)))
    with pytest.raises(ValueError, match="this version publishes"):
        Calibration.from_json('{"levels": [0.5], "scores": [[0.0]]}')
    stepped = Calibration(calibration.scores, LowLines.of(np.full((2, 12), -0.25), np.full((2, 12), 1.5)))
    assert Calibration.from_json(stepped.to_json()) == stepped
    with pytest.raises(ValueError, match="lows are calibrated at"):
        Calibration.from_json(stepped.to_json().replace("54.0", "55.0"))
    with pytest.raises(ValueError, match="lines of lows are for 3 steps"):
        Calibration(calibration.scores, LowLines.of(np.zeros((2, 3)), np.ones((2, 3))))
    for offsets, slopes, words in (
        (np.zeros((1, 12)), np.ones((1, 12)), "lows by horizon"),
        (np.zeros((2, 12)), np.zeros((2, 12)), "slopes above 0"),
        (np.full((2, 12), np.nan), np.ones((2, 12)), "finite"),
    ):
        with pytest.raises(ValueError, match=words):
            LowLines.of(offsets, slopes)


@given(
    centre=st.floats(-200, 900),
    spread=st.floats(0, 60),
    residual=st.floats(0, 80),
    stretch=st.floats(0.5, 2.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_a_model_says_nothing_is_certain_and_nothing_lies_outside(
    centre: float, spread: float, residual: float, stretch: float, seed: int
) -> None:
    samples = np.random.default_rng(seed).normal(centre, spread, (10, 12))
    calibration = Calibration.of(Calibration.identity().table * stretch)
    inside = sensor_range(samples, np.full(12, residual), calibration).inside
    if inside.min() < 0.01:
        return  # no chart is made of it
    found = quantiles(samples, np.full(12, residual), calibration)
    low, high = QUANTILE_LEVELS.index(0.05), QUANTILE_LEVELS.index(0.95)
    assert (found[high] - found[low] > 0.05).all(), "a 90 % interval without width"
    assert (np.diff(found, axis=0) >= 0).all()
    assert ((found >= 20.0) & (found <= 600.0)).all()
    below = distribution(samples, np.full(12, residual), calibration, found)
    np.testing.assert_allclose(below, np.repeat(np.array(QUANTILE_LEVELS)[:, None], 12, axis=1), atol=1e-4)
    ends = distribution(samples, np.full(12, residual), calibration, np.array([[20.0] * 12, [600.0] * 12]))
    np.testing.assert_allclose(ends, np.array([[0.0] * 12, [1.0] * 12]), atol=1e-8)
