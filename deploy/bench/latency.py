"""Where the time of a live reading goes, hop by hop, by the times of the records that it causes.

Starts `glucast up`, gives every subject its eight hours, then publishes readings at random moments. A hop ends with a
record: its time is the broker's where the topic is stamped by it (readings, forecasts) and its sender's elsewhere, to
the millisecond, on one machine's clock. It measures and prints.
"""

import asyncio
import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from deploy.bench.faults_load import Key, key_of, reading_of
from deploy.bench.pipeline import RunningGlucast, p95
from schemas.errors import UnavailableError
from schemas.forecast import Forecast, ForecastRequest
from schemas.grid import PAST_POINTS
from schemas.reading import Reading
from schemas.topics import FAN_CHARTS, FORECASTS, LANE_TOPICS, READINGS, Topic
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.log_ends import log_ends
from streams.settings import Settings

HOPS = (
    "the reading is stored",
    "ingest asks for a forecast",
    "inference answers",
    "calc sends the fan chart",
    "a consumer has it",
)
PLACE = 0.7
LEFT_BEHIND_SECONDS = 30.0
HISTORY_RATE = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """`rate` readings a second of `subjects` people for `seconds`."""

    rate: float = 40.0
    seconds: float = 30.0
    subjects: int = 60


class Trips:
    """Of each reading the Unix times at which it was sent and each hop ended, in seconds."""

    def __init__(self) -> None:
        self._times: dict[Key, dict[int, float]] = {}

    def clear(self) -> None:
        """Forget what was until now."""
        self._times.clear()

    def sent(self, key: Key, at: float) -> None:
        self._times[key] = {0: at}

    def ended(self, key: Key, hop: int, at: float) -> None:
        """`hop` counts from 1. The first record of a hop counts, and only of readings that were `sent`."""
        if (times := self._times.get(key)) is not None:
            times.setdefault(hop, at)

    @property
    def open(self) -> int:
        """Readings whose chart nobody has yet."""
        return sum(len(HOPS) not in times for times in self._times.values())

    def __iter__(self) -> Iterator[tuple[float, ...]]:
        """Those of which all is known: seconds of each hop, in the order of `HOPS`."""
        for times in self._times.values():
            if len(times) == 1 + len(HOPS):
                yield tuple(after - before for before, after in pairwise(times[hop] for hop in sorted(times)))


def table(trips: Iterable[Sequence[float]]) -> Iterator[str]:
    """Lines of median, 95th percentile and worst of each hop and of the whole, in milliseconds."""
    rows = list(trips)
    yield f"{'until …':<28} {'p50':>8} {'p95':>8} {'max':>8}   ms, n={len(rows)}"
    for name, column in zip(HOPS, zip(*rows, strict=True), strict=True):
        yield _line(name, column)
    yield _line("reading → record", [sum(row) for row in rows])


def _line(name: str, seconds: Sequence[float]) -> str:
    ordered = sorted(1000 * each for each in seconds)
    return f"{name:<28} {statistics.median(ordered):>8.1f} {p95(ordered):>8.1f} {ordered[-1]:>8.1f}"


async def measure(broker: str, plan: Plan) -> Trips:
    """Load a glucast that runs on `broker`. Raises `UnavailableError` where charts stay out."""
    settings, trips = Settings(broker=broker), Trips()
    consumer = new_consumer(settings)
    producer = AIOKafkaProducer(**producer_options(settings))
    await consumer.start()
    await producer.start()
    charts, between = _partitions(settings, FAN_CHARTS), _partitions(settings, LANE_TOPICS["live"], FORECASTS["live"])
    begins = await log_ends(consumer, between)
    consumer.assign(charts)
    await consumer.seek_to_end()
    run = f"latency-{time.time_ns():x}"
    people = [f"{run}-{number:04d}" for number in range(plan.subjects)]
    watching = asyncio.create_task(_watch(consumer, trips))
    try:
        await _give_history(producer, trips, people)
        await _until_all_arrived(trips, watching)
        await _publish(producer, trips, people, plan, watching)
        watching.cancel()
        await _look_back(consumer, begins, trips)
        return trips
    finally:
        watching.cancel()
        await producer.stop()
        await consumer.stop()


