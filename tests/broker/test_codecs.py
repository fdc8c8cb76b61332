"""Whatever codec a producer compresses with: no message of any topic stops who reads it."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.bench.faults_audit import read_all
from deploy.bench.roles import Roles
from deploy.brokers.embedded import EmbeddedBroker
from deploy.roles import variables
from schemas import topics
from schemas.reading import ReadingOutcome
from streams.kafka.connection import producer_options
from streams.settings import Settings
from tests.kit.brokers import embedded
from tests.kit.clients import Client

CODECS = ("gzip", "snappy", "lz4", "zstd")


async def publish(settings: Settings, codec: str, messages: list[tuple[str, bytes, bytes]]) -> None:
    producer = AIOKafkaProducer(**producer_options(settings), compression_type=codec)
    await producer.start()
    try:
        for topic, key, value in messages:
            await producer.send_and_wait(topic, value, key=key)
    finally:
        await producer.stop()


def test_every_codec_on_every_topic_is_read(tmp_path: Path) -> None:
    with embedded(tmp_path) as settings:
        for codec in CODECS:
            value = codec.encode() * 1000
            asyncio.run(publish(settings, codec, [(topic.name, b"key", value) for topic in topics.TOPICS]))
        for topic in topics.TOPICS:
            records = asyncio.run(read_all(settings, topic.name))
            assert sorted(record.value or b"" for record in records) == sorted(c.encode() * 1000 for c in CODECS), topic


@pytest.mark.timeout(300)
def test_readings_of_every_codec_get_their_outcomes(tmp_path: Path) -> None:
    with (
        embedded(tmp_path) as settings,
        Roles(settings.broker, tmp_path / "roles", variables(EmbeddedBroker.settings_overrides)) as roles,
    ):
        worker = roles.worker("ingest")
        roles.wait_until_ready()
        for number, codec in enumerate(CODECS):
            reading = b'{"subject_id": "%s", "time": "2026-01-01T08:0%d:00Z", "glucose": 110, "unit": "mg/dL"}'
            message = (topics.READINGS.name, codec.encode(), reading % (codec.encode(), number))
            asyncio.run(publish(settings, codec, [message]))
        records = Client(settings).until(topics.READING_OUTCOMES.name, lambda found: len(found) >= len(CODECS))
        assert {ReadingOutcome.from_json(record.value).subject_id for record in records} == set(CODECS)
        assert worker.returncode is None
