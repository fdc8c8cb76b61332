"""The notify role as a process, on the embedded broker, with receivers that hang, fail and come back."""

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiomqtt import Client, MqttError
from standardwebhooks import Webhook as Verifier

from deploy.bench.roles import Place, Roles
from deploy.roles import variables
from schemas import topics
from schemas.alert import Alert
from schemas.fan_chart import FanChart
from schemas.reading import Reading, ReadingOutcome
from schemas.record import Record
from schemas.topics import Topic
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.log_ends import log_ends
from streams.notify import webhook_file
from streams.notify.home_assistant import ONLINE
from streams.notify.intake import GROUP, READ
from streams.settings import Settings
from tests.kit.alerts import alert, endpoint
from tests.kit.brokers import embedded
from tests.kit.charts import fan_chart
from tests.kit.keys import key_in, person_in
from tests.kit.mosquitto import PASSWORD, USER, Mosquitto, mosquitto
from tests.kit.query import serving
from tests.kit.receiver import NETWORK, Received, receiving
from tests.kit.waiting import until_async

MINUTE = datetime.timedelta(minutes=1)
BIRTH = "homeassistant/status"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with embedded(tmp_path) as settings:
        yield settings


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def raised(digit: str, **changes: object) -> Alert:
    return alert(alert_id=digit * 64, issue_time=now() - MINUTE, **changes)


def order(at: datetime.datetime) -> ReadingOutcome:
    return ReadingOutcome(outcome_id="b" * 64, subject_id="anna", status="reset", time=at)


async def publish(settings: Settings, *records: tuple[Topic, Record | bytes], key: bytes = b"anna") -> None:
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    try:
        for topic, record in records:
            value = record if isinstance(record, bytes) else record.to_json()
            await producer.send_and_wait(topic.name, value, key=key)
    finally:
        await producer.stop()


async def all_is_committed(settings: Settings) -> bool:
    """Whether the group has committed all that its topics hold."""
    consumer = new_consumer(settings, group_id=GROUP)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, number) for topic in READ for number in range(settings.partitions)]
        consumer.assign(partitions)
        ends = await log_ends(consumer, partitions)
        return all([(await consumer.committed(partition) or 0) >= end for partition, end in ends.items()])
    finally:
        await consumer.stop()


def ids(received: list[Received]) -> list[str]:
    return [each.headers["webhook-id"] for each in received]


def event_id(digit: str, status: str = "raised") -> str:
    return f"alert_{digit * 64}_{status}"


