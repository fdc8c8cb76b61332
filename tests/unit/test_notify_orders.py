"""An order to forget somebody ends what came before it, on displays and for webhooks, and never what came after."""

import asyncio
import datetime
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiomqtt import MqttError

from schemas.reading import Reading, ReadingOutcome
from schemas.record import Record
from schemas.topics import ALERTS, FAN_CHARTS, READING_OUTCOMES, WEBHOOK_DELIVERIES, Topic
from schemas.webhook import FORGOTTEN, Delivery
from streams.kafka.fetched import Position
from streams.notify import intake as intake_module
from streams.notify.events import event_of_alert
from streams.notify.intake import READ, TAIL, Intake
from streams.notify.mqtt import MqttPublisher
from streams.notify.outbox import Outbox
from streams.notify.people import People
from streams.notify_settings import NotifySettings
from streams.settings import Settings
from tests.kit.alerts import NOW, alert, endpoint
from tests.kit.charts import fan_chart

MINUTE = datetime.timedelta(minutes=1)
HOUR = 60 * MINUTE
TOLD = ("alert.raised", "queued")
NO_READINGS = {"kind": "stale_data", "threshold_mgdl": None, "probability": None, "horizon_minutes": None}


def ms(at: datetime.datetime) -> int:
    return int(at.timestamp() * 1000)


def reading(at: datetime.datetime, glucose: float = 62) -> ReadingOutcome:
    said = Reading(subject_id="anna", time=at, glucose=glucose, unit="mg/dL")
    return ReadingOutcome(outcome_id="a" * 64, subject_id="anna", status="forecast_requested", time=at, reading=said)


def order(at: datetime.datetime, status: str = "reset") -> ReadingOutcome:
    return ReadingOutcome.model_validate({"outcome_id": "b" * 64, "subject_id": "anna", "status": status, "time": at})


