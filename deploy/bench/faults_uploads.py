"""Uploads beside the readings of a fault run, and whether each got its one outcome, its handle and all its forecasts.

A file every few seconds goes to the topic and over HTTP in turn. Who sends over HTTP sends again until it is answered,
and then has one of its forecasts computed anew and looks at it. The reference are the recorded ``cgm.uploads``, put
through the pure steps of ingest again: they say which outcome each file gets, under which handle, and what is asked for
each of its samples. Only when a file came may differ, as one that was sent twice came twice.
"""

import asyncio
import base64
import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from agents.core.fingerprint import forecast_id, upload_id
from agents.ingest import handle, unify
from agents.ingest.files.unified_file import Rules, UnifiedFile, unify_file
from agents.memory import MemoryTables
from agents.work import Message
from deploy.bench.faults_audit import lasting
from deploy.bench.fuzz_files import rows_of, unified
from schemas.fan_chart import FanChart
from schemas.forecast import ForecastRequest
from schemas.grid import CENTI, HORIZON_STEPS
from schemas.topics import BACKFILL, FAN_CHARTS, INTERACTIVE, SERIES, UPLOAD_OUTCOMES, UPLOADS
from schemas.upload import UploadOutcome
from streams import topology
from streams.kafka import messages
from streams.kafka.connection import producer_options
from streams.settings import Settings

EVERY_SECONDS = 5.0
AGAIN_SECONDS = 1.0
LOOKED_AT = -1
"""The sample that is computed anew: none of those that are computed first."""
REQUESTS = (INTERACTIVE, BACKFILL)
TOPICS = (UPLOADS, UPLOAD_OUTCOMES, *REQUESTS, FAN_CHARTS)
"""What `compared` looks at."""
_BUSY = (429, 503)

Place = tuple[str, int]
"""A sample: the handle and the index."""


def environment() -> dict[str, str]:
    """Of the roles, so that no handle is let go for newer ones."""
    return {"GLUCAST_MAX_CACHE_SIZE": "1000000"}


@dataclasses.dataclass(slots=True)
class Sent:
    """Whose bytes went where, by upload id, and what the API said of those that it took."""

    files: set[str] = dataclasses.field(default_factory=set)
    over_http: set[str] = dataclasses.field(default_factory=set)
    answers: dict[str, tuple[str | None, int | None]] = dataclasses.field(default_factory=dict)
    """Handle and number of samples."""
    drawn: set[str] = dataclasses.field(default_factory=set)
    refusals: Counter[str] = dataclasses.field(default_factory=Counter)
    """Answers that nobody should get, whatever is broken."""


class Uploads:
    """The load: `run` until `stop`."""

    def __init__(self, settings: Settings, url: str | None) -> None:
        """`url`: of the API; without it everything goes to the topic."""
        self._settings, self._url = settings, url
        self._enough = asyncio.Event()
        self.sent = Sent()

    def stop(self) -> None:
        """Send no more files."""
        self._enough.set()

    async def run(self) -> None:
        """Returns when Kafka has confirmed, or the API answered, all that was sent."""
        producer = AIOKafkaProducer(
            **producer_options(self._settings), enable_idempotence=True, request_timeout_ms=120_000
        )
        await producer.start()
        try:
            async with httpx.AsyncClient(base_url=self._url or "", timeout=20) as client, asyncio.TaskGroup() as group:
                for number in itertools.count():
                    raw = unified(rows_of(number))
                    name = upload_id(raw, "UTC")
                    self.sent.files.add(name)
                    if self._url is not None and number % 2:
                        self.sent.over_http.add(name)
                        group.create_task(self._over_http(client, name, raw))
                    else:
                        group.create_task(_to_topic(producer, name, raw))
                    if await self._ended_within(EVERY_SECONDS):
                        break
        finally:
            await producer.stop()

    async def _ended_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._enough.wait()
        except TimeoutError:
            return False

    async def _over_http(self, client: httpx.AsyncClient, name: str, raw: bytes) -> None:
        body = {"csv_base64": base64.b64encode(raw).decode()}
        answer = await self._answered(client, "/process_unified", body)
        if answer is None:
            return
        found = answer.json()
        self.sent.answers[name] = found["handle"], found["total_samples"]
        drawing = {"handle": found["handle"], "index": LOOKED_AT, "force_calculate": True}
        if await self._answered(client, "/draw_a_plot", drawing) is not None:
            self.sent.drawn.add(name)

    async def _answered(
        self, client: httpx.AsyncClient, path: str, body: Mapping[str, object]
    ) -> httpx.Response | None:
        """The answer, however often that has to be tried; None where it is one that is none of a disturbed service."""
        while True:
            try:
                answer = await client.post(path, json=body, headers={"accept": "application/json"})
            except httpx.HTTPError:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if answer.status_code == 200:
                return answer
            if answer.status_code not in _BUSY:
                self.sent.refusals[f"POST {path}: {answer.status_code} {answer.text[:200]}"] += 1
                return None
            await asyncio.sleep(AGAIN_SECONDS)


