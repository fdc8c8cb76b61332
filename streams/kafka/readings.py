"""Readings onto their topic by processes of ours that are no step: bridges and simulated people."""

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer

from schemas.event import message_event
from schemas.reading import Reading
from schemas.topics import READINGS


async def send_readings(producer: AIOKafkaProducer, readings: Iterable[Reading], source: str) -> None:
    """Return when Kafka has confirmed all. `source`: who sends them, for `ce_source`. Raises aiokafka's errors."""
    sent = []
    for reading in readings:
        key, value = reading.subject_id.encode(), reading.to_json()
        headers = message_event(READINGS.record, key, value, source)
        sent.append(await producer.send(READINGS.name, value, key, headers=list(headers.items())))
    await asyncio.gather(*sent)