class Topics:
    """What the topics hold of one partition, and an intake that reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: dict[str, list[Any]] = {
            topic.name: [] for topic in (ALERTS, FAN_CHARTS, READING_OUTCOMES, WEBHOOK_DELIVERIES)
        }
        self.outbox, self.people, self.shown = Outbox(10), People(["anna"]), list[tuple[str, bool]]()
        self.made: list[Delivery] = []
        to = endpoint(added_at=NOW - 48 * HOUR)
        self.intake = Intake(
            Settings(), self.outbox, self.people, lambda: [to], self.publish, self.released,
            lambda whose, forget: self.shown.append((whose, forget)),
        )  # fmt: skip
        monkeypatch.setattr(intake_module, "everything", self.everything)
        monkeypatch.setattr(intake_module, "log_ends", self.ends)
        monkeypatch.setattr(intake_module, "utc_now", lambda: NOW)

    async def publish(self, _: Any) -> None:
        """Nothing is kept."""

    def released(self, _: Iterable[str]) -> None:
        """Nobody sends."""

    async def everything(self, _: Settings, topic: str, **options: Any) -> AsyncIterator[Any]:
        for record in self.held[topic][-(options.get("last") or 1000) :]:
            yield record

    async def ends(self, _: Any, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: len(self.held[partition.topic]) for partition in partitions}

    def add(self, topic: Topic, value: Record, at: datetime.datetime) -> Any:
        offset = len(self.held[topic.name])
        record = SimpleNamespace(
            topic=topic.name, partition=0, offset=offset, key=b"anna", value=value.to_json(), timestamp=ms(at)
        )
        self.held[topic.name].append(record)
        return record

    def take_over(self) -> None:
        consumer = SimpleNamespace(assignment=lambda: {TopicPartition(ALERTS.name, 0)})
        asyncio.run(self.intake._take_over(consumer))

    def restart(self) -> None:
        """Another process has the partition, and then this one again: it finds what was made until now."""
        asyncio.run(self.intake.on_partitions_revoked([TopicPartition(ALERTS.name, 0)]))
        self.held[WEBHOOK_DELIVERIES.name].clear()
        for each in self.made:
            self.add(WEBHOOK_DELIVERIES, each, NOW)
        self.take_over()

    def read(self, *records: Any) -> list[tuple[str, str, str | None]]:
        made = [each for record in records for each in self.intake.plan(record, NOW)]
        self.made += made
        self.outbox.release(made)
        return [(each.event_type, each.status, each.reason) for each in made]

    def state(self) -> dict[str, Any]:
        person = self.people.find("anna")
        return {} if person is None else person.state(NOW, "mg/dL")


def _publisher(topics: Topics) -> MqttPublisher:
    settings = NotifySettings(mqtt_host="localhost", mqtt_subjects=["anna"], mqtt_tls=False)
    return MqttPublisher(settings, topics.people, 0)


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    return Topics(monkeypatch)


def test_who_starts_again_shows_an_alert_that_was_raised_after_a_reset(topics: Topics) -> None:
    """Topics are read one after the other, so that the order comes behind the alert."""
    topics.add(READING_OUTCOMES, reading(NOW - 11 * HOUR, 250), NOW - 11 * HOUR)
    topics.add(READING_OUTCOMES, order(NOW - 10 * HOUR), NOW - 10 * HOUR)
    topics.add(READING_OUTCOMES, reading(NOW - MINUTE), NOW - MINUTE)
    topics.add(ALERTS, alert(kind="urgent_low", threshold_mgdl=54.0, issue_time=NOW - 2 * MINUTE), NOW - 2 * MINUTE)
    began_ms = int((NOW - MINUTE).timestamp() * 1000)
    topics.add(FAN_CHARTS, fan_chart(issue_time=NOW - MINUTE, began_ms=began_ms), NOW - MINUTE)
    topics.take_over()
    state = topics.state()
    assert (state["glucose"], state["alert_kind"], state["median_60"]) == (62, "urgent_low", 120)
    assert topics.shown[-1] == ("anna", False)
    topics.read(*topics.held[READING_OUTCOMES.name])
    assert topics.state() == state, "it is read again from the committed offset, and was shown already"


@pytest.mark.parametrize("is_order_first", [True, False])
@pytest.mark.parametrize("status", ["reset", "erased"])
def test_what_came_before_an_order_is_shown_by_no_display(topics: Topics, is_order_first: bool, status: str) -> None:
    began_ms = int((NOW - 3 * MINUTE).timestamp() * 1000)
    before = [
        topics.add(ALERTS, alert(issue_time=NOW - 3 * MINUTE), NOW - 3 * MINUTE),
        topics.add(ALERTS, alert(alert_id="8" * 64, issue_time=NOW - 3 * MINUTE, began_ms=began_ms), NOW),
        topics.add(FAN_CHARTS, fan_chart(issue_time=NOW - 3 * MINUTE, began_ms=began_ms), NOW),
    ]
    topics.read(topics.add(READING_OUTCOMES, reading(NOW - 3 * MINUTE), NOW - 3 * MINUTE))
    ordered = topics.add(READING_OUTCOMES, order(NOW - 2 * MINUTE, status), NOW - 2 * MINUTE)
    topics.read(*([ordered, *before] if is_order_first else [*before, ordered]))
    assert topics.state() == {}
    topics.read(topics.add(READING_OUTCOMES, reading(NOW - MINUTE), NOW - MINUTE))
    state = topics.state()
    assert (state["glucose"], state["trend"]) == (62, "NOT COMPUTABLE")
    assert (state["alert"], state["median_60"]) == ("OFF", None)


@pytest.mark.parametrize("is_order_first", [True, False])
def test_a_webhook_is_told_of_what_came_after_a_reset_and_of_nothing_before(
    topics: Topics, is_order_first: bool
) -> None:
    """All of it waited while the role was away: it is planned at one time, whenever it came."""
    before = topics.add(ALERTS, alert(alert_id="8" * 64, issue_time=NOW - 5 * MINUTE), NOW - 5 * MINUTE)
    after = topics.add(ALERTS, alert(**NO_READINGS, issue_time=NOW - 3 * MINUTE), NOW - 3 * MINUTE)
    ordered = topics.add(READING_OUTCOMES, order(NOW - 4 * MINUTE), NOW - 4 * MINUTE)
    made = topics.read(*([ordered, before, after] if is_order_first else [before, after, ordered]))
    dropped = [] if is_order_first else [("alert.raised", "queued", None), ("alert.raised", "dropped", FORGOTTEN)]
    assert sorted(made, key=str) == sorted([*dropped, ("alert.raised", "queued", None)], key=str)
    assert topics.outbox.count() == 1
    waits = topics.outbox.next("home")
    assert waits is not None
    assert waits.delivery.event_id == f"alert_{'9' * 64}_raised"


@pytest.mark.parametrize("came", ["in its turn", "last", "before a restart"])
def test_an_alert_that_is_raised_again_after_a_reset_is_told(topics: Topics, came: str) -> None:
    """The readings came again, and the alert is of the same time: it had the same id, and was known to be told."""
    at = [NOW - minutes * MINUTE for minutes in (6, 5, 4, 3)]
    urgent = {"kind": "urgent_low", "threshold_mgdl": 54.0, "issue_time": at[0]}
    before = topics.add(ALERTS, alert(**urgent, began_ms=ms(at[0])), at[0])
    ordered = topics.add(READING_OUTCOMES, order(at[1]), at[1])
    again = topics.add(ALERTS, alert(**urgent, began_ms=ms(at[2])), at[2])
    late = topics.add(ALERTS, alert(**urgent | {"status": "false"}, began_ms=ms(at[0])), at[3])
    topics.read(*([before, again, late, ordered] if came == "last" else [before, ordered, again]))
    if came == "before a restart":
        topics.restart()
    topics.read(again, late)
    assert topics.outbox.count() == 1, "it comes twice, and what became of the one before the reset does not end it"
    assert [each.event_id for each in topics.made if (each.event_type, each.status) == TOLD] == [
        f"alert_{'9' * 64}_raised_{ms(began)}" for began in (at[0], at[2])
    ]
    assert topics.state()["alert_kind"] == "urgent_low"


def test_an_order_is_known_to_whoever_starts_again(topics: Topics) -> None:
    """It was committed by the process before; what began before it is published only now."""
    ordered = topics.add(READING_OUTCOMES, order(NOW - 4 * HOUR, "erased"), NOW - 4 * HOUR)
    topics.read(ordered)
    for place in range(TAIL):
        at = NOW - 3 * HOUR + place * MINUTE / 10
        topics.add(READING_OUTCOMES, reading(at).model_copy(update={"subject_id": "bert"}), at)
    topics.restart()
    began_ms = ms(NOW - 5 * HOUR)
    before = [
        topics.add(FAN_CHARTS, fan_chart(issue_time=NOW, began_ms=began_ms), NOW),
        topics.add(ALERTS, alert(**NO_READINGS, began_ms=began_ms), NOW),
    ]
    assert topics.read(*before) == []
    assert topics.read(topics.add(ALERTS, alert(**NO_READINGS), NOW)) == [("alert.raised", "queued", None)]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_after_a_reset_forecasts_of_an_earlier_time_are_told(topics: Topics, is_restarted: bool) -> None:
    """They were older than what the reset had ended; and one that came late, of before it, ended a good one."""
    at = [NOW - minutes * MINUTE for minutes in (4, 3, 2, 1)]
    ended = topics.add(FAN_CHARTS, fan_chart(chart_id="1" * 64, issue_time=NOW, began_ms=ms(at[0])), at[0])
    ordered = topics.add(READING_OUTCOMES, order(at[1]), at[1])
    earlier = topics.add(
        FAN_CHARTS, fan_chart(chart_id="2" * 64, issue_time=NOW - 5 * MINUTE, began_ms=ms(at[2])), at[2]
    )
    late = topics.add(FAN_CHARTS, fan_chart(chart_id="3" * 64, issue_time=NOW, began_ms=ms(at[0])), at[3])
    told = [("forecast.issued", "queued", None)]
    assert topics.read(ended, ordered) == [*told, ("forecast.issued", "dropped", FORGOTTEN)]
    if is_restarted:
        topics.restart()
    assert topics.read(earlier) == told
    assert topics.read(late) == []
    assert topics.outbox.count() == 1


def test_a_delivery_that_was_restored_is_ended_by_an_order_after_its_alert_alone() -> None:
    other, made = Outbox(10), list[Delivery]()
    for digit, minutes in (("8", 5), ("9", 3)):
        event = event_of_alert(alert(alert_id=digit * 64), NOW - minutes * MINUTE)
        made += Outbox(10).plan(event, 0, [endpoint()], NOW)
    other.restore(0, made, NOW)
    (gone,) = other.erase("anna", NOW - 4 * MINUTE, 0, NOW)
    assert gone.event_id == f"alert_{'8' * 64}_raised"
    assert other.count() == 1


def test_an_order_of_a_clock_that_is_ahead_ends_nothing_that_comes_after_it(topics: Topics) -> None:
    topics.read(topics.add(READING_OUTCOMES, order(NOW + HOUR), NOW - 4 * MINUTE))
    topics.read(topics.add(READING_OUTCOMES, reading(NOW - 3 * MINUTE), NOW - 3 * MINUTE))
    topics.read(topics.add(ALERTS, alert(issue_time=NOW - 3 * MINUTE), NOW - 3 * MINUTE))
    assert topics.state()["alert"] == "ON"
    assert topics.outbox.count() == 1


def test_what_a_clock_that_is_behind_stamps_is_of_when_its_reading_came(topics: Topics) -> None:
    """The order and the reading have the broker's time, and what is made of them that of who makes it."""
    topics.read(topics.add(READING_OUTCOMES, order(NOW - 4 * MINUTE), NOW - 4 * MINUTE))
    began_ms, stamped = ms(NOW - 3 * MINUTE), NOW - 6 * MINUTE
    topics.read(topics.add(ALERTS, alert(began_ms=began_ms), stamped))
    topics.read(topics.add(FAN_CHARTS, fan_chart(issue_time=NOW - 3 * MINUTE, began_ms=began_ms), stamped))
    assert (topics.state()["alert"], topics.state()["median_60"]) == ("ON", 120)
    assert topics.outbox.count() == 2