async def test_who_hangs_or_fails_delays_nobody_and_a_kill_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "webhooks"
    place = Place({"GLUCAST_WEBHOOKS_FILE": str(file), "GLUCAST_WEBHOOK_PRIVATE_NETWORKS": NETWORK})
    async with receiving() as good, receiving() as bad:
        for name, receiver in (("good", good), ("bad", bad)):
            to = endpoint(name, url=f"{receiver.url}/hook", subject_id="anna", added_at=now())
            webhook_file.add(file, to)
        bad.hangs = True
        with Roles(settings.broker, tmp_path / "roles", variables(environment(settings))) as roles:
            role = roles.notify(place=place)
            await asyncio.to_thread(roles.wait_until_ready)
            await publish(settings, (topics.ALERTS, raised("1")), (topics.ALERTS, b"{no alert"))
            await publish(settings, (topics.ALERTS, raised("8", subject_id="bert")), key=b"bert")
            await publish(settings, (topics.READING_OUTCOMES, order(now() - 60 * MINUTE)))
            await until_async(lambda: ids(good.accepted) == [event_id("1")] and bad.hanging, "one is told, one hangs")
            await until_async(partial(all_is_committed, settings), "all is committed while it hangs")

            role.kill()
            before = int((now() - 120 * MINUTE).timestamp() * 1000)
            await publish(settings, (topics.ALERTS, raised("7", began_ms=before)))
            await publish(settings, (topics.ALERTS, raised("2")), (topics.ALERTS, raised("3")))
            await publish(settings, (topics.ALERTS, raised("3", status="false")))
            bad.hangs, bad.statuses = False, [500]
            role.start_again()
            await until_async(lambda: event_id("2") in ids(good.accepted), "what came meanwhile is told")
            wanted = {event_id("1"), event_id("2"), event_id("3", "false")}
            await until_async(lambda: set(ids(bad.accepted)) == wanted, "who failed is told all")
            await until_async(lambda: set(ids(good.accepted)) >= wanted, "and who did not")
            assert not any("7" * 64 in each for each in ids(good.got)), "an order of before the kill is known"
            secrets = {each.name: each.secret for each in webhook_file.read(file)}
            for name, receiver in (("good", good), ("bad", bad)):
                secret = secrets[name]
                assert secret is not None
                for each in receiver.got:
                    Verifier(secret.get_secret_value()).verify(each.body, dict(each.headers))
            assert ids(bad.got)[0] in ids(bad.accepted), "what failed came again under its id"
            assert json.loads(good.got[0].body)["data"]["alert_id"] == "1" * 64
            await _answers(settings, tmp_path)

            webhook_file.remove(file, "bad")
            await until_async(lambda: "webhooks were read again" in role.log.read_text(), "the file is read again")
            await publish(settings, (topics.ALERTS, raised("4")))
            await until_async(lambda: event_id("4") in ids(good.accepted), "the other one is told")
            assert event_id("4") not in ids(bad.got)
            assert role.stop() == 0
            log = role.log.read_text()
    assert "anna" not in log
    assert "whsec" not in log
    assert "Traceback" not in log


def environment(settings: Settings) -> dict[str, object]:
    return {
        "session_timeout_seconds": settings.session_timeout_seconds, "heartbeat_seconds": settings.heartbeat_seconds,
        "rebalance_timeout_seconds": settings.rebalance_timeout_seconds,
        "static_membership": settings.static_membership, "partitions": settings.partitions, "log_format": "json",
    }  # fmt: skip


async def _answers(settings: Settings, home: Path) -> None:
    """What the API tells of it, and to whom."""
    keys = home / "keys"
    clinic, anna, bert = key_in(keys, "clinic"), person_in(keys, "anna"), person_in(keys, "bert")
    async with serving(settings.model_copy(update={"api_keys_file": keys}), home / "query") as client:

        async def asked(path: str, key: str) -> tuple[int, dict]:
            answer = await client.get(path, headers={"x-api-key": key})
            return answer.status_code, answer.json()

        async def told() -> bool:
            _, body = await asked("/webhooks/bad/deliveries", anna)
            delivered = [each["status"] for each in body["deliveries"]].count("delivered")
            return delivered == 3 and body["webhook"]["failing_since"] is None  # two topics: in no order

        await until_async(told, "the API knows what was delivered, and that it fails no more")
        status, body = await asked("/webhooks/bad/deliveries", anna)
        by_id = {each["event_id"]: each for each in body["deliveries"]}
        assert by_id[event_id("3")]["status"] == "expired"
        assert max(each["attempts"] for each in by_id.values()) >= 2
        assert all("body" not in each for each in body["deliveries"])
        assert status == 200
        for key in (clinic, anna):
            _, body = await asked("/webhooks", key)
            assert [each["webhook_id"] for each in body["webhooks"]] == ["bad", "good"]
            assert "/hook" not in json.dumps(body)
        assert await asked("/webhooks", bert) == (200, {"webhooks": []})
        status, body = await asked("/webhooks/bad/deliveries", bert)
        assert (status, body["code"]) == (404, "not_found")


