"""Fan charts: the closed form equals scipy's, densities are densities, records are small and complete."""

import datetime
import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import gaussian_kde

from agents.calc import fan_chart
from agents.core import predictive
from agents.core.predictive import Calibration
from schemas.errors import MalformedRecordError
from schemas.forecast import Forecast
from schemas.grid import QUANTILE_LEVELS

NOW = datetime.datetime(2024, 3, 14, tzinfo=datetime.UTC)


def draws_of(seed: int, count: int = 10) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return 120 + np.cumsum(chance.normal(0, 4, (count, 12)), axis=1)


def forecast_of(draws: np.ndarray, **changes: object) -> Forecast:
    fields: dict[str, object] = {
        "request_id": "a" * 64,
        "kind": "live",
        "series_key": "ada",
        "subject_id": "ada",
        "timezone": "+02:00",
        "end_seconds": 1_710_000_000,
        "past_centi_mgdl": [12000] * 96,
        "truth_centi_mgdl": [12100, 12200],
        "input_hash": "b" * 64,
        "num_samples": draws.shape[0],
        "seed": 0,
        "forecast_id": "c" * 64,
        "model": "test",
        "model_fingerprint": "d" * 64,
        "samples_mgdl": draws.ravel().tolist(),
        "residual_sd_mgdl": np.linspace(3, 30, 12).tolist(),
    }
    return Forecast(**fields | changes)  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 40))
def test_closed_form_equals_scipy(seed: int, count: int) -> None:
    draws = draws_of(seed, count)
    # scipy divides by the bandwidth before it subtracts, and loses digits itself where draws lie closer than this
    assume((fan_chart.bandwidth(draws) > 0.5).all())
    grid = fan_chart.kernel_grid(draws, 25)
    ours = fan_chart.kernel_density(draws, grid)
    scipys = np.stack([gaussian_kde(draws[:, step])(grid[:, step]) for step in range(12)], axis=1)
    np.testing.assert_allclose(ours, scipys, rtol=1e-12)


def test_no_tail_of_the_kernels_is_cut() -> None:
    draws = draws_of(1)
    grid = fan_chart.kernel_grid(draws, 400)
    density = fan_chart.kernel_density(draws, grid)
    assert (np.abs(np.trapezoid(density, grid, axis=0) - 1) < 1e-3).all()
    assert (density[[0, -1]] < 1e-3 * density.max(axis=0)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 40.0), st.booleans())
def test_predictive_density_is_one(seed: int, spread: float, calibrated: bool) -> None:
    draws, residual = draws_of(seed), np.full(12, spread)
    scores = Calibration.identity().table * 1.4 + 0.2 if calibrated else Calibration.identity().table
    grid, density = fan_chart.predictive_density(draws, residual, Calibration.of(scores), 200)
    assert (density >= 0).all()
    mass = (density * (grid[1] - grid[0])).sum(axis=0)
    np.testing.assert_allclose(mass, 1.0, atol=5e-3)


def test_draws_that_agree_have_a_fan_all_the_same() -> None:
    same = np.full((10, 12), 100.0)
    chart = fan_chart.fan_chart(forecast_of(same, residual_sd_mgdl=[0.0] * 12), NOW)
    for curve in (*chart.fan, *chart.epistemic_fan):
        assert len(set(curve.glucose_mgdl)) == len(curve.glucose_mgdl)
        assert np.isfinite(curve.density).all()
        assert max(curve.density) > 0
    assert set(chart.epistemic_sd_mgdl) == {0.0}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(40, 300))
def test_probabilities_and_quantiles_are_consistent(seed: int, level: float) -> None:
    chart = fan_chart.fan_chart(forecast_of(draws_of(seed) - 120 + level), NOW)
    for low, lower, high, higher in zip(
        chart.p_below_70, chart.p_below_54, chart.p_above_180, chart.p_above_250, strict=True
    ):
        assert 0 <= lower <= low <= 1
        assert 0 <= higher <= high <= 1
        assert low + high <= 1.0001
    for below, above in itertools.pairwise(chart.quantiles_mgdl):
        assert all(a <= b for a, b in zip(below, above, strict=True))
    assert chart.median_mgdl == chart.quantiles_mgdl[4]


def test_the_record_is_complete_and_small() -> None:
    chart = fan_chart.fan_chart(forecast_of(draws_of(3)), NOW)
    assert len(chart.to_json()) < 13_000
    assert chart.issue_time.isoformat() == "2024-03-09T16:00:00+02:00"
    assert chart.target_times[-1] - chart.issue_time == datetime.timedelta(hours=1)
    assert chart.issue_time - chart.past_times[0] == datetime.timedelta(minutes=475)
    assert chart.past_times[-1] == chart.issue_time
    assert chart.truth_mgdl == (121.0, 122.0, *[None] * 10)
    assert "Not a medical device" in chart.disclaimer
    assert type(chart).from_json(chart.to_json()) == chart


def test_a_zone_by_name_gives_the_offset_of_the_day() -> None:
    summer = fan_chart.fan_chart(forecast_of(draws_of(1), timezone="Europe/Berlin", end_seconds=1_720_000_200), NOW)
    assert summer.issue_time.utcoffset() == datetime.timedelta(hours=2)


def test_calibration_of_the_forecast_is_used() -> None:
    wide = Calibration.of(Calibration.identity().table * 2)
    raw, stretched = (
        fan_chart.fan_chart(forecast_of(draws_of(1), calibration_json=text), NOW) for text in ("", wide.to_json())
    )
    span = [chart.quantiles_mgdl[-1][11] - chart.quantiles_mgdl[0][11] for chart in (raw, stretched)]
    assert span[1] > 1.5 * span[0]
    assert max(raw.fan[11].density) > 1.5 * max(stretched.fan[11].density)


def test_fan_agrees_with_the_published_quantiles() -> None:
    draws, residual = draws_of(5), np.linspace(3, 30, 12)
    calibration = Calibration.of(Calibration.identity().table * 1.3 + 0.1)
    quantiles = predictive.quantiles(draws, residual, calibration)
    below = predictive.distribution(draws, residual, calibration, quantiles)
    np.testing.assert_allclose(below, np.repeat(np.array(QUANTILE_LEVELS)[:, None], 12, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"samples_mgdl": [1.0] * 119},
        {"samples_mgdl": []},
        {"samples_mgdl": [float("nan")] * 120},
        {"residual_sd_mgdl": [1.0] * 11},
        {"calibration_json": "{}"},
        {"calibration_json": "no json"},
        {"kind": "sample", "handle": None},
    ],
)
def test_numbers_that_make_no_chart_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedRecordError):
        fan_chart.fan_chart(forecast_of(draws_of(1), **changes), NOW)