@pytest.mark.parametrize(("reads_on", "is_taken_away"), [(True, False), (False, True)])
def test_a_device_whose_readings_began_again_is_not_taken_away(
    topics: Topics, reads_on: bool, is_taken_away: bool
) -> None:
    """Home Assistant would lose it at each start, as long as the order is among what is looked at."""
    publisher = _publisher(topics)
    publisher.erased("anna")
    topics.read(topics.add(READING_OUTCOMES if reads_on else ALERTS, reading(NOW) if reads_on else alert(), NOW))
    publisher.changed("anna")
    assert bool(publisher._erased) is is_taken_away


@pytest.mark.parametrize(
    ("history", "is_shown"),
    [
        (["reading", "alert"], True),
        (["reading", "alert", "over"], False),
        (["reading", "alert", "erased"], False),
        (["reading", "erased", "alert"], False),  # which calc still had in hand
        (["reading", "reset", "alert"], True),
        (["refused"], False),
    ],
)
def test_who_starts_again_shows_that_no_readings_come_however_long_ago_the_last_was(
    topics: Topics, monkeypatch: pytest.MonkeyPatch, history: list[str], is_shown: bool
) -> None:
    """More outcomes of others have come since than are looked at for readings."""
    now = datetime.datetime.now(datetime.UTC)
    monkeypatch.setattr(intake_module, "utc_now", lambda: now)
    for minutes, what in zip((40, 20, 15), history, strict=False):
        at = now - minutes * MINUTE
        if what in ("alert", "over"):
            no_readings = NO_READINGS | ({"status": "ended"} if what == "over" else {})
            topics.add(ALERTS, alert(**no_readings, issue_time=at), at)
        elif what in ("erased", "reset"):
            topics.add(READING_OUTCOMES, order(at, what), at)
        else:
            topics.add(READING_OUTCOMES, reading(at), at)
    for _ in range(TAIL):
        topics.add(READING_OUTCOMES, reading(now).model_copy(update={"subject_id": "bert"}), now)
    if history == ["refused"]:
        topics.add(READING_OUTCOMES, reading(now).model_copy(update={"status": "rejected"}), now)
    publisher = _publisher(topics)
    published: dict[str, bytes] = {}

    async def publish(topic: str, payload: bytes, *_: Any, **__: Any) -> None:
        published[topic] = payload

    topics.take_over()
    asyncio.run(publisher._publish(SimpleNamespace(publish=publish), "anna"))  # type: ignore[arg-type]
    if not is_shown:
        assert published == {}, "nor is a device announced"
        return
    state = json.loads(published["glucast/anna/state"])
    assert (state["alert"], state["alert_kind"], state["glucose"]) == ("ON", "stale_data", None)
    assert len(published) == 10


