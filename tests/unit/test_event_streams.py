"""Events for clients: in order, none lost, none twice, nobody else's, and never more in memory than is stated."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from query_api import event_log, event_streams
from query_api.event_log import MOST_WAITING
from query_api.event_place import SOURCES, Place
from query_api.scorecard import scorecard
from schemas.errors import OverloadedError, StorageError, UnavailableError
from schemas.reading import ReadingOutcome
from schemas.score_state import ScoreState
from schemas.tables import trial_key
from streams.settings import Settings
from streams.topology import ALERTS_CHANGELOG, SCORES_CHANGELOG
from tests.kit.charts import ISSUE, STEP
from tests.kit.disks import full_disk
from tests.kit.followed import Followed, alerts, forecast, reading, scores
from tests.kit.sse import Told, some, told

BEAT = {"heartbeat_seconds": 0.02}


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    table = Followed(tmp_path / "table")
    yield table
    table.model.close()


async def now(followed: Followed, *subjects: str, last: str | None = None, **options: Any) -> list[Told]:
    """All that a client is told until nothing more comes; the first is what opens the stream."""
    found: list[Told] = []
    stream = followed.stream(*subjects, last=last, **(BEAT | options))
    async with asyncio.timeout(20):
        async for block in stream:
            each = told(block.decode().removesuffix("\n\n"))
            if each.kind == "comment":
                break
            found.append(each)
    await stream.aclose()  # type: ignore[attr-defined]
    return found


def kinds(events: list[Told]) -> list[str]:
    return [each.kind for each in events]


async def opened(followed: Followed, *subjects: str, **options: Any) -> Any:
    """A stream that has begun, so that what is applied from here on is told."""
    stream = followed.stream(*subjects, **options)
    assert told((await anext(stream)).decode().removesuffix("\n\n")).id
    return stream


async def test_what_happens_is_told_in_its_order_with_what_the_routes_answer(followed: Followed) -> None:
    stream, everybody = await opened(followed, "anna"), await opened(followed)
    followed.apply(reading("anna", 0), forecast("anna", 0))
    trial = (SCORES_CHANGELOG.name, "anna", trial_key("anna"), ScoreState(scored=9, newest=5_000_000).to_bytes())
    followed.apply(alerts("anna", 4), trial, scores("anna", 3))
    found = await some(stream, 4)
    assert kinds(found) == ["reading", "forecast", "alerts", "scores"]
    same = [(each.kind, each.data) for each in await some(everybody, 4)]
    assert same == [(each.kind, each.data) for each in found], "scores of a model on trial are no event of their own"
    assert found[0].data["reading"]["glucose"] == 100
    assert found[1].data["chart_id"] == f"{0:064x}"
    assert found[2].data["last_judged"] == "1970-01-01T00:20:00Z"
    assert (found[3].data["scored"], found[3].data["subject_id"]) == (3, "anna")
    assert found[3].data["trial"]["scored"] == 9, "but stand beside those of the served one, as /scores answers"
    assert len({each.id for each in found}) == 4


async def test_a_client_gets_the_unit_that_it_asks_for(followed: Followed) -> None:
    stream = await opened(followed, "anna", unit="mmol/L")
    other = await opened(followed, "anna")
    followed.apply(forecast("anna", 0))
    (chart,), (same,) = await some(stream, 1), await some(other, 1)
    assert (chart.data["median_mmoll"][0], same.data["median_mgdl"][0]) == (6.661, 120.0)


async def test_every_place_of_a_stream_resumes_with_what_came_after_it(followed: Followed) -> None:
    start = (await now(followed, "anna"))[0].id
    stream = await opened(followed, "anna")
    steps = range(6)
    for step in steps:
        followed.apply(reading("anna", step), reading("bert", step), forecast("anna", step))
    whole = await some(stream, 12)
    for count, last in enumerate([start, *(each.id for each in whole)]):
        assert (await now(followed, "anna", last=last))[1:] == whole[count:]


async def test_a_restarted_replica_goes_on_and_another_one_too(followed: Followed, tmp_path: Path) -> None:
    last = (await now(followed, "anna"))[0].id
    records = [reading("anna", 0), forecast("anna", 0), reading("bert", 0), reading("anna", 1), forecast("anna", 1)]
    followed.apply(*records)
    told_here = (await now(followed, "anna", last=last))[1:]
    assert kinds(told_here) == ["reading", "forecast"] * 2
    other = Followed(tmp_path / "other")  # reads the same logs, one topic after the other
    other.apply(*sorted(records, key=lambda record: record[0]))
    told_there = (await now(other, "anna", last=last))[1:]
    assert sorted(str(each.data) for each in told_there) == sorted(str(each.data) for each in told_here)
    rest = (await now(other, "anna", last=told_here[1].id))[1:]
    assert [each.data for each in rest] == [told_there[1].data, told_there[3].data]
    other.model.close()

    followed.model.close()
    restarted = Followed(tmp_path / "table", like=followed)
    assert (await now(restarted, "anna", last=last))[1:] == told_here
    restarted.apply(reading("anna", 2))
    assert kinds((await now(restarted, "anna", last=told_here[-1].id))[1:]) == ["reading"]
    followed.model = restarted.model  # the fixture closes it


async def test_a_replica_that_lags_behind_a_client_resumes_it_once_it_has_come_there(
    followed: Followed, tmp_path: Path
) -> None:
    """Before, its other routes know less than the client was told; what it learns then would be told to nobody."""
    stream = await opened(followed, "anna")
    for step in range(3):
        followed.apply(reading("anna", step))
    followed.apply(alerts("anna", 4))
    _, read, _, alerted = [each.id for each in await some(stream, 4)]
    behind = Followed(tmp_path / "behind")
    behind.apply(reading("anna", 0))
    behind.follower._ends.update(followed.follower._next)
    for last in (read, alerted):
        with pytest.raises(UnavailableError, match="not come to that event"):
            behind.stream("anna", last=last)
    assert (behind.streams.clients, behind.follower.caught_up) == (0, True)
    behind.apply(reading("anna", 1))
    stream = await opened(behind, "anna", last=read)
    with pytest.raises(UnavailableError):
        behind.stream("anna", last=alerted)
    behind.apply(reading("anna", 2), alerts("anna", 4))
    assert kinds(await some(stream, 2)) == ["reading", "alerts"], "nothing twice, and nothing passed by"
    assert kinds(await now(behind, "anna", last=alerted)) == [""]
    behind.model.close()


@pytest.mark.parametrize("is_new", [True, False])
async def test_what_is_erased_while_an_answer_begins_is_told(followed: Followed, is_new: bool) -> None:
    last = None if is_new else (await now(followed, "anna"))[0].id
    followed.apply(reading("anna", 0), forecast("anna", 0))
    stream = followed.stream("anna", last=last)
    followed.apply(reading("anna", 1, status="erased", reading=None))
    followed.apply(reading("anna", 2))
    found = await some(stream, 1, seconds=5)
    assert kinds(found) == ["reset"]
    assert (await now(followed, "anna", last=found[-1].id))[1:] == []
    stream = followed.stream("anna", last=None if is_new else found[-1].id)
    followed.model.wipe()
    followed.follower._next.clear()
    assert await some(stream, 1, seconds=5) == []


@pytest.mark.parametrize(
    "last", ["", "nonsense", "0" * 8, "00000000.0-0-0-0-0-0-0", "{tag}.0-0-0-0-9-0-0", "{tag}.2-0-0-0-0-0-0", "{tag}"]
)
async def test_who_comes_from_elsewhere_is_told_to_ask_anew(followed: Followed, last: str) -> None:
    followed.apply(reading("anna", 0))
    last = last.format(tag=followed.model.event_tag)
    assert Place.at(followed.model.event_tag, [0], lambda topic, number: 0).next(0, 0) == 0
    found = await now(followed, "anna", last=last)
    assert kinds(found) == ["", "reset"]
    assert (found[1].data["subject_id"], found[1].id) == (None, found[0].id)


async def test_who_was_away_for_longer_than_events_are_kept_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log.EventLog.__init__, "__defaults__", (4,))
    followed = Followed(tmp_path / "table")
    followed.apply(reading("anna", 0))
    stream = await opened(followed, "anna")
    for step in range(1, 6):
        followed.apply(reading("anna", step))
    ids = [each.id for each in await some(stream, 5)]
    assert kinds(await now(followed, "anna", last=ids[0])) == ["", *["reading"] * 4]
    followed.apply(reading("anna", 6))
    assert kinds(await now(followed, "anna", last=ids[0])) == ["", "reset"]
    followed.model.close()
    restarted = Followed(tmp_path / "table", like=followed)
    assert kinds(await now(restarted, "anna", last=ids[0])) == ["", "reset"]
    assert kinds(await now(restarted, "anna", last=ids[1])) == ["", *["reading"] * 4]
    restarted.model.close()


async def test_a_table_that_begins_where_the_log_no_longer_does_says_so(followed: Followed, tmp_path: Path) -> None:
    last = (await now(followed, "anna"))[0].id
    followed.apply(reading("anna", 0), reading("anna", 1))
    rebuilt = Followed(tmp_path / "rebuilt", like=followed)
    rebuilt.apply(reading("anna", 2))  # Kafka has let go of the first two
    assert kinds(await now(rebuilt, "anna", last=last)) == ["", "reset"]
    rebuilt.model.close()


async def test_a_client_is_told_of_nobody_else(followed: Followed) -> None:
    anna, both, all_of_them = [await opened(followed, *who) for who in (["anna"], ["anna", "carl"], [])]
    for subject in ("bert", "anna", "carl"):
        followed.apply(reading(subject, 0), forecast(subject, 0))

    def whose(found: list[Told]) -> list[str]:
        return [each.data["subject_id"] for each in found]

    assert whose(await some(anna, 2)) == ["anna"] * 2
    assert whose(await some(both, 4)) == ["anna", "anna", "carl", "carl"]
    assert whose(await some(all_of_them, 6)) == ["bert", "bert", "anna", "anna", "carl", "carl"]
    start = Place.at(followed.model.event_tag, [0, 1], lambda topic, number: 0)
    assert whose((await now(followed, last=str(start)))[1:]) == ["bert", "bert", "anna", "anna", "carl", "carl"]


async def test_a_key_that_is_withdrawn_ends_its_stream(followed: Followed) -> None:
    allowed = iter([True, True, True, True])
    stream = followed.stream("anna", still_may=lambda: next(allowed, False), **BEAT)
    await anext(stream)
    followed.apply(reading("anna", 0))
    assert kinds(await some(stream, 2)) == ["reading"], "it ends by itself"


async def test_a_reader_that_does_not_keep_up_is_cut_and_finds_all_when_it_comes_back(followed: Followed) -> None:
    stream = await opened(followed, "anna")
    followed.apply(reading("anna", 0))
    (first,) = await some(stream, 1)
    quick = await opened(followed, "anna")
    stream = followed.stream("anna", last=first.id)
    await anext(stream)
    for step in range(1, MOST_WAITING + 1):
        followed.apply(reading("anna", step))
    assert len(await some(quick, MOST_WAITING)) == MOST_WAITING
    followed.apply(reading("anna", MOST_WAITING + 1))
    assert await some(stream, 1) == [], "it was cut with nothing sent"
    assert len(await now(followed, "anna", last=first.id)) == 1 + MOST_WAITING + 1
    assert followed.streams.clients == 1


async def test_a_heartbeat_comes_while_nothing_does(followed: Followed) -> None:
    stream = await opened(followed, "anna", **BEAT)
    async with asyncio.timeout(5):
        assert [await anext(stream) for _ in range(2)] == [b": heartbeat\n\n"] * 2
        followed.apply(reading("anna", 0))
        assert b"event: reading" in await anext(stream)


async def test_so_many_clients_and_half_of_them_with_one_key(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "table", Settings(partitions=2, event_clients=4))
    streams = [await opened(followed, "anna", caller=caller) for caller in ("one", "one", "two")]
    with pytest.raises(OverloadedError, match="close one"):
        followed.stream("anna", caller="one")
    streams.append(await opened(followed, "anna", caller="two"))
    with pytest.raises(OverloadedError):
        followed.stream("anna", caller="three")
    late = followed.streams
    assert late.clients == 4
    await streams.pop().aclose()
    assert late.clients == 3
    await opened(followed, "anna", caller="three")
    followed.model.close()


async def test_those_who_begin_together_are_no_more_than_there_may_be(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "table", Settings(partitions=2, event_clients=2))
    streams = [followed.stream("anna", caller=str(number)) for number in range(4)]
    begun = [await anext(stream, None) for stream in streams]
    assert [each is not None for each in begun] == [True, True, False, False]
    followed.model.close()


async def test_a_replica_that_is_behind_or_stops_sends_nobody_anything(followed: Followed) -> None:
    followed.follower._has_caught_up = False
    with pytest.raises(UnavailableError, match="still reading"):
        followed.stream("anna")
    followed.follower._has_caught_up = True
    stream = await opened(followed, "anna")
    followed.streams.end()
    assert await some(stream, 1) == []
    with pytest.raises(UnavailableError):
        followed.stream("anna")


async def test_of_a_chart_that_was_replaced_and_of_states_the_last_is_told(followed: Followed) -> None:
    stream = await opened(followed, "anna")
    last = (await now(followed, "anna"))[0].id
    followed.apply(
        forecast("anna", 0), alerts("anna", 1), scores("anna", 1), forecast("anna", 0, made=1), alerts("anna", 2),
        scores("anna", 2),
    )  # fmt: skip
    found = await some(stream, 3)
    assert kinds(found) == ["forecast", "alerts", "scores"]
    assert found[0].data["chart_id"] == f"{1000:064x}"
    assert [each.data for each in (await now(followed, "anna", last=last))[1:]] == [each.data for each in found]


@pytest.mark.parametrize(("holds_seconds", "made"), [(60.0, 1), (-1.0, 5)])
async def test_however_many_follow_a_person_a_scorecard_is_made_once_while_it_holds(
    followed: Followed, monkeypatch: pytest.MonkeyPatch, holds_seconds: float, made: int
) -> None:
    cards = list[str]()

    def card(subject_id: str, *states: Any) -> Any:
        cards.append(subject_id)
        return scorecard(subject_id, *states)

    monkeypatch.setattr(event_streams, "scorecard", card)
    monkeypatch.setattr(event_streams, "STATE_SECONDS", holds_seconds)
    streams = [await opened(followed, "anna") for _ in range(5)]
    followed.apply(scores("anna", 3))
    found = [(await some(stream, 1))[0] for stream in streams]
    assert {(each.kind, each.data["scored"]) for each in found} == {("scores", 3)}
    assert cards == ["anna"] * made


async def test_an_erased_subject_is_told_once_and_leaves_no_name(followed: Followed) -> None:
    start = (await now(followed))[0].id
    stream, other = await opened(followed, "anna"), await opened(followed, "bert")
    followed.apply(reading("anna", 0), forecast("anna", 0), alerts("anna", 1), reading("bert", 0))
    before = (await some(stream, 3))[-1].id
    await some(other, 1)
    erased = {"status": "erased", "reading": None, "reason": "erased"}
    followed.apply(reading("anna", 9, **erased), (ALERTS_CHANGELOG.name, "anna", "anna", None))
    followed.apply(reading("anna", 1, status="rejected", code="erased", reading=None))
    found = await some(stream, 2)
    assert kinds(found) == ["reset", "reset"]
    assert found[0].data == {"subject_id": "anna", "reason": "the subject was erased"}
    assert not [row for row in followed.model._store.scan(b"") if b"anna" in row[0] + row[1]]
    assert kinds(await now(followed, "anna", last=before)) == ["", "reset"]
    assert kinds(await now(followed, last=start)) == ["", "reset"]
    assert kinds(await now(followed, "anna", last=found[-1].id)) == [""]


async def test_a_forecast_that_was_on_its_way_when_its_subject_was_erased_leaves_no_name(followed: Followed) -> None:
    followed.apply(reading("anna", 9, status="erased", reading=None, reason="erased"))
    topic, subject, key, row = forecast("anna", 0)
    followed.apply((topic, subject, key, row), forecast("bert", 0))
    followed.apply((topic, subject, key, None))
    assert not [row for row in followed.model._store.scan(b"v/") if b"anna" in row[1]]
    assert [event.subject_id for event in followed.model.events._events] == ["bert"]
    stream = await opened(followed, "anna")
    anew = forecast("anna", 0, made=1, began_ms=int((ISSUE + 10 * STEP).timestamp() * 1000))
    followed.apply((topic, subject, key, row), (topic, subject, key, None), anew)
    assert [each.data["chart_id"] for each in await some(stream, 1)] == [f"{1000:064x}"], "of a new beginning"


async def test_a_table_that_is_built_anew_ends_all_streams(followed: Followed) -> None:
    stream = await opened(followed, "anna")
    followed.apply(reading("anna", 0))
    last = (await some(stream, 1))[0].id
    stream = await opened(followed, "anna")
    followed.model.wipe()
    assert await some(stream, 1) == []
    assert kinds(await now(followed, "anna", last=last)) == ["", "reset"]


async def test_a_table_that_was_emptied_before_a_stream_began_tells_nothing(followed: Followed) -> None:
    """From where the log no longer goes it would pass by what comes."""
    followed.apply(reading("anna", 0))
    stream = followed.stream("anna")
    followed.model.wipe()
    followed.follower._has_caught_up = False  # it still says where it was, until it begins anew
    assert await some(stream, 1) == []


async def test_what_the_disk_refused_is_told_once_it_is_there(followed: Followed) -> None:
    stream = await opened(followed, "anna")
    large = reading("anna", 0, reason="x" * (1 << 20))
    ends = followed._ends.copy()
    with full_disk(), pytest.raises(StorageError, match="free some room"):
        followed.apply(large)
    followed._ends.update(ends)
    followed.apply(reading("anna", 1))
    found = await some(stream, 1)
    assert found[0].data["reading"]["glucose"] == 101, "what could not be written is not told"


def test_an_id_names_each_source_once() -> None:
    place = Place("0" * 8, {3: [1, 2, 3, 4, 5, 6], 0: [0] * 6})
    assert str(place) == "00000000.0-0-0-0-0-0-0.3-1-2-3-4-5-6"
    again = Place.parse(str(place))
    assert again is not None
    assert str(again) == str(place)
    assert len(SOURCES) == 6
    place.pass_by(5, 3, 9)
    place.pass_by(5, 3, 4)
    assert (place.next(5, 3), place.lacks(5, 3, 9), place.lacks(5, 3, 10), place.lacks(0, 1, 0)) == (
        10,
        False,
        True,
        False,
    )
    for wrong in ("00000000", "0000000.0-0-0-0-0-0-0", "00000000.0-0-0-0-0-0", "00000000.0--1-0-0-0-0-0", "\0"):
        assert Place.parse(wrong) is None, wrong


def test_an_outcome_that_is_told_is_one() -> None:
    assert ReadingOutcome.from_json(reading("anna", 0)[3]).reading is not None
