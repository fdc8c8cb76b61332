"""What a stage sustains: its topic is filled first, then its workers start, and the times of what they send are read.

Everything counts that a worker does for a message: window or chart, tables with their changelogs, what it sends, all
confirmed by a real Kafka. It measures and prints.
"""

import asyncio
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from aiokafka import AIOKafkaProducer, TopicPartition

from deploy.bench.faults_load import readings_of
from deploy.bench.roles import Roles, provisioned
from deploy.brokers.local_kafka import LocalKafka
from schemas.errors import ConfigurationError, UnavailableError
from schemas.forecast import Forecast
from schemas.grid import HORIZON_STEPS, PAST_POINTS
from schemas.topics import FAN_CHARTS, FORECASTS, READING_OUTCOMES, READINGS, Topic
from streams.kafka.connection import new_consumer, producer_options
from streams.settings import Settings

Stage = Literal["ingest", "calc", "pipeline"]

STARVED_SECONDS = 60.0
SLICE = 0.1
"""Left out at the beginning and at the end, where not all workers are busy."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """`messages` of `subjects` in turn, after `before` of each that are processed first and not counted."""

    stage: Stage
    workers: int = 1
    messages: int = 20_000
    subjects: int = 100
    before: int = 0

    def __post_init__(self) -> None:
        """Raises `ConfigurationError` where no forecast would come of it."""
        own = self.before + self.messages // self.subjects
        if self.stage == "pipeline" and own <= PAST_POINTS:
            raise ConfigurationError(
                f"{own} readings of each of {self.subjects:,} people bring no forecasts to count, the first comes with "
                f"number {PAST_POINTS}: give more with --messages or --before, or fewer --subjects"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Sustained:
    """What came of a plan: results, and how many a second in the middle of the run."""

    plan: Plan
    results: int
    per_second: float


def sustained(times_ms: Iterable[int]) -> float:
    """Results a second between the first and the last tenth. Raises `ValueError` where they are too few to say."""
    ordered = sorted(times_ms)
    middle = ordered[int(SLICE * len(ordered)) : int((1 - SLICE) * len(ordered))]
    if len(middle) < 2 or middle[0] == middle[-1]:
        raise ValueError(f"{len(ordered)} results are too few for a rate")
    return 1000 * (len(middle) - 1) / (middle[-1] - middle[0])


async def measure(plan: Plan) -> Sustained:
    """On a broker of its own. Raises `UnavailableError` where results stay out."""
    home = Path(tempfile.mkdtemp(prefix="glucast-throughput-"))
    try:
        async with provisioned(LocalKafka(home / "kafka"), home, {}) as (settings, roles):
            result = READING_OUTCOMES if plan.stage == "ingest" else FAN_CHARTS
            async with _producer(settings) as producer:
                if plan.before and plan.stage != "calc":
                    await _fill(producer, _readings(plan.subjects, plan.before))
                    ahead = [roles.worker("ingest", ordinal) for ordinal in range(plan.workers)]
                    roles.wait_until_ready()
                    await _results(settings, READING_OUTCOMES, plan.subjects * plan.before)
                    for worker in ahead:
                        worker.stop()
                        roles.all.remove(worker)
                wanted = await _fill(producer, _messages(plan))
            skipped = plan.subjects * plan.before if plan.stage == "ingest" else 0
            _start(roles, plan)
            times = await _results(settings, result, skipped + wanted)
            return Sustained(plan, wanted, sustained(times[skipped:]))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _start(roles: Roles, plan: Plan) -> None:
    for role in ("ingest", "inference", "calc") if plan.stage == "pipeline" else (plan.stage,):
        for ordinal in range(1 if role == "inference" else plan.workers):
            roles.worker(role, ordinal)


Filled = tuple[Topic, str, bytes, bool]
"""A message: its topic, key and value, and whether a result comes of it."""


def _messages(plan: Plan) -> Iterator[Filled]:
    if plan.stage == "calc":
        return _forecasts(plan)
    return _readings(plan.subjects, plan.messages // plan.subjects, plan.before, charts=plan.stage == "pipeline")


def _readings(subjects: int, each: int, first: int = 0, charts: bool = False) -> Iterator[Filled]:
    for place, reading in enumerate(readings_of(subjects, each, first)):
        has_chart = first + place // subjects >= PAST_POINTS - 1
        yield READINGS, reading.subject_id, reading.to_json(), has_chart or not charts


def _forecasts(plan: Plan) -> Iterator[Filled]:
    import numpy as np

    draws = np.random.default_rng(1).normal(0, 1.5, (64, 10, HORIZON_STEPS))
    for number in range(plan.messages):
        subject = f"throughput-{number % plan.subjects:06d}"
        forecast = Forecast(
            request_id=f"{number:064x}", kind="live", series_key=subject, subject_id=subject,
            end_seconds=1_767_225_600 + 300 * (number // plan.subjects), past_centi_mgdl=[12000] * PAST_POINTS,
            truth_centi_mgdl=[], input_hash=f"{number:064x}", num_samples=10, seed=0, simulated=True,
            forecast_id=f"{number:064x}", model="bench", model_fingerprint="d" * 64,
            samples_mgdl=(120 + np.cumsum(draws[number % 64], axis=1)).ravel().tolist(),
            residual_sd_mgdl=[12.0] * HORIZON_STEPS,
        )  # fmt: skip
        yield FORECASTS["backfill"], subject, forecast.to_arrow(), True


def _producer(settings: Settings) -> AIOKafkaProducer:
    return AIOKafkaProducer(**producer_options(settings) | {"linger_ms": 5})


async def _fill(producer: AIOKafkaProducer, messages: Iterator[Filled]) -> int:
    """Send all, confirmed; returns how many results they will have."""
    confirmations, results = [], 0
    for topic, key, value, counts in messages:
        confirmations.append(await producer.send(topic.name, key=key.encode(), value=value))
        results += counts
        if len(confirmations) >= 5000:
            await asyncio.gather(*confirmations)
            confirmations.clear()
    await asyncio.gather(*confirmations)
    return results


async def _results(settings: Settings, topic: Topic, wanted: int) -> Sequence[int]:
    """Unix milliseconds at which the first `wanted` results were sent, in the order of arrival."""
    consumer = new_consumer(settings)
    await consumer.start()
    times: list[int] = []
    try:
        consumer.assign([TopicPartition(topic.name, p) for p in range(settings.partitions)])
        latest = time.monotonic()
        while len(times) < wanted:
            batches = await consumer.getmany(timeout_ms=1000)
            times += [record.timestamp for batch in batches.values() for record in batch]
            if batches:
                latest = time.monotonic()
            elif time.monotonic() - latest > STARVED_SECONDS:
                raise UnavailableError(f"{len(times)} of {wanted} results came on {topic.name}")
    finally:
        await consumer.stop()
    return times[:wanted]


def run(plans: Iterable[Plan], say: Callable[[str], None] = print) -> None:
    """Measure one plan after the other and say a line each."""
    say(f"{'stage':<10} {'workers':>7} {'subjects':>9} {'before':>7} {'results':>9} {'a second':>9}")
    for plan in plans:
        got = asyncio.run(measure(plan))
        say(
            f"{plan.stage:<10} {plan.workers:>7} {plan.subjects:>9} {plan.before:>7} {got.results:>9} "
            f"{got.per_second:>9.0f}"
        )