def test_a_device_that_another_process_had_meanwhile_is_made_known_again(topics: Topics) -> None:
    """That one has made it known as its own: when it goes, Home Assistant takes the device for unavailable."""
    publisher, published = _publisher(topics), list[str]()

    async def publish(topic: str, *_: Any, **__: Any) -> None:
        published.append(topic)

    def told() -> int:
        """How many messages."""
        published.clear()
        asyncio.run(publisher._publish(SimpleNamespace(publish=publish), "anna"))  # type: ignore[arg-type]
        return len(published)

    topics.read(topics.add(READING_OUTCOMES, reading(NOW), NOW))
    assert (told(), told()) == (10, 1)
    topics.restart()
    assert (told(), told()) == (10, 1)


def test_the_last_will_of_a_process_before_makes_nothing_unavailable(topics: Topics) -> None:
    """A host that has lost its network: the broker gives up the old connection when the new one is there already."""
    publisher, published = _publisher(topics), list[tuple[str, str]]()

    async def publish(topic: str, payload: str, *_: Any, **__: Any) -> None:
        published.append((topic, payload))

    async def messages() -> AsyncIterator[Any]:
        for payload in (b"online", b"offline", b"online"):
            yield SimpleNamespace(topic="glucast/notify-0/availability", payload=payload)

    client: Any = SimpleNamespace(messages=messages(), publish=publish)
    with pytest.raises(MqttError):
        asyncio.run(publisher._listen(client))
    assert published == [("glucast/notify-0/availability", "online")]


