"""What people wait for while a backlog of others' work is queued: plots, draws and live readings, and what it costs.

Starts `glucast up`, queues thousands of backfill forecasts at one stage or at all of them, and times from outside what
a person waits for as long as the backlog lasts. Then the same backlog alone. It measures and prints.

At `readings` the backlog is what three subjects publish at once, in the partition of somebody whose next reading is
waited for: a week of simulated readings, each of them the newest; a week of late ones; and as many corrections of a
reading of two hours before, each of which changes all windows since.
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count as counting
from itertools import islice
from typing import Any, Literal

import httpx
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.core import fingerprint
from agents.virtual_person.person import VirtualPerson
from deploy.bench.pipeline import Figure, RunningGlucast, export_of
from deploy.bench.throughput import sustained
from schemas.errors import UnavailableError
from schemas.forecast import Forecast, ForecastRequest
from schemas.grid import HORIZON_STEPS, PAST_POINTS, STEP, STEP_SECONDS, STEPS_A_DAY
from schemas.reading import Reading
from schemas.topics import FAN_CHARTS, FORECASTS, LANE_TOPICS, READINGS, Topic
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.partitioning import partition_of
from streams.settings import Settings

Stage = Literal["uploads", "requests", "forecasts", "readings", "all"]
STAGES: tuple[Stage, ...] = ("uploads", "requests", "forecasts", "readings", "all")
AT_ONCE: tuple[Stage, ...] = ("uploads", "requests", "forecasts")
"""What `all` queues."""

UPLOAD_SAMPLES = 110
ALONE, FRESH, A_STAGE = 300, 600, 1000
"""Where the files of a backlog alone, those that are waited for and those of the next stage begin: none comes twice."""

BACKLOG = "backlog-"
CORRECTED = "corrected-"
"""Whose charts are not counted: of requests for one time the newest that waits is answered, so their number varies."""
FLOOD = 7 * STEPS_A_DAY
LATE = timedelta(hours=1)
CORRECTED_BEFORE = 2 * 12
"""Slots between the reading that is corrected and the newest."""
WAIT_SECONDS = 120.0
END_SECONDS = 1_767_225_600


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """So many backfill forecasts at each stage of `stages` in turn; at most `repeats` of each thing are timed.

    At `readings` the backlog is always the same three weeks.
    """

    backlog: int = 10_000
    repeats: int = 20
    stages: tuple[Stage, ...] = STAGES


class Charts:
    """What comes by on the public topic: times of the backlog's charts, and whom a live chart is waited for."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.backlog_ms: list[int] = []
        self.others_ms: list[int] = []
        self.live: asyncio.Queue[tuple[str, datetime]] = asyncio.Queue()

    async def watch(self) -> None:
        """Until cancelled."""
        async for record in self._consumer:
            chart = orjson.loads(record.value)
            subject = chart.get("subject_id")
            if subject is None:
                self.others_ms.append(record.timestamp)
            elif subject.startswith(BACKLOG):
                self.backlog_ms.append(record.timestamp)
            else:
                self.live.put_nowait((subject, datetime.fromisoformat(chart["issue_time"])))

    @property
    def count(self) -> int:
        """Charts of the backlog, as far as records of it and of uploads tell."""
        return len(self.backlog_ms) + len(self.others_ms)


@dataclasses.dataclass(slots=True)
class Waits:
    """Seconds of each thing that was waited for, one list a kind."""

    quick_plot: list[float] = dataclasses.field(default_factory=list)
    draw: list[float] = dataclasses.field(default_factory=list)
    live: list[float] = dataclasses.field(default_factory=list)
    charts_left: int = 0
    """Of the backlog, when the last wait was over."""

    def figures(self) -> Iterator[Figure]:
        yield Figure("quick_plot of a fresh file", tuple(self.quick_plot))
        yield Figure("draw of an uncomputed sample", tuple(self.draw))
        yield Figure("reading → record", tuple(self.live))


class LivePerson:
    """A subject with eight hours of readings behind it, whose next readings are waited for."""

    def __init__(self, producer: AIOKafkaProducer, charts: Charts, name: str) -> None:
        self.name = name
        self._producer, self._charts = producer, charts
        slot = int(time.time()) // STEP_SECONDS * STEP_SECONDS  # a chart's time of issue is a slot's
        start = (datetime.fromtimestamp(slot, UTC) - timedelta(days=2)).replace(tzinfo=None)
        self._readings = VirtualPerson("adult#003", seed=11, start=start).readings()

    async def begin(self) -> None:
        """Give the history, and wait for the first forecast."""
        for at, mgdl in islice(self._readings, PAST_POINTS - 1):
            await self._send(at, mgdl)
        await self.next_chart()

    async def next_chart(self) -> float:
        """Seconds from publishing the next reading to its record."""
        at, mgdl = next(self._readings)
        began = time.perf_counter()
        await self._send(at, mgdl)
        while await asyncio.wait_for(self._charts.live.get(), WAIT_SECONDS) != (self.name, at.replace(tzinfo=UTC)):
            pass
        return time.perf_counter() - began

    async def _send(self, at: datetime, mgdl: float) -> None:
        reading = Reading(subject_id=self.name, time=at.replace(tzinfo=UTC), glucose=mgdl, unit="mg/dL", simulated=True)
        await self._producer.send_and_wait(READINGS.name, key=self.name.encode(), value=reading.to_json())


