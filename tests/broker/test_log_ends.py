"""The end of a log is the offset after its last record, however the records were batched, on both brokers."""

import asyncio

from aiokafka import AIOKafkaProducer, TopicPartition

from schemas.topics import DEMANDS
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.log_ends import log_ends
from streams.settings import Settings

TOPIC = DEMANDS
"""Nobody else writes to it on a shared broker."""


async def test_ends_count_every_record_of_the_last_batch(settings: Settings) -> None:
    producer = AIOKafkaProducer(**producer_options(settings))
    consumer = new_consumer(settings)
    await producer.start()
    await consumer.start()
    partitions = [TopicPartition(TOPIC.name, number) for number in range(settings.partitions)]
    try:
        expected = dict.fromkeys(partitions, 0)
        assert await log_ends(consumer, partitions) == expected
        for count in (1, 3, 50, 2):
            for partition in partitions[1:]:
                sends = [
                    await producer.send(partition.topic, b"x", partition=partition.partition) for _ in range(count)
                ]
                expected[partition] = (await asyncio.gather(*sends))[-1].offset + 1
            assert await log_ends(consumer, partitions) == expected
    finally:
        await consumer.stop()
        await producer.stop()
