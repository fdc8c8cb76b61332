"""From any window, through the bundled network, to the chart that people read: nothing in it is impossible or certain.

Also of what no window brings about: draws far outside what a sensor shows, and a calibration of next to no width.
"""

import datetime
import functools
import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.calc import fan_chart
from agents.calc.scorekeeping import calibrated_as
from agents.core import recalibration
from agents.core.calibration import Calibration
from agents.core.density_curves import epistemic_curves, predictive_curves
from agents.core.forecaster import Forecaster, Windows
from agents.models.choice import Choice
from agents.models.load import load_forecaster
from schemas.errors import ImplausibleError
from schemas.fan_chart import MEDIAN, FanCalibration, FanChart
from schemas.forecast import Forecast
from schemas.grid import CENTI, HIGHEST_MGDL, LOWEST_MGDL, PAST_POINTS
from schemas.score_state import BINS, SCORED_STEPS

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
DRAWS = 10
possible = st.floats(LOWEST_MGDL, HIGHEST_MGDL).map(lambda value: round(value, 1)) | st.sampled_from(
    [20.0, 24.0, 38.0, 39.0, 40.0, 400.0, 401.0, 600.0]
)
"""Codes of errors and ends of scales among them."""


@st.composite
def windows(draw: st.DrawFn) -> list[float]:
    """96 points: flat, a ramp or a swing, and in it a step, a spike, or a code that was taken for glucose."""
    start, end = draw(possible), draw(possible)
    kind = draw(st.sampled_from(["flat", "ramp", "swing"]))
    places = np.arange(PAST_POINTS)
    glucose = {
        "flat": np.full(PAST_POINTS, start),
        "ramp": np.linspace(start, end, PAST_POINTS),
        "swing": np.where(places // draw(st.integers(1, 24)) % 2 == 0, start, end),
    }[kind]
    for _ in range(draw(st.integers(0, 2))):
        place, width = draw(st.integers(0, PAST_POINTS - 1)), draw(st.sampled_from([1, 1, 3, PAST_POINTS]))
        glucose[place : place + width] = draw(possible)
    return np.clip(np.round(glucose, 2), LOWEST_MGDL, HIGHEST_MGDL).tolist()


@functools.cache
def bundled() -> Forecaster:
    return load_forecaster(choice=Choice(device="cpu", torch_threads=1))


def forecast_of(
    past: list[float], samples: NDArray[np.float32], residual: NDArray[np.float32], calibration: Calibration
) -> Forecast:
    return Forecast(
        request_id="a" * 64, kind="live", series_key="ada", subject_id="ada", timezone="+00:00",
        end_seconds=1_772_323_200, past_centi_mgdl=[round(value * CENTI) for value in past], truth_centi_mgdl=[],
        input_hash="b" * 64, num_samples=len(samples), seed=0, forecast_id="c" * 64, model="mlp",
        model_fingerprint="d" * 64, samples_mgdl=samples.ravel().tolist(), residual_sd_mgdl=residual.tolist(),
        calibration_json=calibration.to_json(),
    )  # fmt: skip


def chart_of(past: list[float]) -> FanChart:
    model = bundled()
    seed = hashlib.sha256(repr(past).encode()).digest()
    made = model.sample(
        Windows(np.array([past], dtype=np.float32), np.array(["2026-03-01"], dtype="datetime64[s]")), [seed], DRAWS
    )
    assert model.calibration is not None
    forecast = forecast_of(past, made.samples_mgdl[0], made.residual_sd_mgdl[0], model.calibration)
    return fan_chart.fan_chart(forecast, NOW)


def of_people() -> list[FanCalibration]:
    """Those whose truths always fell into the same place of the fan: beside it, at its edge, in its middle; and one for
    whom that is beside it below where glucose is not high, and above where it is.
    """
    counts = 1e6 * np.eye(BINS)
    alike = (counts[0], counts[-1], counts[BINS // 2] + counts[BINS // 2 - 1], counts[0] + counts[-1])
    rising = np.linspace(150.0, 300.0, len(SCORED_STEPS))
    return [
        FanCalibration(version=1, readings=1e6, score_shifts=tuple(map(tuple, shifts.tolist())))
        for shifts in (
            recalibration.shifts(np.stack([np.tile(row, (len(SCORED_STEPS), 1)) for row in rows]), rising)
            for rows in (*((row, row) for row in alike), (counts[0], counts[-1]))
        )
    ]


def check(chart: FanChart) -> None:
    levels = [row for _, row in chart.levels()]
    for lower, higher in itertools.pairwise(levels):
        assert all(low <= high for low, high in zip(lower, higher, strict=True)), "quantiles rise"
    for below in range(MEDIAN):
        widths = [high - low for low, high in zip(levels[below], levels[-1 - below], strict=True)]
        assert min(widths) > 0.05, f"an interval without width: levels {below} and {len(levels) - 1 - below}"
    for row in (*levels, chart.mean_mgdl):
        assert min(row) >= LOWEST_MGDL
        assert max(row) <= HIGHEST_MGDL
    for own, total in zip(chart.epistemic_sd_mgdl, chart.total_sd_mgdl, strict=True):
        assert 0.0 <= own <= total + 0.01
        assert 0.0 < total <= HIGHEST_MGDL - LOWEST_MGDL
    for curve in epistemic_curves(chart):
        assert curve.glucose_mgdl[0] >= LOWEST_MGDL
        assert curve.glucose_mgdl[-1] <= HIGHEST_MGDL


@settings(max_examples=60, deadline=None)
@given(windows())
@example([100.0] * 95 + [400.0])
@example([250.0] * 95 + [40.0])
@example([20.0] * 96)
@example([600.0] * 96)
@example([20.0, 600.0] * 48)
@example([float(value) for value in np.linspace(20, 600, 96).round(2)])
def test_no_window_brings_about_what_cannot_be(past: list[float]) -> None:
    try:
        chart = chart_of(past)
    except ImplausibleError:
        return
    check(chart)
    for lowest, mean, highest in zip(chart.quantiles_mgdl[0], chart.mean_mgdl, chart.quantiles_mgdl[-1], strict=True):
        assert lowest <= mean <= highest, "the mean lies within the fan"
    for calibration in of_people():
        check(calibrated_as(chart, calibration))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-500, 1100, width=32), min_size=DRAWS, max_size=DRAWS),
    st.floats(0, 80, width=32),
    st.sampled_from([0.01, 0.3, 1.0, 3.0]),
)
@example([945.0] * 9 + [580.0], 20.0, 1.0)
@example([-300.0] * 9 + [25.0], 20.0, 1.0)
@example([120.0] * 10, 0.0, 0.01)
@example([600.9] * 10, 0.0, 1.0)
@example([1100.0] * 10, 40.0, 3.0)
@example([-500.0] * 2 + [120.0] * 5 + [1100.0] * 3, 80.0, 0.01)
def test_nor_do_any_draws(draws: list[float], residual: float, stretch: float) -> None:
    samples = np.repeat(np.array(draws, dtype=np.float32)[:, None], 12, axis=1)
    calibration = Calibration.of(Calibration.identity().table * stretch)
    forecast = forecast_of([120.0] * 96, samples, np.full(12, residual, dtype=np.float32), calibration)
    try:
        chart = fan_chart.fan_chart(forecast, NOW)
    except ImplausibleError:
        return
    check(chart)
    for calibration_of_person in of_people():
        check(calibrated_as(chart, calibration_of_person))


