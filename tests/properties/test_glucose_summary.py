"""The numbers of a report are those of their definitions, as numpy computes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.fingerprint import to_centi
from agents.core.glucose_summary import (
    LEAST_READINGS,
    PROFILE_LEVELS,
    TARGETS,
    Ranges,
    active_slots,
    profile,
    quantile,
    summary,
    times_in_ranges,
    why_not_representative,
)
from schemas.grid import CENTI, MGDL_PER_MMOLL, STEPS_A_DAY

GLUCOSE = st.integers(2_000, 60_000).map(lambda centi: centi / 100) | st.sampled_from(
    [53.99, 54.0, 69.99, 70.0, 180.0, 180.16, 180.5, 180.51, 181.0, 250.0, 250.42, 250.5, 250.51, 251.0]
)
VALUES = st.lists(GLUCOSE, min_size=1, max_size=40)


@settings(max_examples=25)
@given(VALUES, st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], level: float) -> None:
    assert quantile(sorted(values), level) == pytest.approx(float(np.quantile(values, level)), rel=1e-12)


@settings(max_examples=25)
@given(VALUES)
def test_mean_variation_and_ranges_are_those_of_their_definitions(values: list[float]) -> None:
    """In range is what is shown as 180 mg/dL too, and not up to 180.00 alone, which 10.0 mmol/L are not."""
    found = summary(range(len(values)), values, len(values))
    array = np.array(values)
    assert found.mean_mgdl == pytest.approx(array.mean())
    sd = float(array.std(ddof=1)) if len(values) > 1 else 0.0
    assert found.sd_mgdl == pytest.approx(sd, abs=1e-9)
    assert found.cv == pytest.approx(sd / array.mean(), abs=1e-9)
    assert found.gmi_percent == pytest.approx(3.31 + 0.02392 * array.mean())
    wanted = [
        array < 54, (array >= 54) & (array < 70), (array >= 70) & (array <= 180.5),
        (array > 180.5) & (array <= 250.5), array > 250.5,
    ]  # fmt: skip
    assert found.ranges == pytest.approx([float(each.mean()) for each in wanted])
    assert sum(found.ranges) == pytest.approx(1)
    assert found.ranges.below_70 == pytest.approx(float((array < 70).mean()))
    assert found.ranges.above_180 == pytest.approx(float((array > 180.5).mean()))
    assert found.active_share == 1


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 1439), GLUCOSE), max_size=60))
def test_the_profile_has_the_quantiles_of_the_readings_around_each_quarter(readings: list[tuple[int, float]]) -> None:
    points = profile(readings)
    assert len(points) == 96
    for place, point in enumerate(points):
        middle = 15 * place
        around = (((minute // 5 * 5) - middle + 720) % 1440 - 720 for minute, _ in readings)
        near = [value for distance, (_, value) in zip(around, readings, strict=True) if abs(distance) <= 15]
        if len(near) < LEAST_READINGS:
            assert point is None
            continue
        assert point is not None
        assert (point.minute, point.readings) == (middle, len(near))
        assert point.quantiles_mgdl == pytest.approx([float(np.quantile(near, level)) for level in PROFILE_LEVELS])
        assert list(point.quantiles_mgdl) == sorted(point.quantiles_mgdl)


@pytest.mark.parametrize("interval", [1, 3])
def test_a_sensor_that_misses_nothing_is_active_all_the_time_however_slow(interval: int) -> None:
    slots = list(range(0, 14 * STEPS_A_DAY, interval))
    assert summary(slots, [100.0] * len(slots), 14 * STEPS_A_DAY).active_share == 1


def test_a_change_of_sensor_takes_nothing_from_the_time_that_is_active() -> None:
    slots = [*range(7 * STEPS_A_DAY), *range(7 * STEPS_A_DAY, 14 * STEPS_A_DAY, 3)]
    assert active_slots(slots) == 14 * STEPS_A_DAY


@settings(max_examples=15)
@given(st.sets(st.integers(0, 2 * STEPS_A_DAY - 1)))
def test_what_was_missed_is_not_active(slots: set[int]) -> None:
    found = active_slots(sorted(slots))
    assert len(slots) <= found <= 2 * STEPS_A_DAY
    assert found <= 3 * len(slots)


def test_half_of_the_readings_are_half_of_the_time() -> None:
    slots = [slot for slot in range(14 * STEPS_A_DAY) if slot // 144 % 2]
    assert summary(slots, [100.0] * len(slots), 14 * STEPS_A_DAY).active_share == pytest.approx(0.5)


def test_too_little_is_said_to_be_too_little() -> None:
    assert why_not_representative(14, 0.70) is None
    assert why_not_representative(13, 0.9) == "they cover 13 of 14 days"
    assert why_not_representative(14, 0.699) == "the sensor gave values 69 % of the time, less than 70 %"
    assert " and " in (why_not_representative(2, 0.1) or "")


@pytest.mark.parametrize("per_mmoll", [18.0, MGDL_PER_MMOLL, 18.018, 18.0182])
def test_ranges_are_those_of_the_consensus_in_either_unit(per_mmoll: float) -> None:
    """3.0, 3.9, 10.0 and 13.9 mmol/L are within as 54, 70, 180 and 250 mg/dL are, by whichever factor they came."""
    tenths = [to_centi(shown * per_mmoll) / CENTI for shown in (2.9, 3.0, 3.8, 3.9, 10.0, 10.1, 13.9, 14.0)]
    whole = [53.0, 54.0, 69.0, 70.0, 180.0, 181.0, 250.0, 251.0]
    assert times_in_ranges(whole) == Ranges(0.125, 0.25, 0.25, 0.25, 0.125)
    assert times_in_ranges(tenths) == times_in_ranges(whole)


def test_no_readings_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no readings"):
        summary([], [], 288)


def test_each_target_is_of_a_range() -> None:
    ranges = times_in_ranges([100.0])
    assert ranges == Ranges(0, 0, 1, 0, 0)
    assert all(0 < share < 1 and getattr(ranges, name) in (0, 1) for name, share in TARGETS.items())