async def test_displays_show_what_holds_and_know_when_the_process_is_gone(settings: Settings, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    with mosquitto(tmp_path / "mosquitto") as broker:
        place = Place(
            {
                "GLUCAST_MQTT_HOST": "127.0.0.1", "GLUCAST_MQTT_PORT": str(broker.port),
                "GLUCAST_MQTT_CA_FILE": str(broker.certificate), "GLUCAST_MQTT_USERNAME": USER,
                "GLUCAST_MQTT_PASSWORD_FILE": str(password), "GLUCAST_MQTT_SUBJECTS": "anna",
            }
        )  # fmt: skip
        with Roles(settings.broker, tmp_path / "roles", variables(environment(settings))) as roles:
            role = roles.notify(place=place)
            await asyncio.to_thread(roles.wait_until_ready)
            async with watching(broker) as seen:
                await until_async(lambda: seen.availability == "online", "it says that it is there")
                await publish(settings, *anna_now())
                await publish(settings, *anna_now("bert"), key=b"bert")
                wanted = {"glucose": 118, "median_60": 120, "alert": "ON", "alert_kind": "low"}
                await until_async(lambda: wanted.items() <= seen.state.items(), "her state, from three topics")
                assert len(seen.configs) == 9
                assert all(json.loads(each)["device"]["name"] == "glucast anna" for each in seen.configs.values())
                assert not any("bert" in topic for topic in seen.topics)

                role.kill()
                await until_async(lambda: seen.availability == "offline", "its last will")
                seen.state = {}
                role.start_again()
                await until_async(lambda: seen.availability == "online", "it is back")
                await until_async(lambda: seen.state.get("alert") == "ON", "what holds is known again")
                await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)
            async with watching(broker) as seen:
                await until_async(
                    lambda: seen.state.get("glucose") == 118 and len(seen.configs) == 9,
                    "connected again, after the broker's end",
                )
                erased = ReadingOutcome(outcome_id="e" * 64, subject_id="anna", status="erased", time=now())
                await publish(settings, (topics.READING_OUTCOMES, erased))
                await until_async(lambda: not any(seen.configs.values()), "her device goes")
            assert role.stop() == 0
            async with watching(broker) as seen:
                await until_async(lambda: seen.availability == "offline", "it has said that it goes")
                assert seen.configs == {}
            assert PASSWORD not in role.log.read_text()


class Seen:
    """What is published, retained messages first."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.availability = ""
        self.state: dict[str, object] = {}
        self.configs: dict[str, bytes] = {}

    def take(self, topic: str, payload: bytes) -> None:
        self.topics.add(topic)
        if topic.endswith("/availability"):
            self.availability = payload.decode()
        elif topic.endswith("/state"):
            self.state = json.loads(payload)
        elif topic != BIRTH:
            self.configs[topic] = payload


@contextlib.asynccontextmanager
async def watching(broker: Mosquitto) -> AsyncIterator[Seen]:
    """What the broker is told, kept up to date while the block runs and the broker does.

    It says that it begins, as Home Assistant does: what holds is not retained, and may have been told before.
    """
    seen = Seen()

    async def listen(client: Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            seen.take(str(message.topic), message.payload)

    with contextlib.suppress(MqttError):  # the broker was stopped meanwhile
        async with broker.listening("glucast/#", "homeassistant/#") as client:
            task = asyncio.create_task(listen(client))
            try:
                await client.publish(BIRTH, ONLINE, 1)
                yield seen
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def anna_now(subject_id: str = "anna") -> list[tuple[Topic, Record]]:
    """A reading, its forecast and an alert, all of now."""
    time = now() - MINUTE
    reading = Reading(subject_id=subject_id, time=time, glucose=118, unit="mg/dL")
    outcome = ReadingOutcome(
        outcome_id="a" * 64, subject_id=subject_id, status="forecast_requested", time=time, reading=reading
    )
    chart: FanChart = fan_chart(
        subject_id=subject_id, series_key=subject_id, issue_time=time, first_target_time=time + 5 * MINUTE
    )
    return [
        (topics.READING_OUTCOMES, outcome),
        (topics.FAN_CHARTS, chart),
        (topics.ALERTS, raised("1", subject_id=subject_id)),
    ]
