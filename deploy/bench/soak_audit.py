"""What a soak left behind, counted by id from the topics, a record at a time: an hour of charts fits no memory."""

import asyncio
import dataclasses
import datetime
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from deploy.bench import faults_audit
from deploy.bench.soak_load import Load
from deploy.bench.told_audit import Told, ToldAudit
from schemas import topics
from schemas.grid import HORIZON_STEPS, WINDOW_POINTS
from schemas.topics import Topic
from streams.kafka.connection import consumer_options
from streams.kafka.log_ends import log_ends
from streams.settings import Settings
from streams.topology import all_topics

_MIB = 1 << 20
QUIET_SECONDS = 8.0
UNSEEN = ("computed_at", "demand_id", "epoch_ms")
"""Fields of a chart that a second one may have otherwise: when it was made, and for whom. Nobody draws them."""


@dataclasses.dataclass(slots=True)
class SoakAudit:
    """Counts. Everything but `published`, `charts` and `again` has to be 0."""

    published: int = 0
    charts: int = 0
    again: int = 0
    outcomes_lost: int = 0
    outcomes_different: int = 0
    charts_lost: int = 0
    charts_different: int = 0
    samples_lost: int = 0
    dead_letters: int = 0
    told: Told | None = None
    """What was scored and alerted; None until it is counted."""

    @property
    def clean(self) -> bool:
        wrong = (self.outcomes_lost, self.outcomes_different, self.charts_lost, self.charts_different)
        return not any((*wrong, self.samples_lost, self.dead_letters)) and (self.told is None or self.told.clean)

    def lines(self) -> Iterator[str]:
        yield f"{self.published} readings, {self.charts} charts, {self.again} of them delivered again"
        yield f"outcomes of readings: {self.outcomes_lost} lost, {self.outcomes_different} in two versions"
        yield f"charts of readings: {self.charts_lost} lost; of uploads: {self.samples_lost} lost"
        yield f"charts in two versions: {self.charts_different}; dead letters: {self.dead_letters}"
        yield from () if self.told is None else self.told.lines()


class Produced:
    """Bytes that all topics have taken since a mark, keys and values alone."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._marks: dict[TopicPartition, int] = {}

    async def mark(self) -> None:
        """From here on."""
        self._marks = await ends_of(self._settings, all_topics())

    async def since_mib(self) -> float:
        total = 0
        for topic in all_topics():
            async for record in _records(self._settings, topic, self._marks):
                total += len(record.key or b"") + len(record.value or b"")
        return total / _MIB


async def settled(settings: Settings, most_seconds: float, say: Callable[[str], None]) -> None:
    """Return when nothing more comes out, or after `most_seconds` of waiting for that."""
    deadline, before, still_since = time.monotonic() + most_seconds, -1, time.monotonic()
    while time.monotonic() - still_since < QUIET_SECONDS:
        if time.monotonic() > deadline:
            say(f"still busy after {most_seconds:.0f} s; going on with what there is")
            break
        now = await faults_audit.processed_so_far(settings)
        if now != before:
            before, still_since = now, time.monotonic()
        await asyncio.sleep(0.5)


async def audit(settings: Settings, load: Load) -> SoakAudit:
    """Every reading has its outcome, every forecast that one promises its chart, each id one visible content."""
    found = SoakAudit(published=load.published)
    outcomes: dict[str, bytes] = {}
    promised: set[tuple[str, int]] = set()
    told: set[str] = set()
    async for record in _records(settings, topics.READING_OUTCOMES):
        outcome = orjson.loads(record.value or b"{}")
        told.add(outcome["reading_id"])
        digest = _digest(outcome)
        found.outcomes_different += outcomes.setdefault(outcome["outcome_id"], digest) != digest
        promised |= {(outcome["subject_id"], _seconds(time)) for time in outcome["issue_times"]}
    wanted = {reading.reading_id for reading in load.readings(0, load.published)}
    found.outcomes_lost = len(wanted - told)
    charts: dict[str, bytes] = {}
    drawn: set[tuple[str, int]] = set()
    sampled: set[tuple[str, int]] = set()
    scored_and_told = ToldAudit()
    async for record in _records(settings, topics.FAN_CHARTS):
        scored_and_told.chart(record.value)
        chart = orjson.loads(record.value or b"{}")
        digest = _digest({name: value for name, value in chart.items() if name not in UNSEEN})
        found.again += chart["chart_id"] in charts
        found.charts_different += charts.setdefault(chart["chart_id"], digest) != digest
        if chart["kind"] == "live":
            drawn.add((chart["subject_id"], _seconds(chart["issue_time"])))
        else:
            sampled.add((chart["handle"], chart["index"]))
    async for record in _records(settings, topics.SCORES):
        scored_and_told.score(record.value)
    async for record in _records(settings, topics.ALERTS):
        scored_and_told.alert(record.value)
    found.told = scored_and_told.counts()
    async for record in _records(settings, topics.REQUEST_OUTCOMES):
        outcome = orjson.loads(record.value or b"{}")
        if outcome["status"] == "dropped":  # its handle was let go for newer ones
            sampled.add((outcome["handle"], outcome["index"]))
    found.charts = len(charts)
    found.charts_lost = len(promised - drawn)
    found.samples_lost = len(
        {(handle, index) for handle, samples in load.handles.items() for index in _indexes(samples)} - sampled
    )
    found.dead_letters = sum((await ends_of(settings, (topics.DEAD_LETTERS,))).values())
    return found


def _indexes(samples: int) -> range:
    points = samples + WINDOW_POINTS - 1
    return range(WINDOW_POINTS - points, HORIZON_STEPS + 1)


def _seconds(time_text: str) -> int:
    return int(datetime.datetime.fromisoformat(time_text).timestamp())


def _digest(document: object) -> bytes:
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).digest()[:16]


async def ends_of(settings: Settings, wanted: tuple[Topic, ...]) -> dict[TopicPartition, int]:
    """Where the logs of topics end now."""
    consumer = AIOKafkaConsumer(**consumer_options(settings))
    await consumer.start()
    try:
        parts = [TopicPartition(topic.name, number) for topic in wanted for number in range(settings.partitions)]
        return await log_ends(consumer, parts)
    finally:
        await consumer.stop()


async def _records(
    settings: Settings, topic: Topic, since: dict[TopicPartition, int] | None = None
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """A topic's records up to its end now, from given offsets or from its beginning."""
    consumer = AIOKafkaConsumer(**consumer_options(settings))
    await consumer.start()
    try:
        parts = [TopicPartition(topic.name, number) for number in range(settings.partitions)]
        consumer.assign(parts)
        ends = await log_ends(consumer, parts)
        begins = await consumer.beginning_offsets(parts)
        for part in parts:
            consumer.seek(part, max((since or {}).get(part, 0), begins[part]))
        while any([await consumer.position(part) < ends[part] for part in parts]):
            for batch in (await consumer.getmany(timeout_ms=500, max_records=500)).values():
                for record in batch:
                    yield record
    finally:
        await consumer.stop()
