import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.brokers.local_kafka import LocalKafka
from schemas.topics import READINGS, TOPICS, UPLOADS
from streams.kafka import provision
from streams.kafka.connection import producer_options
from streams.kafka.whole_topics import everything
from streams.settings import Settings
from tests.kit.brokers import end, kafka_home, soon_forgotten
from tests.kit.waiting import until_async

pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def quickly() -> Iterator[None]:
    with soon_forgotten():
        yield


async def test_what_was_confirmed_survives_a_crash_and_a_start_on_other_ports(tmp_path: Path) -> None:
    home = kafka_home()
    broker = LocalKafka(tmp_path, home)
    broker.start()
    try:
        settings = Settings(broker=broker.address, partitions=2)
        await provision.provision(settings)
        large = b"x" * (UPLOADS.max_message_bytes - 100_000)
        await _produce(settings, UPLOADS.name, large)
        broker.kill()
    finally:
        broker.stop()
    assert broker.returncode() == -signal.SIGKILL

    again = LocalKafka(tmp_path, home)
    again.start()
    try:
        settings = Settings(broker=again.address, partitions=2)
        assert await provision.check(settings) == []
        assert [record.value async for record in everything(settings, UPLOADS.name)] == [large]
        await _changed_settings_are_found_and_corrected(settings)
        await _the_broker_says_when_a_message_came(settings)
    finally:
        end(again)


async def _changed_settings_are_found_and_corrected(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    changed = {"retention.ms": "1000", "min.compaction.lag.ms": "7", "max.message.bytes": "99000000",
               "message.timestamp.type": "CreateTime"}  # fmt: skip
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, READINGS.name, changed)])
    await admin.close()
    found = await until_async(partial(provision.check, settings), "the broker shows the changed settings", 20)
    assert [str(mismatch) for mismatch in found] == [
        "cgm.readings: retention.ms is 1000, it has to be at least 604800000",
        "cgm.readings: segment.ms is 604800000, it has to be at most 86400000",
        "cgm.readings: message.timestamp.type is CreateTime, it has to be LogAppendTime",
    ]
    assert (await provision.provision(settings)).altered == (READINGS.name,)
    assert await provision.check(settings) == []
    async with provision._Admin(settings) as wrapped:
        overrides = (await wrapped.describe([READINGS.name]))[READINGS.name].overrides
    assert overrides["min.compaction.lag.ms"] == "7", "what somebody else has set stays"


async def _the_broker_says_when_a_message_came(settings: Settings) -> None:
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    try:
        for topic in (topic for topic in TOPICS if topic.stamped):
            sent = await producer.send_and_wait(topic.name, b"x", b"key", 1, timestamp_ms=4_102_444_800_000)
            assert abs(sent.timestamp / 1000 - time.time()) < 60, topic.name
            *_, kept = [record async for record in everything(settings, topic.name)]
            assert kept.timestamp == sent.timestamp
    finally:
        await producer.stop()


async def _produce(settings: Settings, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, b"key")
    finally:
        await producer.stop()
