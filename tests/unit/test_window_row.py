"""Rows of rolling windows that no reading made: refused, and at once."""

import datetime

import orjson
import pytest

from agents.core.rolling_window import place, slot_time
from agents.core.window_row import Displaced, Held, Row, packed, unpacked
from schemas.alert import AlertState
from schemas.errors import MalformedRecordError
from schemas.grid import EARLIEST_SLOT, LATEST_SLOT
from schemas.score_state import ScoreState

SLOTS = {1000 + place: Held(0, 12_000, place, 0) for place in range(96)}


def test_a_row_is_read_as_it_was_written() -> None:
    row = Row(
        SLOTS, [Displaced(1000, Held(5, 11_000, 3, 60, 7), 9)], {70 + hour: (150_000, 12) for hour in range(9)}, []
    )
    assert unpacked(packed(row)) == row


@pytest.mark.parametrize("centi", [0, -1, 1_999, 60_001, 2**31 - 1, -(2**31)])
def test_a_row_with_glucose_that_cannot_be_is_refused(centi: int) -> None:
    wrong = Held(0, centi, 5, 0)
    for row in (Row(SLOTS | {1050: wrong}, [], {}, []), Row(SLOTS, [Displaced(1000, wrong, 9)], {}, [])):
        with pytest.raises(ValueError, match="a row of glucose that cannot be"):
            unpacked(packed(row))


@pytest.mark.parametrize("total", [0, 11 * 2_000, 12 * 60_001])
def test_a_row_whose_hours_cannot_be_is_refused(total: int) -> None:
    with pytest.raises(ValueError, match="a row of glucose that cannot be"):
        unpacked(packed(Row(SLOTS, [], {80: (150_000, 12), 81: (total, 12)}, [])))


def test_hours_that_lie_ages_apart_are_not_filled_up() -> None:
    with pytest.raises(ValueError, match="hours that lie too far apart"):
        packed(Row(SLOTS, [], {-(2**31): (150_000, 12), 80: (150_000, 12)}, []))


@pytest.mark.parametrize("slot", [EARLIEST_SLOT - 1, LATEST_SLOT + 1, 2**50])
def test_a_row_of_times_that_have_no_date_is_refused(slot: int) -> None:
    row = Row({slot: Held(0, 12_000, 5, 0)}, [], {}, [])
    with pytest.raises(ValueError, match="a row of times that cannot be"):
        unpacked(packed(row))
    with pytest.raises(MalformedRecordError):
        AlertState.from_json(orjson.dumps({"slot": slot}))
    assert slot_time(LATEST_SLOT, 14 * 60)
    assert AlertState.from_json(orjson.dumps({"slot": LATEST_SLOT}))


@pytest.mark.parametrize("year", [1900, 1970, 9998])
@pytest.mark.parametrize("hours", [14, -12])
def test_what_a_wrong_clock_shows_is_kept_and_read_again(year: int, hours: int) -> None:
    """Readings are accepted from 1900 on: a clock that was reset shows 1970, and in the east that lies before it."""
    slot, held = place(datetime.datetime(year, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=hours))), 120, 1)
    row = Row({slot: held}, [], {}, [])
    assert unpacked(packed(row)) == row
    assert AlertState.from_json(AlertState(slot=slot).to_json()).slot == slot


def test_a_row_of_scores_from_beyond_all_dates_is_refused() -> None:
    assert ScoreState.from_bytes(ScoreState(newest=LATEST_SLOT).to_bytes()).newest == LATEST_SLOT
    with pytest.raises(MalformedRecordError, match="no slot is so late"):
        ScoreState.from_bytes(ScoreState(newest=LATEST_SLOT + 1).to_bytes())
