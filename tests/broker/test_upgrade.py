"""What version 0.1.0 left unread on the topic of all lanes is moved on, once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.bench.faults_audit import read_all
from schemas.errors import UnavailableError
from schemas.topics import FAN_CHARTS, FORECASTS
from streams.kafka.connection import connection_options, new_consumer, producer_options
from streams.kafka.provision import provision
from streams.kafka.upgrade import FORECASTS_BEFORE_LANES
from streams.settings import Settings
from streams.topology import app_id
from tests.kit.brokers import embedded, local_kafka


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with embedded(tmp_path) as settings:
        yield settings


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[Settings]:
    """One of its own: calc's group and the old topic are as no other test leaves them."""
    with local_kafka(tmp_path) as (_, settings):
        yield settings


async def written_by_0_1_0(settings: Settings, read: int) -> None:
    """Ten forecasts on the old topic, of which calc has read so many a partition."""
    admin = AIOKafkaAdminClient(**connection_options(settings))
    await admin.start()
    await admin.create_topics([NewTopic(FORECASTS_BEFORE_LANES, settings.partitions, 1)])
    await admin.close()
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    for number in range(10):
        await producer.send_and_wait(FORECASTS_BEFORE_LANES, b"%d" % number, key=b"ada", partition=number % 2)
    await producer.stop()
    consumer = new_consumer(settings, group_id=app_id("calc"))
    await consumer.start()
    consumer.assign([TopicPartition(FORECASTS_BEFORE_LANES, number) for number in range(2)])
    await consumer.commit({TopicPartition(FORECASTS_BEFORE_LANES, number): read for number in range(2)})
    await consumer.stop()


async def moved_once(settings: Settings) -> None:
    """Only what calc had not read, however often it is provisioned."""
    for _ in range(2):
        await provision(settings)
    moved = await read_all(settings, FORECASTS["backfill"].name)
    assert sorted(record.value or b"" for record in moved) == [b"6", b"7", b"8", b"9"]
    assert {record.key for record in moved} == {b"ada"}


async def test_only_what_calc_had_not_read_is_moved_and_only_once(settings: Settings) -> None:
    await written_by_0_1_0(settings, read=3)
    await moved_once(settings)


# Not on the embedded broker, which outlives no version and takes no commit for a group that ever had a member.
@pytest.mark.kafka
async def test_a_calc_worker_that_runs_is_named_and_nothing_is_passed_over(kafka: Settings) -> None:
    await written_by_0_1_0(kafka, read=3)
    running = new_consumer(kafka, group_id=app_id("calc"), session_timeout_ms=6000)
    running.subscribe([FAN_CHARTS.name])
    await running.start()
    try:
        with pytest.raises(UnavailableError, match="while no calc worker runs"):
            await provision(kafka)
        assert await read_all(kafka, FORECASTS["backfill"].name) == []
    finally:
        await running.stop()
    await moved_once(kafka)