def test_draws_far_outside_are_in_no_mean_and_hide_no_doubt() -> None:
    draws = np.repeat(np.array([945.0] * 9 + [580.0], dtype=np.float32)[:, None], 12, axis=1)
    chart = fan_chart.fan_chart(
        forecast_of([120.0] * 96, draws, np.full(12, 20, dtype=np.float32), Calibration.identity()), NOW
    )
    inside = np.random.default_rng(0).normal(580, 20, 200_000)
    inside = inside[inside < 600]  # of the others a sensor shows nothing
    assert chart.mean_mgdl[0] == pytest.approx(inside.mean(), abs=0.2)
    assert chart.total_sd_mgdl[0] == pytest.approx(inside.std(), abs=0.1)
    assert chart.epistemic_sd_mgdl[0] == pytest.approx(inside.std() * 109.5 / np.hypot(109.5, 20), abs=0.1)


def test_what_lies_inside_is_as_it_was() -> None:
    draws = np.random.default_rng(1).normal(150, 12, (DRAWS, 12)).astype(np.float32)
    chart = fan_chart.fan_chart(
        forecast_of([150.0] * 96, draws, np.full(12, 9, dtype=np.float32), Calibration.identity()), NOW
    )
    exact = draws.astype(np.float64)
    assert chart.mean_mgdl == tuple(np.round(exact.mean(axis=0), 1).tolist())
    assert chart.epistemic_sd_mgdl == tuple(np.round(exact.std(axis=0), 2).tolist())
    assert chart.total_sd_mgdl == tuple(np.round(np.hypot(exact.std(axis=0), 9.0), 2).tolist())


def test_curves_are_densities_where_the_range_cuts_them() -> None:
    chart = chart_of([24.0] * 96)
    for curve in (*predictive_curves(chart, 2001)[-1:], *epistemic_curves(chart, 2001)[-1:]):
        assert np.trapezoid(curve.density, curve.glucose_mgdl) == pytest.approx(1.0, abs=0.05)
