"""The load of the fault runs: simulated subjects whose readings are all different, published at a steady rate."""

import asyncio
import math
import time
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

from schemas.grid import STEP
from schemas.reading import Reading
from schemas.topics import READINGS
from streams.kafka.connection import producer_options
from streams.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)
MIDDLE_MGDL = 130.0
SWING_MGDL = 50.0
"""Of a wave that nobody is warned of: from 80 to 180."""
WIDE_SWING_MGDL = 75.0
"""Of one with a low and a high each ten and a half hours, so that alerts are due: from 55 to 205."""

Key = tuple[str, int]
"""A reading, its outcome and its forecast: whose, and of when in Unix seconds."""


def reading_of(subject_id: str, place: float, number: int, swing_mgdl: float = SWING_MGDL) -> Reading:
    """Reading `number` of a subject, whose wave begins at `place`: five minutes after the one before."""
    return Reading(
        subject_id=subject_id,
        time=START + number * STEP,
        glucose=glucose_of(place, number, swing_mgdl),
        unit="mg/dL",
        simulated=True,
        reading_id=f"{subject_id}-{number}",
    )


def glucose_of(place: float, number: int, swing_mgdl: float = SWING_MGDL) -> float:
    """In mg/dL, on the wave."""
    return round(MIDDLE_MGDL + swing_mgdl * math.sin(number / 20 + place), 1)


def readings_of(subjects: int, each: int, first: int = 0, *, swing_mgdl: float = SWING_MGDL) -> Iterator[Reading]:
    """`each` readings of every subject, five minutes apart, the subjects in turn, beginning with reading `first`."""
    for number in range(first, first + each):
        for subject in range(subjects):
            yield reading_of(subject_of(subject), subject, number, swing_mgdl)


def subject_of(number: int) -> str:
    """How `readings_of` names them."""
    return f"fault-{number:04d}"


def key_of(reading: Reading) -> Key:
    """What its outcome and its forecast are found by."""
    return reading.subject_id, int(reading.time.timestamp())


async def publish(
    settings: Settings,
    readings: Iterator[Reading],
    rate: float,
    sent: MutableMapping[Key, float],
    *,
    is_disturbed: bool = True,
) -> None:
    """Publish at `rate` a second, confirmed in the end; a broker that goes away is waited for.

    `sent` gets the Unix time of each. Undisturbed it needs no idempotence, which the embedded broker does not know.
    """
    options = producer_options(settings)
    producer = AIOKafkaProducer(**options, enable_idempotence=is_disturbed, request_timeout_ms=120_000)
    await producer.start()
    began, confirmations = time.monotonic(), []
    try:
        for number, reading in enumerate(readings):
            sent[key_of(reading)] = time.time()
            confirmations.append(
                await producer.send(READINGS.name, key=reading.subject_id.encode(), value=reading.to_json())
            )
            if (ahead := began + number / rate - time.monotonic()) > 0.02:
                await asyncio.sleep(ahead)
        await asyncio.gather(*confirmations)
    finally:
        await producer.stop()
