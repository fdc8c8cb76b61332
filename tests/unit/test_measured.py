"""The kept readings: nothing but what was sent, of two days, of one subject, whatever comes in which order."""

import dataclasses
import datetime
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query_api.projections.measured import PLACE, SHOWN, arrivals
from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas.reading import Reading, ReadingOutcome
from schemas.topics import READING_OUTCOMES

NOW = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)


def reading(seconds: int, glucose: float = 118.0, subject: str = "anna") -> Reading:
    return Reading(
        subject_id=subject, time=NOW + datetime.timedelta(seconds=seconds), glucose=glucose, unit="mg/dL", device="x"
    )


def entry(item: Reading | str) -> Entry:
    """What the topic carries of an accepted reading, or of a reset of this subject."""
    status, kept = ("reset", None) if isinstance(item, str) else ("no_forecast", item)
    subject = item if isinstance(item, str) else item.subject_id
    outcome = ReadingOutcome(
        outcome_id="0" * 64, subject_id=subject, status=status, time=kept and kept.time, reading=kept  # type: ignore[arg-type]
    )  # fmt: skip
    return Entry(READING_OUTCOMES.name, 0, 0, subject.encode(), outcome.to_json())


@pytest.fixture
def model(tmp_path: Path) -> ReadModel:
    return ReadModel(Store(tmp_path / "table", 1 << 20, 1 << 20), Subscriptions())


def shown(model: ReadModel, subject: str = "anna", **between: datetime.datetime) -> list[Reading]:
    return list(model.readings.measured.newest_first(subject, **between))


def test_readings_come_newest_first_and_only_the_subjects_own(model: ReadModel) -> None:
    anna, others = [reading(300 * step) for step in range(5)], [reading(0, subject="ann"), reading(0, subject="anna.b")]
    model.apply(map(entry, [*anna, *others]), {})
    assert shown(model) == anna[::-1]
    assert shown(model, last=anna[3].time) == anna[3::-1]
    assert shown(model, last=anna[3].time - datetime.timedelta(milliseconds=1)) == anna[2::-1]
    assert shown(model, last=anna[0].time - SHOWN) == []
    assert [shown(model, name) for name in ("ann", "nobody")] == [[others[0]], []]


def test_a_correction_takes_the_place_of_what_it_corrects(model: ReadModel) -> None:
    model.apply(map(entry, [reading(0, 118), reading(0, 121)]), {})
    assert [each.glucose for each in shown(model)] == [121]


def test_what_is_older_than_two_days_goes_and_none_comes_in(model: ReadModel) -> None:
    day = 24 * 3600
    model.apply(map(entry, [reading(-2 * day), reading(-2 * day + 60), reading(-day)]), {})
    model.apply(map(entry, [reading(0), reading(-3 * day)]), {})
    model.apply(map(entry, [reading(60)]), {})
    assert [each.time - NOW for each in shown(model)] == [datetime.timedelta(seconds=s) for s in (60, 0, -day)]
    assert sum(1 for _ in model._store.scan(b"e/")) <= 3 + 2, "of the hour before the oldest shown"
    model.apply(map(entry, [reading(3600)]), {})
    assert sum(1 for _ in model._store.scan(b"e/")) == 4


def test_a_reading_that_is_sent_again_came_when_it_came_first(model: ReadModel) -> None:
    for time_ms, item in ((1000, reading(0)), (2000, reading(-300)), (3000, reading(0)), (4000, reading(-300, 121))):
        model.apply([dataclasses.replace(entry(item), time_ms=time_ms)], {})
    found = arrivals(model.readings.measured.rows("anna"))
    assert {(time - NOW).total_seconds(): came for time, came in found.items()} == {0: 1000, -300: 4000}
    model.apply([entry(reading(300))], {})
    assert len(arrivals(model.readings.measured.rows("anna"))) == 2, "of the last nobody says when it came"
    assert [each.glucose for each in shown(model)] == [118, 118, 121]


def test_no_two_came_at_once_whatever_the_clocks_say(model: ReadModel) -> None:
    """Who asks for what came after the last that was told is told all that was applied since."""
    for number, time_ms in enumerate((5000, 5000, 4000, 5000, 9000)):
        last = max(arrivals(model.readings.measured.rows("anna")).values(), default=0)
        model.apply([dataclasses.replace(entry(reading(300 * number)), time_ms=time_ms)], {})
        came = arrivals(model.readings.measured.rows("anna"))
        assert [time for time, each in came.items() if each > last] == [reading(300 * number).time]
    assert sorted(came.values()) == [5000, 5001, 5002, 5003, 9000]
    model.apply(map(entry, [reading(0, subject="eve"), "anna"]), {})
    assert not list(model._store.scan(b"z/"))


def test_a_reset_forgets_also_what_came_in_the_same_batch(model: ReadModel) -> None:
    model.apply(map(entry, [reading(0), reading(0, subject="eve")]), {})
    model.apply(map(entry, [reading(300), "anna", reading(600)]), {})
    assert [each.time - NOW for each in shown(model)] == [datetime.timedelta(seconds=600)]
    assert len(shown(model, "eve")) == 1


SENT = st.tuples(
    st.sampled_from(["anna", "eve"]), st.integers(-400_000, 400_000), st.floats(39, 600, allow_nan=False)
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(SENT, max_size=12), max_size=4))
def test_nothing_is_shown_that_was_not_sent(batches: list[list[tuple[str, int, float]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        model = ReadModel(Store(Path(directory) / "table", 1 << 20, 1 << 20), Subscriptions())
        sent = []
        for batch in batches:
            items = [reading(seconds, glucose, subject) for subject, seconds, glucose in batch]
            sent += items
            model.apply(map(entry, items), {})
        for subject in ("anna", "eve"):
            own = [each for each in sent if each.subject_id == subject]
            found = shown(model, subject)
            assert all(each in own for each in found)
            times = [each.time for each in found]
            assert times == sorted(times, reverse=True)
            newest = max((each.time for each in own), default=None)
            assert newest is None or all(newest - time <= SHOWN for time in times)
            # The last that came for each place is shown, as far as it is of the two days.
            latest = {(each.time - NOW) // PLACE: each for each in own}
            assert set(found) <= set(latest.values())
            recent = [e for e in latest.values() if newest is not None and newest - e.time < SHOWN - PLACE]
            assert set(recent) <= set(found)
        model.close()
