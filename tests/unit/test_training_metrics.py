"""Figures of merit against values worked out by hand."""

import numpy as np
import pytest
from scipy.stats import norm

from agents.core import error_grid
from agents.core.calibration import Calibration
from agents.core.error_grid import clarke_zones, parkes_zones, zone_shares
from agents.core.forecaster import Windows
from agents.training.calibrate import even_weight, fit_calibration, residual_spread
from agents.training.events import event_score
from agents.training.low_lines import fit_low_lines
from agents.training.metrics import Predictive, evaluate_predictive
from agents.training.splits import Examples


def test_clarke_zones_of_known_pairs():
    pairs = [
        (100, 110, "A"),
        (60, 65, "A"),
        (100, 140, "B"),
        (100, 215, "C"),
        (150, 20, "C"),
        (300, 150, "D"),
        (50, 100, "D"),
    ]
    pairs += [(250, 60, "E"), (60, 200, "E")]
    truth, forecast, zones = zip(*pairs, strict=True)
    assert ["ABCDE"[zone] for zone in clarke_zones(np.array(truth), np.array(forecast))] == list(zones)


def test_parkes_zones_of_known_pairs():
    pairs = [(100, 100, "A"), (100, 125, "A"), (100, 140, "B"), (100, 200, "C"), (60, 250, "D"), (20, 300, "E")]
    pairs += [(200, 120, "B"), (300, 120, "C"), (400, 60, "D"), (40, 20, "A")]
    truth, forecast, zones = zip(*pairs, strict=True)
    assert ["ABCDE"[zone] for zone in parkes_zones(np.array(truth), np.array(forecast))] == list(zones)


def test_parkes_lines_of_worse_zones_lie_beyond_those_of_better_ones():
    for truth in range(20, 601):
        high = [error_grid._height(truth, line) for _, line in error_grid._TOO_HIGH]
        low = [error_grid._height(truth, line) for _, line in error_grid._TOO_LOW if truth > line[0][0]]
        assert [truth, *high] == sorted({truth, *high})
        assert [*reversed(low), truth] == sorted({truth, *low})


def test_zone_shares_add_up():
    shares = zone_shares(np.array([0, 0, 1, 4], dtype=np.int8))
    assert shares == {"A": 0.5, "B": 0.25, "C": 0.0, "D": 0.0, "E": 0.25}


def examples_of(level):
    """Stride-1 windows of one recording."""
    cut = np.lib.stride_tricks.sliding_window_view(np.asarray(level, dtype=np.float32), 108)
    count = cut.shape[0]
    ends = np.datetime64("2026-01-05T08:00:00", "s") + (np.arange(count) * 300).astype("timedelta64[s]")
    return Examples(Windows(cut[:, :96], ends), cut[:, 96:], np.full(count, "one"), np.zeros(count, dtype=np.int64))


def test_a_low_announced_half_an_hour_ahead_is_caught_with_that_lead():
    level = np.full(300, 120.0)
    level[200:206] = 60.0
    data = examples_of(level)
    onset_window = 200 - 96  # its first future step is the onset
    beyond = np.zeros((len(data), 12))
    beyond[onset_window - 5 : onset_window + 1, :] = 0.9
    score = event_score(data, beyond, 70.0, low=True)
    assert (score.events, score.warnings) == (1, 6)
    assert (score.precision, score.recall, score.median_lead_minutes) == (1.0, 1.0, 30.0)


def test_false_alarms_and_missed_events_are_counted():
    level = np.full(300, 120.0)
    level[150:156], level[250:256] = 200.0, 200.0
    data = examples_of(level)
    beyond = np.zeros((len(data), 12))
    beyond[10:14, 3] = 0.8  # more than an hour before anything happens
    beyond[150 - 96, 0] = 0.8
    score = event_score(data, beyond, 180.0, low=False)
    assert (score.events, score.warnings, score.recall, score.precision) == (2, 5, 0.5, 0.2)
    assert score.median_lead_minutes == 5.0


