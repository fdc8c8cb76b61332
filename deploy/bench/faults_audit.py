"""What a fault run left behind, counted by id from the topics and compared with what a run without faults leaves.

The reference is not another run: the recorded ``cgm.readings`` are put through the pure window step again, partition
by partition, over tables in memory. Outcomes, requests, tables and what the query API shows must then be exactly those.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import httpx
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from agents.core.fingerprint import forecast_id
from agents.core.rolling_window import RollingWindow
from agents.core.window_row import Slots
from agents.ingest import window
from agents.memory import MemoryTables
from deploy.bench.faults_load import Key, key_of
from deploy.bench.told_audit import Told, ToldAudit
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import from_row
from schemas.forecast import ForecastRequest
from schemas.grid import STEP_SECONDS
from schemas.reading import Reading, ReadingOutcome
from schemas.tables import SUBJECTS_TABLE, ChartKey, subject_key
from schemas.topics import (
    ALERTS,
    BACKFILL,
    FAN_CHARTS,
    INTERACTIVE,
    LIVE,
    READING_OUTCOMES,
    READINGS,
    SCORES,
    UPLOAD_OUTCOMES,
    changelog,
)
from streams import topology
from streams.kafka import messages
from streams.kafka.connection import new_consumer
from streams.kafka.log_ends import log_ends
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS, app_id

REQUESTS = (LIVE, BACKFILL)
WINDOWS = changelog(app_id("ingest"), SUBJECTS_TABLE)
_MOST_NAMED = 5


@dataclasses.dataclass
class Reference:
    """What a run without faults leaves of the readings that were published."""

    published: set[Key] = dataclasses.field(default_factory=set)
    outcomes: dict[str, set[bytes]] = dataclasses.field(default_factory=lambda: defaultdict(set))
    """By id: a reading that was published twice has two, its own and that of a duplicate."""
    requests: dict[str, ForecastRequest] = dataclasses.field(default_factory=dict)
    windows: dict[str, bytes] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Audit:
    """Counts of one run. Lost and wrong have to be 0; twice is what a consumer that drops repeated ids never sees."""

    published: int
    readings_lost: int
    outcomes_lost: int
    outcomes_twice: int
    requests_lost: int
    requests_twice: int
    charts_lost: int
    charts_twice: int
    unlike: Sequence[str]
    """Outcomes, requests and charts that say something else than their reference, or their first, under one id: each
    with the fields that differ."""
    window_rows_wrong: int
    chart_rows_wrong: int
    read_model_rows_wrong: int
    told: Told | None = None
    """What was scored and alerted, of the whole pipeline."""

    @property
    def lost(self) -> int:
        told = 0 if self.told is None else self.told.scores_lost + self.told.alerts_lost
        return self.readings_lost + self.outcomes_lost + self.requests_lost + self.charts_lost + told

    @property
    def wrong(self) -> int:
        told = 0 if self.told is None else self.told.scores_wrong + self.told.alerts_wrong
        rows = self.window_rows_wrong + self.chart_rows_wrong + self.read_model_rows_wrong
        return len(self.unlike) + rows + told

    def lines(self) -> Iterator[str]:
        yield f"readings: {self.published} published, {self.readings_lost} lost"
        yield f"outcomes: {self.outcomes_lost} lost, {self.outcomes_twice} again"
        yield f"requests: {self.requests_lost} lost, {self.requests_twice} again"
        yield f"fan charts: {self.charts_lost} lost, {self.charts_twice} again"
        yield f"records that say something else under the same id: {len(self.unlike)}"
        yield from (f"    {each}" for each in self.unlike[:_MOST_NAMED])
        yield (
            f"rows unlike a faultless run: {self.window_rows_wrong} windows, {self.chart_rows_wrong} charts, "
            f"{self.read_model_rows_wrong} of the query API"
        )
        yield from () if self.told is None else self.told.lines()


async def read_all(settings: Settings, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    """Every record of a topic up to its end now, in offset order within a partition."""
    consumer = new_consumer(settings)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        return await read_on(consumer)
    finally:
        await consumer.stop()


async def read_on(consumer: AIOKafkaConsumer) -> list[ConsumerRecord[bytes, bytes]]:
    """What the assigned partitions hold from where the consumer is up to their ends now."""
    partitions = consumer.assignment()
    ends = await log_ends(consumer, partitions)
    records: list[ConsumerRecord[bytes, bytes]] = []
    while any([await consumer.position(part) < ends[part] for part in partitions]):
        for batch in (await consumer.getmany(timeout_ms=500)).values():
            records.extend(batch)
    return records


async def reference_of(settings: Settings) -> Reference:
    """Put the recorded readings through the window step again, as if nothing had happened in between."""
    step, function = topology.step_of("window"), window.build(settings)
    reference, tables = Reference(), MemoryTables(partial(partition_of, partitions=settings.partitions))
    for record in await read_all(settings, READINGS.name):
        work = await tables.run(step, function, messages.of_record(record))
        if record.value is None:  # a tick
            tables.apply(work)
            continue
        reference.published.add(key_of(Reading.from_json(record.value)))
        for send in tables.apply(work):
            if send.topic == READING_OUTCOMES:
                reference.outcomes[ReadingOutcome.from_json(send.value).outcome_id].add(send.value or b"")
            elif send.topic in REQUESTS:
                request = ForecastRequest.from_arrow(send.value)
                reference.requests[request.request_id] = request
    reference.windows = tables.rows(SUBJECTS_TABLE)
    return reference


async def audit(
    settings: Settings, *, sent: Collection[Key], whole_pipeline: bool, query_url: str | None = None
) -> Audit:
    """Compare what the topics, and the query API at `query_url`, hold with the reference of what was sent.

    Without `whole_pipeline` charts are not expected.
    """
    reference = await reference_of(settings)
    outcomes = _by_id(
        (ReadingOutcome.from_json(record.value).outcome_id, record.value)
        for record in await read_all(settings, READING_OUTCOMES.name)
    )
    asked = [record.value for topic in REQUESTS for record in await read_all(settings, topic.name)]
    requests = _by_id(
        (request.request_id, value)
        for value in asked
        if (request := ForecastRequest.from_arrow(value)).kind == "live"  # those of uploads: faults_uploads
    )
    windows = _latest(await read_all(settings, WINDOWS.name))
    charts: dict[str, list[bytes]] = {}
    charts_lost = chart_rows_wrong = read_model_rows_wrong = 0
    if whole_pipeline:
        issued = (FanChart.from_json(record.value) for record in await read_all(settings, FAN_CHARTS.name))
        published = [chart for chart in issued if chart.kind == "live"]
        charts = _by_id((chart.chart_id, lasting(chart)) for chart in published)
        model = published[0].model_fingerprint if published else ""
        expected = {forecast_id(r.input_hash, model, r.num_samples, r.seed) for r in reference.requests.values()}
        charts_lost = len(expected - {chart.forecast_id for chart in published})
        rows: dict[str, bytes] = {}
        for changelog in CHART_CHANGELOGS.values():
            rows |= _latest(await read_all(settings, changelog.name))
        wanted = _chart_rows(settings, reference, model)
        chart_rows_wrong = _wrong_charts(wanted, rows)
        if query_url is not None:
            read_model_rows_wrong = await _wrong_answers(wanted, query_url)
    unlike = [
        _unlike("outcome", name, *(orjson.loads(each) for each in (wrong, *list(reference.outcomes[name])[:1])))
        for name, said in outcomes.items()
        for wrong in set(said) - reference.outcomes[name]
    ]
    for name, said in requests.items():
        first, *others = (ForecastRequest.from_arrow(each) for each in dict.fromkeys(said))
        unlike += [_unlike("request", name, dataclasses.asdict(other), dataclasses.asdict(first)) for other in others]
    for name, said in charts.items():
        kept, *rest = map(orjson.loads, dict.fromkeys(said))
        unlike += [_unlike("chart", name, other, kept) for other in rest]
    return Audit(
        published=len(reference.published),
        readings_lost=len(set(sent) - reference.published),
        outcomes_lost=len(reference.outcomes.keys() - outcomes.keys()),
        outcomes_twice=_again(outcomes),
        requests_lost=len(reference.requests.keys() - requests.keys()),
        requests_twice=_again(requests),
        charts_lost=charts_lost,
        charts_twice=_again(charts),
        unlike=unlike,
        window_rows_wrong=sum(
            _slots(settings, windows.get(key)) != _slots(settings, value)
            for key, value in reference.windows.items()
            if "/" not in key  # not how long ago somebody was heard of
        ),
        chart_rows_wrong=chart_rows_wrong,
        read_model_rows_wrong=read_model_rows_wrong,
        told=await told(settings) if whole_pipeline else None,
    )


async def told(settings: Settings) -> Told:
    """Whether every forecast was scored and every episode told, once, by what the topics hold."""
    audit = ToldAudit()
    for topic, take in ((FAN_CHARTS, audit.chart), (SCORES, audit.score), (ALERTS, audit.alert)):
        for record in await read_all(settings, topic.name):
            take(record.value)
    return audit.counts()


def _slots(settings: Settings, row: bytes | None) -> Slots:
    """What a row says of its subject; what it remembers for messages to come again differs from run to run."""
    return RollingWindow.from_bytes(row, settings.max_late_minutes * 60 // STEP_SECONDS).slots


def _by_id(records: Iterable[tuple[str, bytes | None]]) -> dict[str, list[bytes]]:
    """What was said under each id, in order."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for name, value in records:
        found[name].append(value or b"")
    return found