def test_who_was_erased_while_nobody_read_is_taken_away_however_much_came_since(topics: Topics) -> None:
    topics.add(READING_OUTCOMES, order(NOW - HOUR, "erased"), NOW - HOUR)
    for _ in range(TAIL):
        topics.add(READING_OUTCOMES, reading(NOW).model_copy(update={"subject_id": "bert"}), NOW)
    topics.take_over()
    assert topics.shown == [("anna", True)]


class Consumer:
    """Hands out one list of records a poll, as one that has joined its group."""

    def __init__(self, topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics, self.records, self.reached = topics, list[Any](), dict[TopicPartition, Position]()
        self.lost_from: int | None = None
        monkeypatch.setattr(intake_module, "positions", lambda _: self.reached)

    def poll(self, *records: Any) -> list[str]:
        """What may be sent afterwards."""
        self.records = list(records)
        asyncio.run(self.topics.intake._poll(self))  # type: ignore[arg-type]
        waiting = self.topics.outbox._waiting.get("home", {})
        return [item.delivery.event_type for item in waiting.values() if not item.held]

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(topic.name, 0) for topic in READ}

    def highwater(self, partition: TopicPartition) -> int | None:
        return self.lost_from

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        found: dict[TopicPartition, list[Any]] = {}
        for record in self.records:
            place = TopicPartition(record.topic, 0)
            found.setdefault(place, []).append(record)
            self.reached[place] = Position(record.offset + 1, -1)
        return found

    async def commit(self, _: Any) -> None:
        """Nobody else is there."""

    async def start(self) -> None:
        """It has joined already."""

    async def stop(self) -> None:
        """Nobody is told."""

    def subscribe(self, *_: Any, **__: Any) -> None:
        """To what it reads."""


RESUMED = {**NO_READINGS, "status": "ended", "reason": "the sensor is heard of again, after 31 min"}


