"""A recording client: publishes to topics, and reads back everything that they hold."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from deploy.bench.faults_audit import read_all
from streams.kafka.connection import producer_options
from streams.settings import Settings
from tests.kit.waiting import until


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
        self, topic: str, enough: Callable[[list[ConsumerRecord[bytes, bytes]]], Any], seconds: float = 60
    ) -> list[ConsumerRecord[bytes, bytes]]:
        """Everything on a topic once `enough` of it is there; AssertionError after the deadline."""
        records: list[ConsumerRecord[bytes, bytes]] = []

        def held() -> Any:
            records[:] = self.records(topic)
            return enough(records)

        until(held, f"enough records on {topic}", seconds)
        return records
