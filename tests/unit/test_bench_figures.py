"""The arithmetic of the latency and throughput benches."""

import pytest

from deploy.bench.latency import HOPS, Trips, table
from deploy.bench.throughput import Plan, _messages, sustained
from schemas.errors import ConfigurationError
from schemas.forecast import Forecast
from schemas.grid import PAST_POINTS
from schemas.reading import Reading


class TestTrips:
    def test_hops_are_the_times_between_their_ends_and_only_whole_trips_count(self) -> None:
        trips = Trips()
        trips.sent(("ada", 300), 10.0)
        trips.sent(("bob", 300), 20.0)
        for hop, at in ((3, 10.5), (1, 10.125), (2, 10.25), (5, 12.0), (4, 11.0), (5, 99.0)):
            trips.ended(("ada", 300), hop, at)
        trips.ended(("nobody", 300), 1, 1.0)
        assert trips.open == 1
        assert list(trips) == [(0.125, 0.125, 0.25, 0.5, 1.0)]

    def test_the_table_has_a_line_a_hop_and_one_for_the_whole(self) -> None:
        lines = list(table([(0.001, 0.002, 0.003, 0.004, 0.005), (0.003, 0.004, 0.005, 0.006, 0.007)]))
        assert len(lines) == len(HOPS) + 2
        assert lines[1].split()[-3:] == ["2.0", "3.0", "3.0"]
        assert lines[-1].split()[-3:] == ["20.0", "25.0", "25.0"]


class TestSustained:
    def test_the_rate_is_that_of_the_middle(self) -> None:
        steady = range(1000, 2000, 5)
        assert sustained([0, *steady, 99_000]) == pytest.approx(200)

    def test_a_moment_has_no_rate(self) -> None:
        with pytest.raises(ValueError, match="too few"):
            sustained([5, 5, 5])

    def test_only_windows_that_are_full_are_waited_for(self) -> None:
        fed = list(_messages(Plan("pipeline", messages=2 * (PAST_POINTS + 3), subjects=2, before=0)))
        assert sum(counts for *_, counts in fed) == 2 * 4
        assert {Reading.from_json(value).subject_id for _, _, value, _ in fed} == {"fault-0000", "fault-0001"}

    def test_every_forecast_is_another_one(self) -> None:
        fed = [Forecast.from_arrow(value) for _, _, value, _ in _messages(Plan("calc", messages=1000, subjects=3))]
        assert len({forecast.forecast_id for forecast in fed}) == 1000
        assert len({(forecast.series_key, forecast.end_seconds) for forecast in fed}) == 1000


def test_a_run_without_a_forecast_to_count_is_refused_before_it_begins() -> None:
    with pytest.raises(ConfigurationError, match="40 readings of each of 100 people bring no forecasts to count"):
        Plan("pipeline", messages=4000, subjects=100)
    assert Plan("pipeline", messages=4000, subjects=100, before=PAST_POINTS).before == PAST_POINTS