@pytest.mark.parametrize(
    ("is_ended_by", "is_sent"),
    [("its end", ["alert.ended"]), ("an erase", []), ("nothing", ["alert.raised"]), ("a lost end", ["alert.raised"])],
)
@pytest.mark.parametrize("was_queued", [True, False])
def test_nothing_is_sent_before_what_ended_it_while_nobody_read(
    monkeypatch: pytest.MonkeyPatch, was_queued: bool, is_ended_by: str, is_sent: list[str]
) -> None:
    """Raised 3 h ago; queued by the process that was stopped then, or read after the start like all that came since."""
    topics = Topics(monkeypatch)
    consumer = Consumer(topics, monkeypatch)
    raised = topics.add(ALERTS, alert(**NO_READINGS, issue_time=NOW - 3 * HOUR), NOW - 3 * HOUR)
    if was_queued:
        before = Outbox(10)
        (queued,) = before.plan(
            event_of_alert(alert(**NO_READINGS, issue_time=NOW - 3 * HOUR), NOW - 3 * HOUR), 0,
            [endpoint(added_at=NOW - 48 * HOUR)], NOW - 3 * HOUR,
        )  # fmt: skip
        topics.add(WEBHOOK_DELIVERIES, queued, NOW - 3 * HOUR)
    chart = topics.add(FAN_CHARTS, fan_chart(subject_id="bert", issue_time=NOW - HOUR), NOW - HOUR)
    end = [
        *([topics.add(ALERTS, alert(**RESUMED), NOW - 2 * HOUR)] if is_ended_by == "its end" else []),
        *([topics.add(READING_OUTCOMES, order(NOW - 2 * HOUR, "erased"), NOW)] if is_ended_by == "an erase" else []),
    ]
    if is_ended_by == "a lost end":
        topics.held[ALERTS.name] += [raised] * 7  # so far the log went when it was taken over
        consumer.lost_from = 1
    assert consumer.poll(chart) == []
    late = topics.add(ALERTS, alert(alert_id="8" * 64, issue_time=NOW), NOW)
    assert consumer.poll(raised) == ([] if end else is_sent)
    assert consumer.poll(*end) == is_sent
    assert consumer.poll(late) == [*is_sent, "alert.raised"], "from here on nothing waits for what is not read yet"


def test_an_alert_waits_for_no_forecasts_that_came_while_nobody_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end none; a forecast waits, for a newer one may."""
    topics = Topics(monkeypatch)
    consumer = Consumer(topics, monkeypatch)
    charts = [
        topics.add(FAN_CHARTS, fan_chart(chart_id=digit * 64, issue_time=NOW - minutes * MINUTE), NOW)
        for digit, minutes in (("1", 5), ("2", 0))
    ]
    raised = topics.add(ALERTS, alert(), NOW)
    assert consumer.poll(charts[0], raised) == ["alert.raised"]
    assert consumer.poll(charts[1]) == ["alert.raised", "forecast.issued"]


def test_who_takes_over_may_read_for_longer_than_nothing_may_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days of forecasts lie on the topic: with a limit on all of it, it would start again and again."""
    topics = Topics(monkeypatch)
    consumer = Consumer(topics, monkeypatch)
    before = Outbox(10)
    (queued,) = before.plan(event_of_alert(alert(issue_time=NOW), NOW), 0, [endpoint(added_at=NOW - HOUR)], NOW)
    for _ in range(6):
        topics.add(WEBHOOK_DELIVERIES, queued, NOW)
    here, passed = topics.everything, 0.0

    async def slowly(settings: Settings, topic: str, **options: Any) -> AsyncIterator[Any]:
        nonlocal passed
        async for record in here(settings, topic, **options):
            passed += 0.9 * settings.stall_seconds
            await asyncio.sleep(0)
            yield record

    monkeypatch.setattr(intake_module, "everything", slowly)
    monkeypatch.setattr(intake_module, "new_consumer", lambda *_, **__: consumer)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + passed)
        reading = asyncio.create_task(topics.intake.run())
        while not reading.done() and not topics.outbox.count():  # noqa: ASYNC110 - a question to the outbox
            await asyncio.sleep(0)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading

    asyncio.run(run())
    assert topics.outbox.count() == 1
