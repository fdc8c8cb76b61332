"""Has forecasts made again, of requests that Kafka still holds, and compares them with what was issued first.

A replay sends the live requests of ``cgm.forecast-requests.live`` and ``.backfill`` again, into the lane backfill, each
with the id of the replay: inference and calc do what they always do, and answer on ``cgm.replays``, where nothing is
served, scored or alerted by. It holds few requests under way, so that nobody waits behind it.

First issued is the first record of a chart on ``cgm.fan-charts``. The fan of a person follows from the model's own and
the `calibration` that the record carries, so an answer is compared after it has been calibrated alike.
"""

import dataclasses
import datetime
import secrets
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from agents.calc.scorekeeping import calibrated_as
from agents.core import recalibration
from agents.core.fingerprint import subject_digest
from agents.core.local_time import utc_seconds
from agents.ingest.subject_reset import read_marker
from schemas import topics
from schemas.errors import ConfigurationError, RejectedError, TopicMismatchError, UnavailableError
from schemas.fan_chart import FanChart
from schemas.forecast import ForecastRequest
from schemas.replay import ReplayedForecast
from schemas.tables import SUBJECTS_TABLE
from streams import topology
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.decoding import Undecodable
from streams.kafka.log_ends import log_ends
from streams.kafka.partitioning import partition_of
from streams.kafka.provision import ADVICE, partitions_of
from streams.kafka.whole_topics import everything, placed, started
from streams.settings import Settings

UNDER_WAY = 256
"""Requests of a replay that wait for their answer: half of what a lane holds in memory."""
SILENCE_SECONDS = 60.0
"""So long without any answer, and the rest counts as unanswered."""
MOST_CHARTS = 100_000
"""Issued charts that are compared with: about 1 kB each in memory."""
SOURCES = (topics.LIVE, topics.BACKFILL)
SHOWN = 10
_WINDOWS = topics.changelog(topology.app_id("ingest"), SUBJECTS_TABLE)
_APART = {"computed_at", "model_serves", "calibration"}
"""What two computations of one chart may differ by: their time, and whether the model was on trial then."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which forecasts: of a subject or (None) of all, whose last known point lies in [first, last].

    `model`: the first digits of a fingerprint; None: the model that serves.
    """

    subject_id: str | None
    first: datetime.datetime
    last: datetime.datetime
    model: str | None = None


