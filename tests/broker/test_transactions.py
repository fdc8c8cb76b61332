"""Producers with transactions: what they abort is never read, and their markers keep nobody waiting."""

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord, RecordMetadata

from deploy.bench.roles import Roles
from deploy.roles import variables
from query_api.follow import Follower
from query_api.read_model import ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.reading import ReadingOutcome
from schemas.upload import UploadOutcome
from streams.kafka.connection import new_consumer, producer_options
from streams.notify import webhook_file
from streams.notify.intake import GROUP
from streams.settings import Settings
from tests.kit.alerts import endpoint
from tests.kit.asking import get
from tests.kit.clients import Client
from tests.kit.waiting import until, until_async

SUBJECT = b"ada"
STALL_SECONDS = 5


def reading(minute: int) -> bytes:
    return b'{"subject_id": "ada", "time": "2026-01-01T08:%02d:00Z", "glucose": 110, "unit": "mg/dL"}' % minute


async def publish(settings: Settings, minutes: range, commit: bool) -> None:
    options = producer_options(settings) | {"acks": "all"}
    producer = AIOKafkaProducer(**options, transactional_id=f"test-{minutes.start}")
    await producer.start()
    try:
        await producer.begin_transaction()
        for minute in minutes:
            await producer.send_and_wait(topics.READINGS.name, reading(minute), key=SUBJECT)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_aborted_readings_are_not_read_and_markers_are_no_lag(shared_kafka: Settings, tmp_path: Path) -> None:
    """The worker ends itself after 5 s of lag without progress: it must not, though a marker is the log's last."""
    settings = shared_kafka
    environment = variables({"stall_seconds": STALL_SECONDS})
    with Roles(settings.broker, tmp_path / "roles", environment) as roles:
        client, worker = Client(settings), roles.worker("ingest")
        roles.wait_until_ready()
        asyncio.run(publish(settings, range(3), commit=True))
        asyncio.run(publish(settings, range(20, 24), commit=False))
        asyncio.run(publish(settings, range(40, 42), commit=True))
        asyncio.run(publish(settings, range(50, 51), commit=False))
        client.until(topics.READING_OUTCOMES.name, lambda found: len(_times(found)) >= 5)
        until(lambda: _lags(worker.url) and not any(_lags(worker.url)), "the worker reports no lag", 60)
        time.sleep(2 * STALL_SECONDS)
        assert worker.returncode is None, worker.log.read_text()[-2000:]
        minutes = [minute for minute in _times(client.records(topics.READING_OUTCOMES.name)) if minute is not None]
        assert sorted(minutes) == [0, 1, 2, 40, 41]


@pytest.mark.kafka
async def test_a_marker_behind_the_last_record_is_no_lag_of_the_api(shared_kafka: Settings, tmp_path: Path) -> None:
    settings = shared_kafka
    outcome = UploadOutcome(upload_id="c" * 64, status="rejected", reason="no")
    model = ReadModel(Store(tmp_path / "table", 1 << 20, 1 << 20), Subscriptions())
    follower = Follower(settings, model)
    running = asyncio.create_task(follower.run())
    try:
        await send(settings, topics.UPLOAD_OUTCOMES.name, outcome.upload_id, outcome.to_json())
        await until_async(lambda: model.uploads.upload("c" * 64), "the outcome is read")
        await follower.catch_up()  # asks Kafka: it answers 503 where the marker counts as a message
        assert follower.lag() == 0
    finally:
        running.cancel()
        await asyncio.wait([running])
        model.close()


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_a_marker_behind_the_last_record_is_no_lag_of_notify(shared_kafka: Settings, tmp_path: Path) -> None:
    file = tmp_path / "webhooks"
    webhook_file.add(file, endpoint(events=["alert"]))
    with Roles(shared_kafka.broker, tmp_path / "roles", {"GLUCAST_WEBHOOKS_FILE": str(file)}) as roles:
        notify = roles.notify()
        roles.wait_until_ready()
        outcome = ReadingOutcome(outcome_id="d" * 64, subject_id="grace", status="no_forecast")
        sent = asyncio.run(send(shared_kafka, topics.READING_OUTCOMES.name, outcome.subject_id, outcome.to_json()))
        until(lambda: asyncio.run(_is_read(shared_kafka, sent)), "notify has read the record", 60)
        until(lambda: _value(notify.url, "glucast_notify_lag") == 0, "notify reports no lag", 60)


async def send(settings: Settings, topic: str, key: str, value: bytes) -> RecordMetadata:
    """One record in a transaction of its own."""
    producer = AIOKafkaProducer(**producer_options(settings) | {"acks": "all"}, transactional_id=f"test-{topic}")
    await producer.start()
    try:
        async with producer.transaction():
            sent: RecordMetadata = await producer.send_and_wait(topic, value, key=key.encode())
        return sent
    finally:
        await producer.stop()


async def _is_read(settings: Settings, sent: RecordMetadata) -> bool:
    """Whether notify has committed the record."""
    consumer = new_consumer(settings, group_id=GROUP)
    await consumer.start()
    try:
        consumer.assign([sent.topic_partition])
        return (await consumer.committed(sent.topic_partition) or 0) > sent.offset
    finally:
        await consumer.stop()


def _value(url: str, metric: str) -> float:
    text = get(f"{url}/metrics").text
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{metric} "))


def _times(records: list[ConsumerRecord[bytes, bytes]]) -> list[int | None]:
    """The minutes of this test's outcomes: others have written to the same broker."""
    outcomes = (ReadingOutcome.from_json(record.value) for record in records)
    return [outcome.time and outcome.time.minute for outcome in outcomes if outcome.subject_id == SUBJECT.decode()]


def _lags(url: str) -> list[float]:
    """What the worker says of each partition that it consumes."""
    text = get(f"{url}/metrics").text
    return [float(line.split()[-1]) for line in text.splitlines() if line.startswith("glucast_lag{")]
