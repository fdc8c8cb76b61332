"""The read model: one message's mistake is that message's alone, and standing still is not being caught up."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from query_api import follow
from query_api.follow import Follower
from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.errors import MalformedRecordError, StorageError
from schemas.upload import UploadOutcome
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS
from tests.kit.charts import fan_chart
from tests.kit.disks import LARGEST_BYTES, full_disk
from tests.kit.waiting import until_async


@pytest.fixture
def model(tmp_path: Path) -> ReadModel:
    return ReadModel(Store(tmp_path / "table", 1 << 20, 1 << 20), Subscriptions())


def entry(key: str, value: bytes | None, topic: str = CHART_CHANGELOGS["interactive"].name) -> Entry:
    return Entry(topic, 0, 0, key.encode(), value)


@pytest.mark.parametrize(
    "broken",
    [
        {"epoch_ms": 2**70},
        {"epoch_ms": -(2**70)},
        {"chart_id": "zz"},
        {"chart_id": 5},
        {"issue_time": None},
    ],
)
def test_a_broken_entry_is_skipped_whole_and_the_next_one_is_read(model: ReadModel, broken: dict[str, object]) -> None:
    good = fan_chart(series_key="eve", subject_id="eve").to_json()
    bad = json.dumps(json.loads(fan_chart().to_json()) | broken).encode()
    model.apply([entry("subject/anna/1/m", bad), entry("subject/eve/1/m", good)], {("t", 0): 2})
    assert model.fan_charts.latest("eve") is not None
    assert model.positions() == {("t", 0): 2}
    assert model.skipped == 1
    assert model.fan_charts.latest("anna") is None, "half of an entry was kept"
    assert list(model.fan_charts.history("anna", None, None)) == []


@pytest.mark.parametrize("odd", [{"epoch_ms": "1"}, {"issue_time": "9999-12-31T23:59:59-14:00"}])
def test_an_odd_entry_that_can_be_read_is_kept_whole(model: ReadModel, odd: dict[str, object]) -> None:
    value = json.dumps(json.loads(fan_chart().to_json()) | odd).encode()
    model.apply([entry("subject/anna/1/m", value)], {("t", 0): 1})
    assert model.skipped == 0
    assert model.fan_charts.latest("anna") is not None
    assert len(list(model.fan_charts.history("anna", None, None))) == 1


def test_an_outcome_of_numbers_that_no_reader_knows_does_not_spoil_its_handle(model: ReadModel) -> None:
    good = UploadOutcome(upload_id="a" * 64, status="accepted", handle="b" * 64, series_key="k", points=112)
    bad = good.to_json().replace(b'"points":112', b'"points":%d' % 10**400)
    topic = topics.UPLOAD_OUTCOMES.name
    model.apply([entry("a" * 64, bad, topic), entry("a" * 64, good.to_json(), topic)], {})
    stored = model.uploads.handle("b" * 64)
    assert (model.skipped, stored and stored.outcome.points) == (1, 112)


def test_a_time_that_no_clock_shows_is_no_record(model: ReadModel) -> None:
    outcome = UploadOutcome(upload_id="a" * 64, status="rejected", reason="no")
    value = json.dumps(json.loads(outcome.to_json()) | {"epoch_ms": 2**70}).encode()
    with pytest.raises(MalformedRecordError, match="between 1970 and 9999"):
        UploadOutcome.from_json(value)
    model.apply([entry("a" * 64, value, topics.UPLOAD_OUTCOMES.name)], {})
    assert (model.skipped, model.uploads.upload("a" * 64)) == (1, None)


def test_standing_still_behind_kafka_is_not_caught_up(model: ReadModel) -> None:
    follower = Follower(Settings(), model)
    follower._has_caught_up = True
    assert follower.caught_up
    follower._ends = {("t", 0): 5}  # type: ignore[dict-item]
    assert follower.caught_up, "it has only just fallen behind"
    follower._moved -= follow.STUCK_SECONDS + 1
    assert not follower.caught_up


async def test_who_asks_while_others_wait_for_the_ends_of_the_log_waits_for_newer_ones(
    model: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the answer to the others and this call something has come, and another replica has told of it."""
    follower, log = Follower(Settings(), model), TopicPartition("t", 0)
    follower._consumer, follower._next, follower.connected = SimpleNamespace(), {log: 1}, True  # type: ignore[assignment]
    questions: list[asyncio.Future[dict[TopicPartition, int]]] = []

    def ends(*_: object) -> asyncio.Future[dict[TopicPartition, int]]:
        questions.append(asyncio.get_running_loop().create_future())
        return questions[-1]

    monkeypatch.setattr(follow, "log_ends", ends)
    monkeypatch.setattr(follow, "PROBE_SECONDS", 30)
    async with asyncio.TaskGroup() as group:
        others = group.create_task(follower.catch_up(30))
        await until_async(lambda: len(questions) == 1, "the first question")
        late = [group.create_task(follower.catch_up(30)) for _ in range(2)]
        await asyncio.sleep(0)
        questions[0].set_result({log: 1})
        await others
        await until_async(lambda: len(questions) == 2, "a question of the late, one for both")
        questions[1].set_result({log: 2})
        await until_async(lambda: follower.lag() == 1, "its answer")
        assert not any(each.done() for each in late)
        follower._next[log] = 2
        await follower._advance()
    assert len(questions) == 2


def test_a_full_disk_leaves_what_was_committed_and_what_failed_is_applied_again_when_there_is_room(
    model: ReadModel,
) -> None:
    model.apply([entry("subject/anna/1/m", fan_chart().to_json())], {("t", 0): 1})
    large = fan_chart(series_key="eve", subject_id="eve", warnings=("x" * 2 * LARGEST_BYTES,)).to_json()
    with full_disk():
        for _ in range(2):
            with pytest.raises(StorageError, match=r"could not be written: .* free some room"):
                model.apply([entry("subject/eve/1/m", large)], {("t", 0): 2})
            assert (model.positions(), model.fan_charts.latest("eve")) == ({("t", 0): 1}, None)
            assert model.fan_charts.latest("anna") is not None
    model.apply([entry("subject/eve/1/m", large)], {("t", 0): 2})
    assert model.positions() == {("t", 0): 2}
    for subject in ("anna", "eve"):
        assert len(model.fan_charts.history(subject, None, None)) == 1
    model.close()