def queued(stage: Stage, count: int, run: str) -> Iterator[tuple[Topic, str, bytes]]:
    """Topic, key and value of a backlog's messages, all different."""
    for number in range(count):
        subject, end = f"{BACKLOG}{run}-{number % 100:02d}", END_SECONDS + STEP_SECONDS * (number // 100)
        past = [12_000 + (number * 7 + place * 13) % 400 for place in range(PAST_POINTS)]
        window: dict[str, Any] = {
            "request_id": f"{run}{stage}{number}".encode().hex().rjust(64, "0")[-64:], "kind": "live",
            "series_key": subject, "subject_id": subject, "end_seconds": end, "past_centi_mgdl": past,
            "truth_centi_mgdl": [], "input_hash": fingerprint.input_hash(end, past), "num_samples": 10, "seed": 0,
            "simulated": True,
        }  # fmt: skip
        if stage == "requests":
            yield LANE_TOPICS["backfill"], subject, ForecastRequest(**window).to_arrow()
        else:
            forecast = Forecast(
                **window, forecast_id=window["request_id"], model="bench", model_fingerprint="d" * 64,
                samples_mgdl=[120.0 + draw + step for draw in range(10) for step in range(HORIZON_STEPS)],
                residual_sd_mgdl=[12.0] * HORIZON_STEPS, model_serves=False,
            )  # fmt: skip
            yield FORECASTS["backfill"], subject, forecast.to_arrow()


def flood(run: str, beside: str, partitions: int, now: datetime) -> Iterator[Reading]:
    """Readings of three subjects in the partition of the one `beside`, as they are published."""
    for kind in ("simulated", "late"):
        subject, first = _neighbour(f"{BACKLOG}{run}-{kind}", beside, partitions), now - LATE - FLOOD * STEP
        for number in range(FLOOD):
            yield _reading(subject, first + number * STEP, 120 + number * 7 % 40, kind == "simulated")
    subject, first = _neighbour(f"{CORRECTED}{run}", beside, partitions), now - 2 * PAST_POINTS * STEP
    for number in range(2 * PAST_POINTS):
        yield _reading(subject, first + number * STEP, 120, False)
    corrected = first + (2 * PAST_POINTS - 1 - CORRECTED_BEFORE) * STEP
    for number in range(FLOOD):
        yield _reading(subject, corrected, 115 + number % 2 * 10, False)


def _reading(subject: str, time: datetime, mgdl: float, simulated: bool) -> Reading:
    return Reading(subject_id=subject, time=time, glucose=mgdl, unit="mg/dL", simulated=simulated)


def _neighbour(name: str, beside: str, partitions: int) -> str:
    """A name like this one whose messages lie in the partition of the one `beside`."""
    wanted = partition_of(beside.encode(), partitions)
    return next(each for n in counting() if partition_of((each := f"{name}-{n}").encode(), partitions) == wanted)


def charts_of_flood() -> int:
    """That are counted: of each week one a reading, once there are eight hours."""
    return 2 * (FLOOD - PAST_POINTS + 1)


async def _queue(
    client: httpx.AsyncClient, producer: AIOKafkaProducer, stage: Stage, count: int, person: int, beside: str
) -> int:
    """Queue a backlog, where it can in the partition of the subject `beside`; returns how many charts it will make."""
    if stage == "all":
        parts = [
            await _queue(client, producer, part, count, person + 7 * place, beside)
            for place, part in enumerate(AT_ONCE)
        ]
        return sum(parts)
    if stage == "uploads":
        many = asyncio.Semaphore(8)

        async def upload(number: int) -> int:
            async with many:
                answer = await client.post("/process_unified", json={"csv_base64": export_of(person + number)})
                answer.raise_for_status()
                return int(answer.json()["total_samples"])

        return sum(await asyncio.gather(*(upload(number) for number in range(-(-count // UPLOAD_SAMPLES)))))
    if stage == "readings":
        now = datetime.fromtimestamp(int(time.time()) // STEP_SECONDS * STEP_SECONDS, UTC)
        sent = [
            await producer.send(READINGS.name, key=reading.subject_id.encode(), value=reading.to_json())
            for reading in flood(f"{person:x}", beside, Settings().partitions, now)
        ]
        await asyncio.gather(*sent)
        return charts_of_flood()
    confirmations = [
        await producer.send(topic.name, key=key.encode(), value=value)
        for topic, key, value in queued(stage, count, f"{person:x}")
    ]
    await asyncio.gather(*confirmations)
    return count


@asynccontextmanager
async def _watching(broker: str) -> AsyncIterator[tuple[AIOKafkaProducer, Charts]]:
    settings = Settings(broker=broker)
    consumer, producer = new_consumer(settings), AIOKafkaProducer(**producer_options(settings))
    await consumer.start()
    await producer.start()
    consumer.assign([TopicPartition(FAN_CHARTS.name, p) for p in range(settings.partitions)])
    await consumer.seek_to_end()
    charts = Charts(consumer)
    watching = asyncio.create_task(charts.watch())
    try:
        yield producer, charts
    finally:
        watching.cancel()
        await producer.stop()
        await consumer.stop()


async def measure(url: str, broker: str, stage: Stage, plan: Plan, person: int) -> tuple[Waits, float, float]:
    """Waits beside a backlog; charts a second of the backlog beside them, and of such a backlog alone."""
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as client, _watching(broker) as (producer, charts):
        live = LivePerson(producer, charts, f"priority-{person}")
        await live.begin()
        await _drawn(client, person - 1)  # the browser's first render is start-up
        alone = await _rate_of(client, producer, charts, stage, plan, person + ALONE, live.name)
        waits = Waits()
        beside = await _rate_of(
            client,
            producer,
            charts,
            stage,
            plan,
            person,
            live.name,
            lambda left: _wait_all(client, live, waits, plan, person, left),
        )
        return waits, beside, alone


async def _rate_of(
    client: httpx.AsyncClient,
    producer: AIOKafkaProducer,
    charts: Charts,
    stage: Stage,
    plan: Plan,
    person: int,
    beside: str,
    meanwhile: Callable[[Callable[[], int]], Any] | None = None,
) -> float:
    """Queue a backlog, do something `meanwhile` (told how much is left), wait for its end; charts a second of it."""
    charts.backlog_ms.clear()
    charts.others_ms.clear()
    wanted = await _queue(client, producer, stage, plan.backlog, person, beside)
    if meanwhile is not None:
        await meanwhile(lambda: wanted - charts.count)
    latest, count = time.monotonic(), charts.count
    while charts.count < wanted:
        await asyncio.sleep(0.2)
        if charts.count > count:
            latest, count = time.monotonic(), charts.count
        elif time.monotonic() - latest > WAIT_SECONDS:
            raise UnavailableError(f"{charts.count} of {wanted} charts of the backlog came")
    return sustained([*charts.backlog_ms, *charts.others_ms])


async def _wait_all(
    client: httpx.AsyncClient, live: LivePerson, waits: Waits, plan: Plan, person: int, left: Callable[[], int]
) -> None:
    for number in range(plan.repeats):
        if left() <= 0:
            break
        fresh = person + FRESH + 2 * number
        waits.quick_plot.append(await _drawn(client, fresh))
        waits.draw.append(await _draw(client, fresh + 1))
        waits.live.append(await live.next_chart())
        waits.charts_left = left()


async def _drawn(client: httpx.AsyncClient, person: int) -> float:
    """Seconds of a quick_plot with its PNG."""
    body = {"csv_base64": export_of(person)}
    began = time.perf_counter()
    (await client.post("/quick_plot", json=body)).raise_for_status()
    return time.perf_counter() - began


async def _draw(client: httpx.AsyncClient, person: int) -> float:
    """Seconds of the draw of a fresh file's oldest sample, which the file's own backfill reaches last."""
    answer = await client.post("/process_unified", json={"csv_base64": export_of(person)})
    answer.raise_for_status()
    upload = answer.json()
    began = time.perf_counter()
    body = {"handle": upload["handle"], "index": 1 - upload["total_samples"]}
    (await client.post("/draw_a_plot", json=body)).raise_for_status()
    return time.perf_counter() - began


def run(broker: str, port: int, plan: Plan, say: Callable[[str], None] = print) -> None:
    """A fresh glucast on `broker` (embedded, local or host:port) for each stage; print its figures."""
    for place, stage in enumerate(plan.stages):
        running = RunningGlucast(broker, port, {"GLUCAST_MAX_CACHE_SIZE": "1000"})
        try:
            waits, beside, alone = asyncio.run(measure(running.url, running.broker, stage, plan, A_STAGE * place + 1))
        finally:
            running.stop()
        say(_title(broker, stage, plan, waits, beside, alone))
        for figure in waits.figures():
            say("    " + figure.line().rstrip())


def _title(broker: str, stage: Stage, plan: Plan, waits: Waits, beside: float, alone: float) -> str:
    left = f"{waits.charts_left} charts left after the last wait" if waits.charts_left > 0 else "it ended before"
    queued = "three weeks of readings at once" if stage == "readings" else f"{plan.backlog} queued at {stage}"
    return f"{broker}, {queued}: {beside:.0f} charts/s beside, {alone:.0f} alone ({100 * beside / alone:.0f} %); {left}"
