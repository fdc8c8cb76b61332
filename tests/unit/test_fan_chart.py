"""Fan charts: batches change nothing, records are small and complete, nonsense is refused."""

import datetime
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.calc import fan_chart
from agents.core import predictive
from agents.core.calibration import Calibration
from schemas.errors import ImplausibleError, MalformedRecordError
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import from_row, to_row
from schemas.forecast import Forecast
from schemas.grid import QUANTILE_LEVELS

NOW = datetime.datetime(2024, 3, 14, tzinfo=datetime.UTC)


def test_where_another_sensor_begins_is_in_chart_and_row() -> None:
    chart = fan_chart.fan_chart(forecast_of(draws_of(1), changed_points=[93]), NOW)
    assert chart.changed_points == (93,)
    assert from_row(to_row(chart)) == chart
    with pytest.raises(ImplausibleError, match="another sensor begins"):
        fan_chart.fan_chart(forecast_of(draws_of(1), changed_points=[96]), NOW)


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


def test_draws_that_agree_have_a_fan_all_the_same() -> None:
    same = np.full((10, 12), 100.0)
    chart = fan_chart.fan_chart(forecast_of(same, residual_sd_mgdl=[0.0] * 12), NOW)
    assert set(chart.epistemic_sd_mgdl) == {0.0}
    assert all(low < high for low, high in zip(chart.quantiles_mgdl[1], chart.quantiles_mgdl[-2], strict=True))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([1, 3, 10]), st.floats(-100, 500)), max_size=12))
def test_a_chart_does_not_depend_on_its_batch(cases: list[tuple[int, int, float]]) -> None:
    forecasts = [forecast_of(draws_of(seed, count) + shift) for seed, count, shift in cases]
    forecasts += [forecast_of(draws_of(1), calibration_json=Calibration.of(Calibration.identity().table * 2).to_json())]
    together = fan_chart.fan_charts([fan_chart.Ready(forecast, NOW) for forecast in forecasts])
    for forecast, found in zip(forecasts, together, strict=True):
        (alone,) = fan_chart.fan_charts([fan_chart.Ready(forecast, NOW)])
        assert (found == alone) if isinstance(alone, FanChart) else (str(found) == str(alone))


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
    for (_, below), (_, above) in itertools.pairwise(chart.levels()):
        assert all(a <= b for a, b in zip(below, above, strict=True))


def test_the_record_is_complete_and_small() -> None:
    chart = fan_chart.fan_chart(forecast_of(draws_of(3)), NOW)
    assert len(chart.to_json()) <= 4000
    assert len(to_row(chart)) <= 2000
    assert chart.issue_time.isoformat() == "2024-03-09T16:00:00+02:00"
    assert chart.first_target_time.isoformat() == "2024-03-09T16:05:00+02:00"
    assert chart.truth_mgdl == (121.0, 122.0, *[None] * 10)
    assert "Not a medical device" in chart.disclaimer
    assert type(chart).from_json(chart.to_json()) == chart


def test_what_nobody_measured_goes_into_the_record_and_its_row() -> None:
    places = [place for place in range(108) if place % 3 != 95 % 3]
    chart = fan_chart.fan_chart(forecast_of(draws_of(3), interpolated_points=places), NOW)
    assert from_row(to_row(chart)).interpolated_points == chart.interpolated_points == tuple(places)
    assert len(chart.to_json()) <= 4000


def test_a_record_of_version_1_says_what_it_said() -> None:
    text = (Path(__file__).parents[1] / "contracts" / "fan-chart-version-1.json").read_bytes()
    before, now = json.loads(text), FanChart.from_json(text)
    assert now.first_target_time.isoformat() == before["target_times"][0]
    assert [list(values) for _, values in now.levels()] == before["quantiles_mgdl"]
    for name in ("chart_id", "epistemic_sd_mgdl", "total_sd_mgdl", "p_below_70", "past_mgdl", "truth_mgdl", "warnings"):
        assert now.model_dump(mode="json")[name] == before[name]
    for mean, level in zip(now.mean_mgdl, before["median_mgdl"], strict=True):
        assert abs(mean - level) < 3.0
    assert from_row(text) == now, "as a row of a table"
    assert from_row(to_row(now)) == now


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
