"""The real steps of all roles in one task, with tables in memory and a forecaster that is simple arithmetic."""

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial

import numpy as np
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from agents.core import fingerprint
from agents.memory import MemoryTables
from agents.work import Send
from schemas import topics
from schemas.event import traced
from schemas.forecast import Forecast, ForecastRequest, ForecastWindow
from schemas.outcome import RequestOutcome
from schemas.tables import ALERTS_TABLE, DAYS_TABLE, FAN_CHART_TABLES, SCORES_TABLE, SOURCES_TABLE
from streams.kafka import messages
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from streams.topology import STEPS, app_id, steps_of
from tests.kit.workbench import Built, built

MODEL_FINGERPRINT = "f" * 64
LANES = (topics.INTERACTIVE, topics.LIVE, topics.BACKFILL)


class SmallPipeline:
    """What it inferred is counted; `hold` keeps requests waiting until it is cleared, `fail` makes the model fail.

    `seen` counts the records of a topic whose works are done: what they led to is on its topics.
    """

    def __init__(self, settings: Settings, infers: bool = True) -> None:
        """Unless it `infers` there have to be real inference workers."""
        self._settings = settings
        self._lanes = LANES if infers else ()
        steps = (*steps_of("ingest"), *steps_of("calc"))
        self._steps: Mapping[str, tuple[Built, ...]] = {
            topic.name: tuple(built(step.name, settings) for step in steps if topic in step.reads)
            for topic in dict.fromkeys(topic for step in steps for topic in step.reads)
        }
        self._tables = MemoryTables(partial(partition_of, partitions=settings.partitions))
        self._held: list[ConsumerRecord[bytes, bytes]] = []
        self.seen: Counter[str] = Counter()
        self.inferred: Counter[tuple[str | None, int | None]] = Counter()
        self.hold = False
        self.fail = False

    def table_rows(self) -> list[tuple[str, str]]:
        """Key and value of every row of every table."""
        tables = dict.fromkeys(table for step in STEPS for table in step.tables)
        rows = (row for table in tables for row in self._tables.rows(table).items())
        return [(key, value.decode("latin-1")) for key, value in rows]

    async def run(self) -> None:
        consumer = new_consumer(self._settings)
        producer = AIOKafkaProducer(**producer_options(self._settings))
        names = [*self._steps, *(topic.name for topic in self._lanes)]
        consumer.assign([TopicPartition(name, part) for name in names for part in range(self._settings.partitions)])
        try:
            await consumer.start()
            await producer.start()
            while True:
                batches = await consumer.getmany(timeout_ms=50)
                for record in [record for records in batches.values() for record in records]:
                    await self._process(record, producer)
                    self.seen[record.topic] += 1
                if not self.hold:
                    held, self._held = self._held, []
                    for record in held:
                        await self._infer(record, producer)
        finally:
            await consumer.stop()
            await producer.stop()

    async def _process(self, record: ConsumerRecord[bytes, bytes], producer: AIOKafkaProducer) -> None:
        if record.topic not in self._steps:
            self._held.append(record)
            return
        message = messages.of_record(record)
        for step in self._steps[record.topic]:
            work = await self._tables.run(*step, message)
            sends = self._tables.apply(work)
            if work.sends_first:  # as the guard does: who sees the rows finds on the topics what they speak of
                await _send(producer, sends)
                await producer.flush()
            for (table, key), row in work.writes.items():
                if table in (*FAN_CHART_TABLES.values(), SCORES_TABLE, ALERTS_TABLE, DAYS_TABLE, SOURCES_TABLE):
                    changelog = topics.changelog(
                        app_id("ingest" if table in (DAYS_TABLE, SOURCES_TABLE) else "calc"), table
                    )
                    await producer.send(changelog.name, row, key=key.encode(), partition=record.partition)
            if not work.sends_first:
                await _send(producer, sends)
        await producer.flush()

    async def _infer(self, record: ConsumerRecord[bytes, bytes], producer: AIOKafkaProducer) -> None:
        asked = ForecastRequest.from_arrow(record.value)
        self.inferred[asked.handle, asked.index] += 1
        key = asked.series_key.encode()
        if self.fail:
            outcome = RequestOutcome(
                request_id=asked.request_id, series_key=asked.series_key, status="failed",
                reason="the model failed", handle=asked.handle, index=asked.index, demand_id=asked.demand_id,
            )  # fmt: skip
            await producer.send_and_wait(topics.REQUEST_OUTCOMES.name, outcome.to_json(), key=key)
            return
        lane = next(lane for lane, topic in topics.LANE_TOPICS.items() if topic.name == record.topic)
        trace = list(traced(dict(record.headers)).items())
        await producer.send_and_wait(topics.FORECASTS[lane].name, forecast_of(asked).to_arrow(), key=key, headers=trace)


async def _send(producer: AIOKafkaProducer, sends: Sequence[Send]) -> None:
    for send in sends:
        await producer.send(
            send.topic.name, send.value, key=send.key, headers=list(send.headers.items()), partition=send.partition
        )


def forecast_of(asked: ForecastRequest) -> Forecast:
    """What the arithmetic forecaster answers."""
    forecast_id = fingerprint.forecast_id(asked.input_hash, MODEL_FINGERPRINT, asked.num_samples, asked.seed)
    draws = np.random.Generator(np.random.SFC64(list(bytes.fromhex(forecast_id)))).normal(size=(asked.num_samples, 12))
    samples = asked.past_centi_mgdl[-1] / 100 + draws * np.arange(1, 13)
    shared = {field.name: getattr(asked, field.name) for field in dataclasses.fields(ForecastWindow)}
    return Forecast(
        **shared,
        forecast_id=forecast_id,
        model="arithmetic",
        model_fingerprint=MODEL_FINGERPRINT,
        samples_mgdl=samples.ravel().tolist(),
        residual_sd_mgdl=[5.0] * 12,
    )


@contextlib.asynccontextmanager
async def working(settings: Settings, infers: bool = True) -> AsyncIterator[SmallPipeline]:
    """A pipeline that runs while the block does; what it raised is raised at the end."""
    pipeline = SmallPipeline(settings, infers)
    task = asyncio.create_task(pipeline.run())
    try:
        yield pipeline
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def at(minutes: int) -> str:
    """RFC 3339 times 5 minutes apart, in the recent past of the machine's clock as the test asks first."""
    test, _, _ = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")  # without its phase
    return (_start_of(test) + datetime.timedelta(minutes=minutes)).isoformat()


@functools.lru_cache(maxsize=1)
def _start_of(_: str) -> datetime.datetime:
    """Once a test: the five minutes that end while it runs would move what it asks for later."""
    now = datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)
    return now - datetime.timedelta(hours=10, minutes=now.minute % 5)
