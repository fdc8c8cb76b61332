"""A recording client: publishes to topics, and reads back everything that they hold."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from deploy.bench.faults_audit import read_all, read_on
from streams.kafka.connection import new_consumer, producer_options
from streams.settings import Settings
from tests.kit.waiting import until_async

NEWS_MILLISECONDS = 50
"""Who waits for records has the broker tell of the next one: between two looks lies at least so long."""

Enough = Callable[[list[ConsumerRecord[bytes, bytes]]], Any]


async def until_there(
    settings: Settings, topics: str | Sequence[str], enough: Enough, seconds: float = 60
) -> list[ConsumerRecord[bytes, bytes]]:
    """Everything on a topic, or on several together, once `enough` of it is there; AssertionError after the deadline.

    Each record is read once, however long it takes. `enough` is asked of all that is there at a time.
    """
    names = [topics] if isinstance(topics, str) else topics
    records: list[ConsumerRecord[bytes, bytes]] = []
    consumer = new_consumer(settings)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(name, number) for name in names for number in range(settings.partitions)])
        await consumer.seek_to_beginning()

        async def held() -> bool:
            for batch in (await consumer.getmany(timeout_ms=NEWS_MILLISECONDS)).values():
                records.extend(batch)
            records.extend(await read_on(consumer))
            return bool(enough(records))

        await until_async(held, f"enough records on {', '.join(names)}", seconds)
    finally:
        await consumer.stop()
    return records


class Client:
    """For tests that are not asynchronous themselves."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def publish(self, topic: str, messages: Iterable[tuple[bytes | None, bytes | None]]) -> int:
        """Publish (key, value) pairs, confirmed; returns how many."""

        async def run() -> int:
            producer = AIOKafkaProducer(**producer_options(self.settings))
            await producer.start()
            try:
                sent = [await producer.send(topic, value, key=key) for key, value in messages]
                await asyncio.gather(*sent)
            finally:
                await producer.stop()
            return len(sent)

        return asyncio.run(run())

    def records(self, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
        """Everything on a topic now."""
        return asyncio.run(read_all(self.settings, topic))

    def until(
        self, topics: str | Sequence[str], enough: Enough, seconds: float = 60
    ) -> list[ConsumerRecord[bytes, bytes]]:
        """`until_there`."""
        return asyncio.run(until_there(self.settings, topics, enough, seconds))