@dataclasses.dataclass(slots=True)
class Report:
    """What became of a replay. Counts are of requests; `differing` are ids of charts."""

    replay_id: str
    asked: int = 0
    charted: int = 0
    equal: int = 0
    not_issued: int = 0
    """Made now, and not found among the charts that were issued."""
    other_model: Counter[str] = dataclasses.field(default_factory=Counter)
    """By another model than the one that was served then: nothing to be equal to."""
    apart_mgdl: list[float] = dataclasses.field(default_factory=list)
    """How far each of those lies from the chart that was served, at 60 minutes."""
    differing: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Charts of the same model and window that are not the same: what of them differs."""
    ended: Counter[str] = dataclasses.field(default_factory=Counter)
    """Without a chart, by how."""
    unanswered: int = 0
    not_asked: int = 0
    """Served charts of that time whose request Kafka does not hold any more."""

    @property
    def is_clean(self) -> bool:
        """Whether everything was answered and all that can be equal is."""
        return not self.differing and not self.unanswered

    def lines(self) -> Iterator[str]:
        """For a person; no glucose of anybody."""
        yield f"replay {self.replay_id}: {self.asked} requests, {self.charted} charts"
        yield f"  {self.equal} equal to what was issued first"
        if self.differing:
            yield f"  {len(self.differing)} of the same model and window differ:"
            for chart_id, fields in list(self.differing.items())[:SHOWN]:
                yield f"    chart {chart_id}: {', '.join(fields)}"
        for model, count in sorted(self.other_model.items()):
            yield f"  {count} by {model}, and another model was served then"
        if self.apart_mgdl:
            yield f"    their medians lie {np.mean(np.abs(self.apart_mgdl)):.1f} mg/dL apart at 60 minutes, on average"
        if self.not_issued:
            yield f"  {self.not_issued} with no issued chart to compare with: superseded then, or no longer kept"
        for status, count in sorted(self.ended.items()):
            yield f"  {count} without a chart: {status}"
        if self.unanswered:
            yield f"  {self.unanswered} unanswered for {SILENCE_SECONDS:.0f} s: {_UNANSWERED}"
        if self.not_asked:
            yield f"  {self.not_asked} charts were issued from requests that Kafka no longer holds"


_UNANSWERED = "does an inference worker with that model run, and calc?"


async def replay(settings: Settings, wanted: Wanted, silence_seconds: float = SILENCE_SECONDS) -> Report:
    """Ask again, wait for the answers, compare.

    Raises `ConfigurationError` for more charts than can be compared at once, `UnavailableError` and
    `TopicMismatchError` where Kafka does not answer.
    """
    report = Report(f"replay-{secrets.token_hex(8)}")
    settings = await placed(settings)
    issued = await _issued(settings, wanted)
    consumer, producer = new_consumer(settings), AIOKafkaProducer(**producer_options(settings))
    await started(consumer, settings)
    try:
        await started(producer, settings)
        try:
            run = _Run(settings, wanted, issued, report, consumer, silence_seconds)
            await run.listen()
            async for request in _requests(settings, wanted):
                if await run.has_room():
                    await run.ask(producer, request)
            await run.finish()
        finally:
            await producer.stop()
    except KafkaError as error:
        raise UnavailableError(f"Kafka does not take the replay ({type(error).__name__}): {error}") from error
    finally:
        await consumer.stop()
    return report


class _Issued:
    """The charts that were issued first, packed, and which window each is of."""

    def __init__(self) -> None:
        self._charts: dict[str, bytes] = {}
        self._served: dict[tuple[str, str], str] = {}

    def add(self, chart: FanChart) -> None:
        """Raises `ConfigurationError` where there are too many."""
        if chart.chart_id in self._charts:
            return  # delivered again
        if len(self._charts) == MOST_CHARTS:
            raise ConfigurationError(f"over {MOST_CHARTS} charts were issued then: choose a shorter time or one person")
        self._charts[chart.chart_id] = zlib.compress(chart.to_json(), 1)
        if chart.model_serves:
            self._served.setdefault((chart.series_key, chart.input_hash), chart.chart_id)

    def same(self, chart: FanChart) -> FanChart | None:
        """That of the same model and window."""
        packed = self._charts.get(chart.chart_id)
        return None if packed is None else FanChart.from_json(zlib.decompress(packed))

    def served(self, chart: FanChart) -> FanChart | None:
        """That of the model that was served for this window."""
        chart_id = self._served.get((chart.series_key, chart.input_hash))
        return None if chart_id is None else FanChart.from_json(zlib.decompress(self._charts[chart_id]))

    def served_but(self, windows: set[tuple[str, str]]) -> int:
        """How many served charts are of none of these windows."""
        return sum(window not in windows for window in self._served)


class _Run:
    """What is under way, and what has come back."""

    def __init__(
        self,
        settings: Settings,
        wanted: Wanted,
        issued: _Issued,
        report: Report,
        consumer: AIOKafkaConsumer,
        silence_seconds: float,
    ) -> None:
        self._settings, self._wanted, self._issued, self._report = settings, wanted, issued, report
        self._consumer = consumer
        self._silence = silence_seconds
        self._pending: set[str] = set()
        self._seen: set[str] = set()
        self._windows: set[tuple[str, str]] = set()
        self._heard = time.monotonic()
        self._silent = False

    async def listen(self) -> None:
        """From now on every answer is heard. Raises `TopicMismatchError` where the topic is missing."""
        count = await partitions_of(self._settings, topics.REPLAYS.name)
        if count == 0:
            raise TopicMismatchError(f"{topics.REPLAYS.name} is missing at {self._settings.broker}; {ADVICE}")
        partitions = [TopicPartition(topics.REPLAYS.name, number) for number in range(count)]
        self._consumer.assign(partitions)
        for partition, end in (await log_ends(self._consumer, partitions)).items():
            self._consumer.seek(partition, end)

    async def ask(self, producer: AIOKafkaProducer, request: ForecastRequest) -> None:
        """Send a request once, however often it is on the topics."""
        if request.request_id in self._seen:
            return
        self._seen.add(request.request_id)
        self._windows.add((request.series_key, request.input_hash))
        again = dataclasses.replace(
            request,
            replay_id=self._report.replay_id,
            replay_model=self._wanted.model,
            force=True,  # computed again, not remembered
            deadline_ms=None,
        )
        key = request.series_key.encode()
        self._pending.add(request.request_id)
        self._report.asked += 1
        if len(self._pending) == 1:
            self._heard = time.monotonic()
        await producer.send(
            topics.BACKFILL.name, again.to_arrow(), key=key, partition=partition_of(key, self._settings.partitions)
        )

    async def has_room(self) -> bool:
        """Wait until another request may go; False from when on nobody answers."""
        while not self._silent and len(self._pending) >= UNDER_WAY:
            self._silent = not await self._goes_on()
        return not self._silent

    async def finish(self) -> None:
        """Wait for what is under way."""
        while self._pending and await self._goes_on():
            pass  # each turn hears what has come
        self._report.unanswered = len(self._pending)
        self._report.not_asked = self._issued.served_but(self._windows)

    async def _goes_on(self) -> bool:
        await self._hear(200)
        return time.monotonic() - self._heard < self._silence

    async def _hear(self, wait_milliseconds: int) -> None:
        for records in (await self._consumer.getmany(timeout_ms=wait_milliseconds)).values():
            for record in records:
                if (answer := answer_of(record.value)) is not None and answer.replay_id == self._report.replay_id:
                    self._take(answer)

    def _take(self, answer: ReplayedForecast) -> None:
        if answer.request_id not in self._pending:
            return  # delivered again
        self._pending.discard(answer.request_id)
        self._heard = time.monotonic()
        if answer.chart is None:
            self._report.ended[answer.status] += 1
            return
        self._report.charted += 1
        compare(answer.chart, self._issued.same(answer.chart), self._issued.served(answer.chart), self._report)


def compare(chart: FanChart, same: FanChart | None, served: FanChart | None, report: Report) -> None:
    """Count a replayed chart. `same`: that of its model and window. `served`: the one that was served of the window."""
    if same is not None:
        differing = differences(chart, same)
        if differing:
            report.differing[chart.chart_id] = differing
        else:
            report.equal += 1
    elif served is not None:
        report.other_model[f"{chart.model} ({chart.model_fingerprint[:12]})"] += 1
        report.apart_mgdl.append(chart.median_mgdl[-1] - served.median_mgdl[-1])
    else:
        report.not_issued += 1


def differences(replayed: FanChart, issued: FanChart) -> tuple[str, ...]:
    """The fields by which a chart differs from the one that was issued, once its fan is fitted to the person alike."""
    rule = issued.calibration
    if rule is not None and rule.version != recalibration.VERSION:
        return (f"calibration (rule {rule.version} then, {recalibration.VERSION} now)",)
    expected = calibrated_as(replayed, rule)
    names = [name for name in FanChart.model_fields if name not in _APART]
    return tuple(name for name in names if getattr(expected, name) != getattr(issued, name))


async def _issued(settings: Settings, wanted: Wanted) -> _Issued:
    found = _Issued()
    async for record in everything(settings, topics.FAN_CHARTS.name):
        if not _is_of(record.key, wanted) or record.value is None or isinstance(record.value, Undecodable):
            continue
        try:
            chart = FanChart.from_json(record.value)
        except RejectedError:
            continue  # not one of ours; anybody may write to a topic
        if chart.kind == "live" and wanted.first <= chart.issue_time <= wanted.last:
            found.add(chart)
    return found


async def _forgotten(settings: Settings) -> dict[str, int]:
    """When subjects were reset or erased last, by digest: what is from before is not sent again, to live longer."""
    found: dict[str, int] = {}
    async for record in everything(settings, _WINDOWS.name):
        key = (record.key or b"").decode(errors="replace")
        marker = read_marker(key, record.value) if isinstance(record.value, bytes) else None
        if marker is not None:
            found[marker[0]] = max(marker[1], found.get(marker[0], 0))
    return found


async def _requests(settings: Settings, wanted: Wanted) -> AsyncIterator[ForecastRequest]:
    forgotten = await _forgotten(settings)
    for topic in SOURCES:
        async for record in everything(settings, topic.name):
            if _is_of(record.key, wanted) and (request := _request(record.value)) is not None:
                try:
                    end = utc_seconds(request.end_seconds, request.timezone)
                except RejectedError:
                    continue
                since_ms = forgotten.get(subject_digest(request.series_key), -1)
                if wanted.first.timestamp() <= end <= wanted.last.timestamp() and request.began_ms > since_ms:
                    yield request


def _is_of(key: bytes | None, wanted: Wanted) -> bool:
    return key is not None and (wanted.subject_id is None or key == wanted.subject_id.encode())


def _request(value: object) -> ForecastRequest | None:
    """A subject's own; None for a sample's, for one that a replay has sent, and for what is none."""
    if not isinstance(value, bytes):
        return None
    try:
        request = ForecastRequest.from_arrow(value)
    except RejectedError:
        return None
    return request if request.kind == "live" and request.replay_id is None else None


def answer_of(value: object) -> ReplayedForecast | None:
    try:
        return ReplayedForecast.from_json(value) if isinstance(value, bytes) else None
    except RejectedError:
        return None
