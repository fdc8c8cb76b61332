"""What a fault run left behind, counted by id from the topics and compared with what a run without faults leaves.

The reference is not another run: the recorded ``cgm.readings`` are put through the pure window step again, partition
by partition, over tables in memory. Outcomes, requests and tables of the run must then be exactly those.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from agents.core.fingerprint import forecast_id
from agents.core.rolling_window import RollingWindow, Slots
from agents.ingest import window
from agents.memory import MemoryTables
from schemas.fan_chart import FanChart
from schemas.forecast import ForecastRequest
from schemas.grid import STEP_SECONDS
from schemas.reading import ReadingOutcome
from schemas.tables import SUBJECTS_TABLE, ChartKey, subject_key
from schemas.topics import BACKFILL, FAN_CHARTS, LIVE, READING_OUTCOMES, READINGS, changelog
from streams import topology
from streams.kafka import messages
from streams.kafka.connection import new_consumer
from streams.kafka.log_ends import log_ends
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS, app_id

REQUESTS = (LIVE, BACKFILL)
WINDOWS = changelog(app_id("ingest"), SUBJECTS_TABLE)


@dataclasses.dataclass
class Reference:
    """What a run without faults leaves of the readings that were published."""

    published: int = 0
    outcomes: dict[str, set[bytes]] = dataclasses.field(default_factory=dict)
    requests: dict[str, ForecastRequest] = dataclasses.field(default_factory=dict)
    windows: dict[str, bytes] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Audit:
    """Counts of one run. Lost and wrong have to be 0; twice is what a consumer that drops repeated ids never sees."""

    published: int
    outcomes_lost: int
    outcomes_twice: int
    outcomes_contradicted: int
    requests_lost: int
    requests_twice: int
    charts_lost: int
    charts_twice: int
    window_rows_wrong: int
    chart_rows_wrong: int

    @property
    def lost(self) -> int:
        return self.outcomes_lost + self.requests_lost + self.charts_lost

    @property
    def wrong(self) -> int:
        return self.outcomes_contradicted + self.window_rows_wrong + self.chart_rows_wrong

    def lines(self) -> Iterator[str]:
        yield f"{self.published} readings published"
        yield f"outcomes: {self.outcomes_lost} lost, {self.outcomes_twice} again, {self.outcomes_contradicted} unlike"
        yield f"requests: {self.requests_lost} lost, {self.requests_twice} again"
        yield f"fan charts: {self.charts_lost} lost, {self.charts_twice} again"
        yield f"table rows unlike a faultless run: {self.window_rows_wrong} windows, {self.chart_rows_wrong} charts"


async def read_all(settings: Settings, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    """Every record of a topic up to its end now, in offset order within a partition."""
    consumer = new_consumer(settings)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await log_ends(consumer, partitions)
        records: list[ConsumerRecord[bytes, bytes]] = []
        while any([await consumer.position(part) < ends[part] for part in partitions]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records.extend(batch)
        return records
    finally:
        await consumer.stop()


async def reference_of(settings: Settings) -> Reference:
    """Put the recorded readings through the window step again, as if nothing had happened in between."""
    step, function = topology.step_of("window"), window.build(settings)
    reference, tables = Reference(), MemoryTables(partial(partition_of, partitions=settings.partitions))
    for record in await read_all(settings, READINGS.name):
        work = await tables.run(step, function, messages.of_record(record))
        reference.published += 1
        for send in tables.apply(work):
            if send.topic == READING_OUTCOMES:
                outcome_id = ReadingOutcome.from_json(send.value).outcome_id
                reference.outcomes.setdefault(outcome_id, set()).add(send.value or b"")
            elif send.topic in REQUESTS:
                request = ForecastRequest.from_arrow(send.value)
                reference.requests[request.request_id] = request
    reference.windows = tables.rows(SUBJECTS_TABLE)
    return reference


async def audit(settings: Settings, *, whole_pipeline: bool) -> Audit:
    """Compare what the topics hold with the reference; without `whole_pipeline` charts are not expected."""
    reference = await reference_of(settings)
    outcomes: Counter[str] = Counter()
    contradicted = set()
    for record in await read_all(settings, READING_OUTCOMES.name):
        outcome_id = ReadingOutcome.from_json(record.value).outcome_id
        outcomes[outcome_id] += 1
        if record.value not in reference.outcomes.get(outcome_id, ()):
            contradicted.add(outcome_id)
    asked = [record for topic in REQUESTS for record in await read_all(settings, topic.name)]
    requests = Counter(ForecastRequest.from_arrow(record.value).request_id for record in asked)
    windows = _latest(await read_all(settings, WINDOWS.name))
    charts: Counter[str] = Counter()
    charts_lost = chart_rows_wrong = 0
    if whole_pipeline:
        published = [FanChart.from_json(record.value) for record in await read_all(settings, FAN_CHARTS.name)]
        charts.update(chart.chart_id for chart in published)
        model = published[0].model_fingerprint if published else ""
        expected = {forecast_id(r.input_hash, model, r.num_samples, r.seed) for r in reference.requests.values()}
        charts_lost = len(expected - {chart.forecast_id for chart in published})
        rows: dict[str, bytes] = {}
        for changelog in CHART_CHANGELOGS.values():
            rows |= _latest(await read_all(settings, changelog.name))
        chart_rows_wrong = _wrong_charts(settings, reference, model, rows)
    return Audit(
        published=reference.published,
        outcomes_lost=len(reference.outcomes.keys() - outcomes.keys()),
        outcomes_twice=_again(outcomes),
        outcomes_contradicted=len(contradicted),
        requests_lost=len(reference.requests.keys() - requests.keys()),
        requests_twice=_again(requests),
        charts_lost=charts_lost,
        charts_twice=_again(charts),
        window_rows_wrong=sum(
            _slots(settings, windows.get(key)) != _slots(settings, value) for key, value in reference.windows.items()
        ),
        chart_rows_wrong=chart_rows_wrong,
    )


def _slots(settings: Settings, row: bytes | None) -> Slots:
    """What a row says of its subject; what it remembers for messages to come again differs from run to run."""
    return RollingWindow.from_bytes(row, settings.max_late_minutes * 60 // STEP_SECONDS).slots


def _wrong_charts(settings: Settings, reference: Reference, model: str, rows: dict[str, bytes]) -> int:
    expected: dict[str, str] = {}
    for request in reference.requests.values():  # in the order of the readings: the last one of a slot stays
        slot = request.end_seconds // STEP_SECONDS
        key = subject_key(request.subject_id or "", slot, settings.subject_history_steps, model)
        expected[str(key)] = forecast_id(request.input_hash, model, request.num_samples, request.seed)
    held = {
        key: FanChart.from_json(value).forecast_id
        for key, value in rows.items()
        if (ours := ChartKey.parse(key)) and ours.kind == "subject"
    }
    return sum(held.get(key) != wanted for key, wanted in expected.items())


def stalls(
    records: Iterable[ConsumerRecord[bytes, bytes]], partitions: int, since_ms: float, until_ms: float
) -> dict[int, float]:
    """Longest pause in seconds of each partition's output, of those whose middle lies in a stretch of time."""
    longest = dict.fromkeys(range(partitions), 0)
    last: dict[int, int] = {}
    for record in sorted(records, key=lambda item: item.timestamp):
        before = last.get(record.partition, record.timestamp)
        last[record.partition] = record.timestamp
        if since_ms <= (before + record.timestamp) / 2 < until_ms:
            longest[record.partition] = max(longest[record.partition], record.timestamp - before)
    return {partition: pause / 1000 for partition, pause in longest.items()}


async def processed_so_far(settings: Settings) -> int:
    """How many outcomes and charts there are: the run has settled when the number stands still."""
    consumer = new_consumer(settings)
    await consumer.start()
    try:
        names = (READING_OUTCOMES.name, LIVE.name, FAN_CHARTS.name)
        parts = [TopicPartition(name, number) for name in names for number in range(settings.partitions)]
        return sum((await log_ends(consumer, parts)).values())
    finally:
        await consumer.stop()


def _again(counts: Counter[str]) -> int:
    return sum(counts.values()) - len(counts)


def _latest(records: Iterable[ConsumerRecord[bytes, bytes]]) -> dict[str, bytes]:
    rows: dict[str, bytes] = {}
    for record in records:
        key = (record.key or b"").decode()
        if record.value is None:
            rows.pop(key, None)
        else:
            rows[key] = record.value
    return rows
