"""What the API knows of webhooks: the last step of each delivery, the newest hundred, and nothing of who was erased."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from query_api.key_file import Key
from query_api.projections import webhooks
from query_api.read_model import Entry, ReadModel
from query_api.routers.webhooks import deliveries
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.reading import ReadingOutcome
from schemas.topics import Topic
from schemas.webhook import Delivery, DeliveryStatus
from tests.kit.alerts import NOW, endpoint

MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ReadModel]:
    model = ReadModel(Store(tmp_path / "read-model", 1 << 20, 1 << 20), Subscriptions())
    yield model
    model.close()


def put(model: ReadModel, topic: Topic, *records: tuple[str, bytes | None]) -> None:
    """In one write, as the follower does."""
    model.apply([Entry(topic.name, 0, place, key.encode(), value) for place, (key, value) in enumerate(records)], {})
    assert model.skipped == 0


def delivery(number: int, status: DeliveryStatus = "queued", subject_id: str = "anna") -> tuple[str, bytes]:
    record = Delivery(
        delivery_id=f"{number:064x}", webhook_id="home", event_id=f"alert_{number}_raised", event_type="alert.raised",
        subject_id=subject_id, status=status, queued_at=NOW + number * MINUTE, updated_at=NOW + number * MINUTE,
        valid_until=NOW + number * MINUTE + 60 * MINUTE, body='{"glucose": 94}' if status == "queued" else None,
    )  # fmt: skip
    return subject_id, record.to_json()


def test_the_last_step_counts_and_what_has_ended_stays_so(model: ReadModel) -> None:
    put(model, topics.WEBHOOK_DELIVERIES, delivery(1), delivery(1, "failing"))
    assert [each.status for each in model.webhooks.deliveries("home")] == ["failing"]
    put(model, topics.WEBHOOK_DELIVERIES, delivery(1, "delivered"), delivery(1, "queued"))
    (told,) = model.webhooks.deliveries("home")
    assert (told.status, told.body) == ("delivered", None)


def test_what_is_sent_is_not_kept(model: ReadModel) -> None:
    put(model, topics.WEBHOOK_DELIVERIES, delivery(1))
    assert [each.body for each in model.webhooks.deliveries("home")] == [None]


def test_a_table_that_is_built_anew_has_what_comes_again(model: ReadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "KEPT", 2)
    put(model, topics.WEBHOOK_DELIVERIES, delivery(8), delivery(9))
    model.wipe()
    put(model, topics.WEBHOOK_DELIVERIES, delivery(1), delivery(2))
    assert [int(each.delivery_id, 16) for each in model.webhooks.deliveries("home")] == [2, 1]


def test_what_was_deleted_is_not_passed_again_for_each_delivery(
    model: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "KEPT", 3)
    put(model, topics.WEBHOOK_DELIVERIES, delivery(0))
    monkeypatch.setattr(Store, "scan", lambda *_: pytest.fail("all rows were looked through"))
    for number in range(1, 9):
        put(model, topics.WEBHOOK_DELIVERIES, delivery(number), delivery(number, "delivered"))
    assert [int(each.delivery_id, 16) for each in model.webhooks.deliveries("home")] == [8, 7, 6]


@pytest.mark.parametrize("together", [True, False])
def test_the_newest_are_kept(model: ReadModel, monkeypatch: pytest.MonkeyPatch, together: bool) -> None:
    monkeypatch.setattr(webhooks, "KEPT", 3)
    records = [delivery(number) for number in (5, 2, 4, 1, 3)]
    for some in [records] if together else [[each] for each in records]:
        put(model, topics.WEBHOOK_DELIVERIES, *some)
    assert [int(each.delivery_id, 16) for each in model.webhooks.deliveries("home")] == [5, 4, 3]


def test_a_webhook_that_is_removed_takes_its_deliveries_along(model: ReadModel) -> None:
    for name in ("home", "homestead"):
        put(model, topics.WEBHOOKS, (name, endpoint(name).public(None, NOW).to_json()))
    put(model, topics.WEBHOOK_DELIVERIES, delivery(1))
    assert [each.webhook_id for each in model.webhooks.all()] == ["home", "homestead"]
    put(model, topics.WEBHOOKS, ("home", None))
    assert model.webhooks.find("home") is None
    assert model.webhooks.deliveries("home") == []
    assert [each.webhook_id for each in model.webhooks.all()] == ["homestead"]


@pytest.mark.parametrize("is_read_first", [topics.WEBHOOKS, topics.WEBHOOK_DELIVERIES])
def test_a_name_that_leads_somewhere_else_now_shows_nothing_of_before(model: ReadModel, is_read_first: Topic) -> None:
    """Whatever a replica reads first, and with no tombstone between: compaction takes it away."""
    annas, bens = endpoint(subject_id="anna"), endpoint(subject_id="ben", added_at=NOW + 10 * MINUTE)
    states = [("home", annas.public(None, NOW).to_json()), ("home", bens.public(None, NOW + 10 * MINUTE).to_json())]
    steps = [delivery(1), delivery(11, "dropped"), delivery(2, subject_id="ben"), delivery(12, subject_id="ben")]
    for topic in (topics.WEBHOOKS, topics.WEBHOOK_DELIVERIES)[:: 1 if is_read_first is topics.WEBHOOKS else -1]:
        put(model, topic, *(states if topic is topics.WEBHOOKS else steps))
    assert [(each.subject_id, int(each.delivery_id, 16)) for each in model.webhooks.deliveries("home")] == [("ben", 12)]


async def test_a_key_of_one_person_sees_that_persons_deliveries_of_a_webhook(model: ReadModel) -> None:
    """The webhook of everybody that had the name before is one of earlier versions: nobody knows since when."""
    bens = endpoint(subject_id="ben").public(None, NOW).model_copy(update={"since": None})
    put(model, topics.WEBHOOKS, ("home", bens.to_json()))
    put(model, topics.WEBHOOK_DELIVERIES, delivery(1), delivery(2, subject_id="ben"))
    key = Key(name="ben", digest="0" * 64, subjects=("ben",))
    request = SimpleNamespace(scope={"key": key})
    told = await deliveries(request, SimpleNamespace(read_model=model), "home")  # type: ignore[arg-type]
    assert [each.subject_id for each in told.deliveries] == ["ben"]


def test_enabling_a_webhook_hides_nothing(model: ReadModel) -> None:
    one = endpoint().model_copy(update={"enabled_at": NOW + 10 * MINUTE})
    put(model, topics.WEBHOOKS, ("home", one.public(None, NOW + 10 * MINUTE).to_json()))
    put(model, topics.WEBHOOK_DELIVERIES, delivery(1))
    assert len(model.webhooks.deliveries("home")) == 1


def test_an_erased_person_is_in_no_delivery(model: ReadModel) -> None:
    put(model, topics.WEBHOOK_DELIVERIES, delivery(1), delivery(2, subject_id="bert"))
    erased = ReadingOutcome(outcome_id="a" * 64, subject_id="anna", status="erased", time=NOW + 2 * MINUTE)
    put(model, topics.READING_OUTCOMES, ("anna", erased.to_json()))
    assert [each.subject_id for each in model.webhooks.deliveries("home")] == ["bert"]