async def _to_topic(producer: AIOKafkaProducer, name: str, raw: bytes) -> None:
    await producer.send_and_wait(UPLOADS.name, key=name.encode(), value=raw)


@dataclasses.dataclass(frozen=True, slots=True)
class UploadAudit:
    """Counts. Lost, wrong and unanswered have to be 0."""

    sent: int
    lost: int
    """Files that were confirmed or answered, and are not on the topic."""
    outcomes_lost: int
    outcomes_again: int
    outcomes_wrong: int
    """Records that say something else than the reference, of files that nobody sent too."""
    samples: int
    samples_lost: int
    samples_again: int
    samples_wrong: int
    """Charts, or requests where none are expected, that are not of the window that the file has there, or say something
    else than the first under their id."""
    answers: int
    answers_wrong: int
    unanswered: int
    """Files that were sent over HTTP, and whose forecast was not computed anew."""

    @property
    def clean(self) -> bool:
        lost = self.lost + self.outcomes_lost + self.samples_lost + self.unanswered
        return lost + self.outcomes_wrong + self.samples_wrong + self.answers_wrong == 0

    def lines(self) -> Iterator[str]:
        yield (
            f"uploads: {self.sent} sent, {self.lost} lost; outcomes: {self.outcomes_lost} lost, "
            f"{self.outcomes_again} again, {self.outcomes_wrong} wrong"
        )
        yield (
            f"their {self.samples} samples: {self.samples_lost} lost, {self.samples_again} again, "
            f"{self.samples_wrong} wrong"
        )
        yield f"over HTTP: {self.answers} answered, {self.answers_wrong} of them wrong; {self.unanswered} unanswered"


@dataclasses.dataclass
class Reference:
    """What the uploads that were published leave where nothing disturbs."""

    outcomes: dict[str, UploadOutcome] = dataclasses.field(default_factory=dict)
    requests: dict[Place, ForecastRequest] = dataclasses.field(default_factory=dict)


