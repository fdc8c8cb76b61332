"""The load of the fault runs: simulated subjects whose readings are all different, published at a steady rate."""

import asyncio
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

from schemas.grid import STEP
from schemas.reading import Reading
from schemas.topics import READINGS
from streams.kafka.connection import producer_options
from streams.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)


def readings_of(subjects: int, each: int, first: int = 0) -> Iterator[Reading]:
    """`each` readings of every subject, five minutes apart, the subjects in turn, beginning with reading `first`."""
    for number in range(first, first + each):
        for subject in range(subjects):
            wave = math.sin(number / 20 + subject)
            yield Reading(
                subject_id=f"fault-{subject:04d}",
                time=START + number * STEP,
                glucose=round(130 + 50 * wave, 1),
                unit="mg/dL",
                reading_id=f"{subject}-{number}",
            )


async def publish(settings: Settings, readings: Iterator[Reading], rate: float) -> int:
    """Publish at `rate` a second, confirmed in the end; a broker that goes away is waited for. Returns the count."""
    producer = AIOKafkaProducer(**producer_options(settings), enable_idempotence=True, request_timeout_ms=60_000)
    await producer.start()
    began, confirmations = time.monotonic(), []
    try:
        for number, reading in enumerate(readings):
            confirmations.append(
                await producer.send(READINGS.name, key=reading.subject_id.encode(), value=reading.to_json())
            )
            if (ahead := began + number / rate - time.monotonic()) > 0.02:
                await asyncio.sleep(ahead)
        await asyncio.gather(*confirmations)
    finally:
        await producer.stop()
    return len(confirmations)