def _again(said: Mapping[str, Sequence[bytes]]) -> int:
    return sum(len(contents) - 1 for contents in said.values())


def _unlike(what: str, name: str, wrong: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> str:
    """A record in words: which it is, and in what it differs from the one that is known."""
    differ = [field for field in wrong if known is None or wrong[field] != known.get(field)]
    return f"{what} {name[:12]}: {', '.join(differ)}"


def lasting(chart: FanChart) -> bytes:
    """All but when it was computed and for whom, which another computation has for itself."""
    return chart.model_copy(update={"computed_at": chart.issue_time, "began_ms": 0, "demand_id": None}).to_json()


def _chart_rows(settings: Settings, reference: Reference, model: str) -> dict[str, str]:
    """The forecast under each key of the chart table."""
    expected: dict[str, str] = {}
    for request in reference.requests.values():  # in the order of the readings: the last one of a slot stays
        slot = request.end_seconds // STEP_SECONDS
        key = subject_key(request.subject_id or "", slot, settings.subject_history_steps, model)
        expected[str(key)] = forecast_id(request.input_hash, model, request.num_samples, request.seed)
    return expected


def _wrong_charts(expected: dict[str, str], rows: dict[str, bytes]) -> int:
    held = {
        key: from_row(value).forecast_id
        for key, value in rows.items()
        if (ours := ChartKey.parse(key)) and ours.kind == "subject"
    }
    return sum(held.get(key) != wanted for key, wanted in expected.items())


async def _wrong_answers(expected: dict[str, str], url: str) -> int:
    """Forecasts that the query API shows and should not, or does not show and should."""
    wanted: dict[str, Counter[str]] = defaultdict(Counter)
    for key, forecast in expected.items():
        if place := ChartKey.parse(key):
            wanted[place.owner][forecast] += 1
    wrong = 0
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for subject, forecasts in wanted.items():
            answer = await client.get(f"/subjects/{subject}/forecasts", params={"limit": 288})
            shown = Counter(chart["forecast_id"] for chart in orjson.loads(answer.content).get("forecasts", ()))
            wrong += (shown - forecasts).total() + (forecasts - shown).total()
    return wrong


async def processed_so_far(settings: Settings) -> int:
    """How many outcomes, requests and charts there are: the run has settled when the number stands still."""
    consumer = new_consumer(settings)
    await consumer.start()
    try:
        topics = (READING_OUTCOMES, UPLOAD_OUTCOMES, *REQUESTS, INTERACTIVE, FAN_CHARTS)
        parts = [TopicPartition(topic.name, number) for topic in topics for number in range(settings.partitions)]
        return sum((await log_ends(consumer, parts)).values())
    finally:
        await consumer.stop()


def _latest(records: Iterable[ConsumerRecord[bytes, bytes]]) -> dict[str, bytes]:
    rows: dict[str, bytes] = {}
    for record in records:
        key = (record.key or b"").decode()
        if record.value is None:
            rows.pop(key, None)
        else:
            rows[key] = record.value
    return rows