def test_a_dip_shorter_than_15_minutes_is_no_event():
    level = np.full(300, 120.0)
    level[200:202] = 60.0
    data = examples_of(level)
    score = event_score(data, np.zeros((len(data), 12)), 70.0, low=True)
    assert score.events == 0
    assert np.isnan(score.recall)


def test_point_figures_of_a_constant_error():
    data = examples_of(np.full(200, 100.0))
    answer = Predictive(
        np.full((len(data), 1, 12), 110.0, np.float32),
        np.full((len(data), 12), 10.0, np.float32),
        Calibration.identity(),
    )
    figures = evaluate_predictive(data, answer)
    assert figures["rmse_mgdl"] == pytest.approx(10.0, abs=1e-3)
    assert figures["mae_mgdl"] == pytest.approx(10.0, abs=1e-3)
    assert figures["mard_percent"] == pytest.approx(10.0, abs=1e-3)
    assert figures["coverage"]["90"] == 1.0
    assert figures["clarke"]["A"] == 1.0


def test_calibration_makes_a_wrong_spread_cover_what_it_says():
    rng = np.random.default_rng(1)
    samples = rng.normal(140.0, 3.0, (6000, 10, 12))
    truth = 140.0 + rng.normal(4.0, 25.0, (6000, 12))
    spread = np.full((6000, 12), 12.0)
    calibration = fit_calibration(samples[:3000], spread[:3000], truth[:3000])
    data = examples_of(np.full(3107, 140.0))
    held_out = Examples(data.windows, truth[3000:].astype(np.float32), data.person, data.series)
    figures = evaluate_predictive(held_out, Predictive(samples[3000:], spread[3000:], calibration))
    for level in ("50", "80", "90", "95"):
        assert figures["coverage"][level] == pytest.approx(int(level) / 100, abs=0.02)
    assert figures["calibration_error"] < 0.02


def test_calibration_refuses_a_handful_of_windows():
    with pytest.raises(ValueError, match="too few"):
        fit_calibration(np.ones((20, 1, 12)), np.ones((20, 12)), np.ones((20, 12)))


def test_residual_spread_grows_along_the_hour():
    samples = np.zeros((4, 2, 3))
    truth = np.array([[1.0, 3.0, 2.0]] * 4)
    np.testing.assert_allclose(residual_spread(samples, truth), [1.0, 3.0, 3.0])


def test_even_weights_let_every_group_count_the_same():
    weight = even_weight(np.array(["a", "a", "a", "b"]))
    assert weight[:3].sum() == pytest.approx(weight[3])
    assert weight.mean() == pytest.approx(1.0)


def test_lows_come_as_often_as_their_step_says() -> None:
    rng = np.random.default_rng(0)
    true = rng.beta(0.5, 4.0, (20_000, 12))
    truth = np.where(rng.random(true.shape) < true, 50.0, 120.0)  # below both lows or above them
    truth[::9] = np.nan
    said = np.repeat(norm.cdf(0.8 * norm.ppf(true) + 0.3)[:, None], 4, axis=1)  # too high where it is small
    lines = fit_low_lines(said, truth)
    published = lines.published(said)
    for place in (0, 1):
        for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6)):
            chosen = (published[:, place] >= low) & (published[:, place] < high) & np.isfinite(truth)
            assert np.mean(truth[chosen] < 54.0) == pytest.approx(published[:, place][chosen].mean(), abs=0.012)
    assert abs(np.mean(said[:, 0]) - np.nanmean(true)) > 0.05
    np.testing.assert_array_equal(published[:, 3], np.maximum(published[:, 1], said[:, 3]))


def test_where_no_low_fell_its_step_changes_little() -> None:
    lines = fit_low_lines(np.full((30, 4, 12), 0.01), np.full((30, 12), 150.0))
    assert lines.published(np.full((1, 4, 12), 0.2)) == pytest.approx(0.2, abs=0.03)
