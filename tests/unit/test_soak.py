"""What the soak calls growth: a steady rise, and neither a peak nor the noise of a short run."""

import random

import pytest

from deploy.bench.soak import Series


def series(values: list[float], seconds: float = 30.0, what: str = "rss") -> Series:
    return Series("calc-0", what, [(place * seconds, value) for place, value in enumerate(values)])


def test_a_steady_rise_is_growth_and_its_slope_is_told() -> None:
    hour = series([200 + place for place in range(120)])  # a MiB every half minute
    assert not hour.is_flat()
    assert hour.slope_an_hour() == pytest.approx(120.0)
    assert "GROWS" in hour.line()


def test_warm_up_peaks_and_noise_are_flat() -> None:
    chance = random.Random(1)
    warm_up = [100.0 + 5 * place for place in range(40)]
    level = [300 + chance.uniform(-8, 8) for _ in range(80)]
    assert series(warm_up + level).is_flat()
    assert series([200.0] * 100 + [900.0] * 3 + [200.0] * 17).is_flat()


def test_a_short_run_cannot_tell_growth_from_its_first_minutes() -> None:
    assert series([200 + place for place in range(12)]).is_flat()


def test_handles_that_are_never_closed_are_growth() -> None:
    assert not series([30 + place / 2 for place in range(120)], what="fds").is_flat()