class _Here:
    """Reads files in this process: they are our own."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def unify(self, raw: bytes | None, timezone: str, rules: Rules) -> UnifiedFile:
        return await asyncio.to_thread(unify_file, raw, timezone, rules)


async def reference_of(settings: Settings, uploads: Iterable[ConsumerRecord[bytes, bytes]]) -> Reference:
    """Put recorded uploads through the steps of ingest, as if nothing had happened in between."""
    reference, tables = Reference(), MemoryTables()
    reading, storing = unify.Unify(settings, _Here()), handle.build(settings)
    for upload in uploads:
        file = await tables.run(topology.step_of("unify"), reading, messages.of_record(upload))
        sends = tables.apply(file)
        for series in [send for send in sends if send.topic == SERIES]:
            message = Message(topic=SERIES.name, key=series.key, value=series.value, offset=upload.offset)
            sends += tables.apply(await tables.run(topology.step_of("handle"), storing, message))
        for send in sends:
            if send.topic == UPLOAD_OUTCOMES:
                outcome = UploadOutcome.from_json(send.value)
                reference.outcomes[outcome.upload_id] = outcome
            elif send.topic in REQUESTS:
                request = ForecastRequest.from_arrow(send.value)
                if request.handle is not None and request.index is not None:
                    reference.requests[request.handle, request.index] = request
    return reference


async def compared(
    settings: Settings, sent: Sent, records: Iterable[ConsumerRecord[bytes, bytes]], *, charts: bool
) -> UploadAudit:
    """Compare what was sent with what the topics hold; without `charts` the requests for them are looked at."""
    of: defaultdict[str, list[ConsumerRecord[bytes, bytes]]] = defaultdict(list)
    for record in records:
        of[record.topic].append(record)
    reference = await reference_of(settings, of[UPLOADS.name])
    outcomes: defaultdict[str, list[UploadOutcome | None]] = defaultdict(list)
    for record in of[UPLOAD_OUTCOMES.name]:
        found = None if record.value is None else UploadOutcome.from_json(record.value)
        outcomes[(record.key or b"").decode()].append(found)
    samples = _charts(of[FAN_CHARTS.name]) if charts else _requests(of[topic.name] for topic in REQUESTS)
    right = {name: (outcome.handle, outcome.total_samples) for name, outcome in reference.outcomes.items()}
    return UploadAudit(
        sent=len(sent.files),
        lost=len(sent.files - reference.outcomes.keys()),
        outcomes_lost=len(reference.outcomes.keys() - outcomes.keys()),
        outcomes_again=sum(len(records) - 1 for records in outcomes.values()),
        outcomes_wrong=sum(
            _timeless(record) != _timeless(reference.outcomes.get(name))
            for name, records in outcomes.items()
            for record in records
        ),
        samples=len(reference.requests),
        samples_lost=len(reference.requests.keys() - samples.keys()),
        samples_again=sum(len(found) - 1 for found in samples.values()),
        samples_wrong=sum(
            not _is_of(reference.requests.get(place), record) for place, found in samples.items() for record in found
        )
        + _unlike(of[FAN_CHARTS.name]),
        answers=len(sent.answers),
        answers_wrong=sum(answer != right.get(name) for name, answer in sent.answers.items()),
        unanswered=len(sent.over_http - sent.drawn),
    )


def _charts(records: Iterable[ConsumerRecord[bytes, bytes]]) -> Mapping[Place, Sequence[FanChart]]:
    found: defaultdict[Place, list[FanChart]] = defaultdict(list)
    for record in records:
        chart = FanChart.from_json(record.value)
        if chart.kind == "sample" and chart.handle is not None and chart.index is not None:
            found[chart.handle, chart.index].append(chart)
    return found


def _requests(
    topics: Iterable[Iterable[ConsumerRecord[bytes, bytes]]],
) -> Mapping[Place, Sequence[ForecastRequest]]:
    found: defaultdict[Place, list[ForecastRequest]] = defaultdict(list)
    for record in itertools.chain.from_iterable(topics):
        request = ForecastRequest.from_arrow(record.value)
        if request.kind == "sample" and request.handle is not None and request.index is not None:
            found[request.handle, request.index].append(request)
    return found


def _unlike(records: Iterable[ConsumerRecord[bytes, bytes]]) -> int:
    """How often a sample's chart says something else than the first of its id."""
    said: defaultdict[str, set[bytes]] = defaultdict(set)
    for charts in _charts(records).values():
        for chart in charts:
            said[chart.chart_id].add(lasting(chart))
    return sum(len(contents) - 1 for contents in said.values())


def _timeless(outcome: UploadOutcome | None) -> UploadOutcome | None:
    return None if outcome is None else outcome.model_copy(update={"began_ms": 0})


def _is_of(request: ForecastRequest | None, found: FanChart | ForecastRequest) -> bool:
    """Whether a chart, or another request, is of the window of this one: its past, its truth, its place in time."""
    if request is None:
        return False
    if isinstance(found, ForecastRequest):
        return dataclasses.replace(found, began_ms=request.began_ms) == request
    asked = forecast_id(request.input_hash, found.model_fingerprint, request.num_samples, request.seed)
    truth = [*request.truth_centi_mgdl, *[None] * (HORIZON_STEPS - len(request.truth_centi_mgdl))]
    windows = (_centi(found.past_mgdl), request.past_centi_mgdl), (_centi(found.truth_mgdl), truth)
    return found.forecast_id == asked and all(shown == held for shown, held in windows)


def _centi(values: Iterable[float | None]) -> list[int | None]:
    return [None if value is None else round(CENTI * value) for value in values]
