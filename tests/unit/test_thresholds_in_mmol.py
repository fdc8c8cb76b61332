"""A threshold that is given in mmol/L: what is shown as it is not beyond it, whatever the unit of the sensor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.units import settings_document, threshold_mgdl
from schemas.alert import AlertSettings, RuleChange
from schemas.grid import MGDL_PER_MMOLL, highest_within

LOWS, HIGHS = st.integers(25, 66), st.integers(67, 200)


@given(LOWS)
def test_what_is_shown_as_a_threshold_of_lows_is_not_below_it(tenths: int) -> None:
    threshold = threshold_mgdl(tenths / 10)
    assert tenths / 10 * MGDL_PER_MMOLL >= threshold
    assert all(mgdl >= threshold for mgdl in range(30, 200) if round(mgdl / MGDL_PER_MMOLL, 1) == tenths / 10)
    assert any(mgdl < threshold for mgdl in range(30, 200) if round(mgdl / MGDL_PER_MMOLL, 1) == (tenths - 1) / 10)


@given(HIGHS)
def test_a_threshold_of_highs_is_not_above_itself(tenths: int) -> None:
    threshold = threshold_mgdl(tenths / 10)
    assert threshold.is_integer()
    assert tenths / 10 * MGDL_PER_MMOLL <= highest_within(threshold) < (tenths + 1) / 10 * MGDL_PER_MMOLL


@given(st.integers(55, 110), st.sampled_from([0.0, 0.25, 0.5]))
def test_what_is_answered_in_mmol_can_be_sent_back(whole: int, more: float) -> None:
    low = min(whole + more, 110.0)
    document = settings_document(AlertSettings(low=RuleChange(threshold_mgdl=low)), "mmol/L")
    back = threshold_mgdl(document["low"]["threshold_mmoll"])
    assert back == pytest.approx(low, abs=0.5)
    if more == 0.0:
        assert back == low
