"""How far probabilities lie from what came, and how much of that a few days alone would make."""

import numpy as np
import pytest

from agents.core.forecaster import Windows
from agents.training.reliability import ENOUGH, Bin, bins_of, certainty, furthest_off, reliability
from agents.training.splits import Examples

DAYS, OF_A_DAY = 60, 20


def windows_of(future: np.ndarray) -> Examples:
    """OF_A_DAY windows a day of one person."""
    count = len(future)
    ends = np.datetime64("2026-01-05T02:00:00", "s") + np.arange(count) // OF_A_DAY * np.timedelta64(1, "D")
    past = np.full((count, 96), 120.0, dtype=np.float32)
    return Examples(
        Windows(past, ends), future.astype(np.float32), np.array(["A/0"] * count), np.zeros(count, np.int64)
    )


def test_a_bin_holds_what_was_said_and_how_often_it_came() -> None:
    future = np.full((400, 12), 100.0)
    future[:100] = 60.0
    future[300:, 5] = np.nan
    chance = np.zeros((400, 4, 12))
    chance[:, 1] = 0.5
    found = reliability(bins_of(windows_of(future), chance))
    assert found["60"]["<70"] == [{"windows": 400, "forecast": 0.5, "observed": 0.25}]
    assert found["30"]["<70"] == [{"windows": 300, "forecast": 0.5, "observed": pytest.approx(1 / 3)}]
    assert found["60"][">180"] == [{"windows": 400, "forecast": 0.0, "observed": 0.0}]
    assert furthest_off(found["60"]["<70"]) == 0.25
    assert np.isnan(furthest_off([{"windows": ENOUGH - 1, "forecast": 0.5, "observed": 0.0}]))


def test_what_days_alone_make_of_a_difference_is_told() -> None:
    """Of windows that all come out alike within a day, days count and not windows."""
    rng = np.random.default_rng(0)
    data, every = windows_of(np.full((DAYS * OF_A_DAY, 12), 120.0)), np.arange(DAYS * OF_A_DAY)
    by_day = np.repeat(rng.random(DAYS) < 0.5, OF_A_DAY) - 0.5
    by_window = (rng.random(DAYS * OF_A_DAY) < 0.5) - 0.5
    wide, narrow = (
        certainty(data, [Bin("<70", "30", every, off - off.mean() + 0.07, 0.5)], seed=0)["30"]
        for off in (by_day, by_window)
    )
    (of_days,), (of_windows,) = wide["beyond"], narrow["beyond"]
    assert (of_days["off"], of_days["days"], of_days["windows"]) == (pytest.approx(0.07), DAYS, DAYS * OF_A_DAY)
    half = 1.96 * 0.5 / DAYS**0.5
    assert of_days["off_95"] == pytest.approx([0.07 - half, 0.07 + half], abs=0.02)
    assert np.diff(of_windows["off_95"])[0] < np.diff(of_days["off_95"])[0] / 3
    assert wide["chance_beyond"] > 0.3
    assert narrow["chance_beyond"] < 0.05


def test_bins_of_few_windows_are_not_judged() -> None:
    data = windows_of(np.full((DAYS * OF_A_DAY, 12), 120.0))
    few = Bin(">250", "60", np.arange(ENOUGH - 1), np.full(ENOUGH - 1, 0.5), 0.5)
    assert certainty(data, [few], seed=0) == {at: {"beyond": [], "chance_beyond": 0.0} for at in ("30", "60")}