async def _give_history(producer: AIOKafkaProducer, trips: Trips, people: Sequence[str]) -> None:
    """Eight hours each; the last reading of each brings the first forecast."""
    stored = []
    began = time.monotonic()
    for number in range(PAST_POINTS):
        for person in people:
            reading = reading_of(person, PLACE, number)
            if number == PAST_POINTS - 1:
                trips.sent(key_of(reading), time.time())
            stored.append(await _send(producer, reading))
            if (ahead := began + len(stored) / HISTORY_RATE - time.monotonic()) > 0.02:
                await asyncio.sleep(ahead)
    await asyncio.gather(*stored)


async def _publish(
    producer: AIOKafkaProducer, trips: Trips, people: Sequence[str], plan: Plan, watching: "asyncio.Task[None]"
) -> None:
    trips.clear()
    gaps, at = random.Random(1), time.monotonic()
    stored = []
    for place in range(int(plan.rate * plan.seconds)):
        at += gaps.expovariate(plan.rate)
        if (ahead := at - time.monotonic()) > 0:
            await asyncio.sleep(ahead)
        reading = reading_of(people[place % len(people)], PLACE, PAST_POINTS + place // len(people))
        trips.sent(key_of(reading), time.time())
        stored.append(asyncio.create_task(_stored(producer, reading, trips)))
    await asyncio.gather(*stored)
    await _until_all_arrived(trips, watching)


def _partitions(settings: Settings, *topics: Topic) -> list[TopicPartition]:
    return [TopicPartition(topic.name, number) for topic in topics for number in range(settings.partitions)]


async def _send(producer: AIOKafkaProducer, reading: Reading) -> Any:
    """The broker's confirmation, as a future."""
    return await producer.send(READINGS.name, key=reading.subject_id.encode(), value=reading.to_json())


async def _stored(producer: AIOKafkaProducer, reading: Reading, trips: Trips) -> None:
    metadata = await (await _send(producer, reading))
    trips.ended(key_of(reading), 1, metadata.timestamp / 1000)


async def _watch(consumer: AIOKafkaConsumer, trips: Trips) -> None:
    """Note the charts that come by, until cancelled."""
    async for record in consumer:
        now, chart = time.time(), orjson.loads(record.value)
        key = chart["subject_id"], int(datetime.fromisoformat(chart["issue_time"]).timestamp())
        trips.ended(key, 4, record.timestamp / 1000)
        trips.ended(key, 5, now)


async def _look_back(consumer: AIOKafkaConsumer, begins: Mapping[TopicPartition, int], trips: Trips) -> None:
    """Note what led to the charts: the times stand in the records, and who reads them meanwhile is part of the load."""
    ends = await log_ends(consumer, begins)
    consumer.assign(list(begins))
    for partition, begin in begins.items():
        consumer.seek(partition, begin)
    while any([await consumer.position(partition) < end for partition, end in ends.items()]):
        for partition, records in (await consumer.getmany(timeout_ms=200)).items():
            for record in records:
                read, hop = (ForecastRequest, 2) if partition.topic == LANE_TOPICS["live"].name else (Forecast, 3)
                found = read.from_arrow(record.value)
                trips.ended((found.series_key, found.end_seconds), hop, record.timestamp / 1000)


async def _until_all_arrived(trips: Trips, watching: "asyncio.Task[None]") -> None:
    deadline = time.monotonic() + LEFT_BEHIND_SECONDS
    while trips.open:
        if watching.done():
            watching.result()
        if time.monotonic() > deadline:
            raise UnavailableError(f"{trips.open} fan charts did not come within {LEFT_BEHIND_SECONDS:.0f} s")
        await asyncio.sleep(0.05)


def run(broker: str, port: int, plan: Plan, say: Callable[[str], None] = print) -> None:
    """Start glucast on `broker` (embedded, local or host:port), load it, print the table, stop it."""
    running = RunningGlucast(broker, port, {})
    try:
        trips = asyncio.run(measure(running.broker, plan))
    finally:
        running.stop()
    say(f"{plan.rate:g} readings/s of {plan.subjects} people for {plan.seconds:g} s on {broker}")
    for line in table(trips):
        say(line)
