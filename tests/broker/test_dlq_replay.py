"""A message that was too large for its letter is replayed from its topic as it was, headers included."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from agents.work import Failure, Message
from deploy.brokers.embedded import EmbeddedBroker
from schemas import topics
from streams import dead_letters, dlq
from streams.kafka.connection import producer_options
from streams.kafka.provision import provision
from streams.settings import Settings

LARGE = bytes(dead_letters.INLINE_BYTES + 1)


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Settings:
    return Settings(broker=broker.address, partitions=2)


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await provision(settings)
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    yield producer
    await producer.stop()


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"k", LARGE, [("timezone", b"UTC")]),
        (b"k" * 900_000, b"value", [("timezone", b"UTC")]),
    ],
    ids=["upload with headers", "bare letter with headers"],
)
async def test_a_message_is_replayed_as_it_was(
    settings: Settings, producer: AIOKafkaProducer, key: bytes, value: bytes, headers: list[tuple[str, bytes]]
) -> None:
    topic = topics.UPLOADS
    sent = await producer.send_and_wait(topic.name, value, key, 1, headers=headers)
    message = Message(topic=topic.name, partition=1, offset=sent.offset, key=key, value=value, headers=dict(headers))
    letter_key, letter = dead_letters.message_of(message, "unify", Failure("failed", "no", 3))
    await producer.send_and_wait(topics.DEAD_LETTERS.name, letter, letter_key)
    assert [item.sent for item in await dlq.replay(settings, None)] == [True]
    records = [record async for record in dlq._everything(settings, topic.name)]
    for record in records:
        assert (record.partition, record.key, record.value, list(record.headers)) == (1, key, value, headers)
    assert len(records) == 2
