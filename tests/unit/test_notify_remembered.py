"""Which deliveries there have been."""

import datetime

from hypothesis import given
from hypothesis import strategies as st

from streams.notify.remembered import Remembered

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
IDS = st.integers(0, 5).map(lambda number: f"{number:064x}"[::-1])
DELIVERIES = st.lists(st.tuples(IDS, st.integers(-7200, 7200), st.integers(0, 2)))


@given(DELIVERIES, st.integers(0, 7200), st.integers(0, 2))
def test_an_id_is_known_for_as_long_as_its_event_may_come_again_and_a_minute_more_at_most(
    deliveries: list[tuple[str, int, int]], later: int, gone: int
) -> None:
    remembered = Remembered(HOUR)
    for key, seconds, partition in deliveries:
        remembered.add(key, NOW + datetime.timedelta(seconds=seconds), partition)
        assert key in remembered
    now = NOW + datetime.timedelta(seconds=later)
    remembered.tidy(now)
    remembered.forget(gone)
    ends = [
        (key, NOW + datetime.timedelta(seconds=seconds) + HOUR) for key, seconds, part in deliveries if part != gone
    ]
    assert {key for key, end in ends if end >= now} <= {key for key, _, _ in deliveries if key in remembered}
    minute = datetime.timedelta(minutes=1)
    assert {key for key, _, _ in deliveries if key in remembered} <= {key for key, end in ends if end + minute >= now}
    assert len(remembered) <= len(deliveries)
