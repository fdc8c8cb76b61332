"""The inference role in this process on the embedded broker: priority under backlog, the same draws, nothing lost."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from agents.core.forecaster import Forecaster
from agents.core.turns import TURNS_PER_SHARE
from deploy.bench.faults_audit import read_all
from deploy.bench.roles import Roles
from deploy.brokers.embedded import EmbeddedBroker
from deploy.roles import variables
from schemas import topics
from schemas.dead_letter import DeadLetter
from schemas.event import TRACEPARENT
from schemas.forecast import Forecast, ForecastRequest
from schemas.lanes import Lane
from schemas.outcome import RequestOutcome
from streams.apps import Host
from streams.inference_role import InferenceRole, Model
from streams.kafka.connection import producer_options
from streams.kafka.provision import provision
from streams.metrics import Metrics
from streams.model_thread import ModelThread
from streams.settings import Settings
from tests.kit.brokers import overrides_of
from tests.kit.clients import until_there
from tests.kit.forecasters import FINGERPRINT, RecordingForecaster
from tests.kit.requests import forecast_id_of, request_of
from tests.kit.waiting import until_async

BACKLOG = 600
FORECAST_NAMES = [topic.name for topic in topics.FORECASTS.values()]
TRACE = f"00-{1:032x}-{1:016x}-01".encode()


class Running:
    """One inference role, started in this event loop."""

    def __init__(self, settings: Settings, home: Path, ordinal: int = 0) -> None:
        self.settings = settings
        self.fatal: list[str] = []
        host = Host(settings, Metrics(), self.fatal.append, home / f"inference-{ordinal}", 23_000 + ordinal)
        self.metrics = host.metrics
        self.role = InferenceRole(host, ModelThread())
        self.apps = list(self.role.lanes.values())
        self.answering: asyncio.Task[None] | None = None

    async def start(self, forecaster: Forecaster) -> None:
        await asyncio.gather(*(app.start() for app in self.apps))
        await until_async(lambda: all(app._consumer and app.strict.ledgers for app in self.apps), "partitions assigned")
        self.role.serve(Model(forecaster, self.settings))
        self.answering = asyncio.create_task(self.role.answer())

    async def stop(self) -> None:
        try:
            async with asyncio.timeout(30):
                await asyncio.gather(*(app.stop() for app in self.apps if not app.should_stop))
        finally:
            if self.answering is not None:
                self.answering.cancel()

    async def __aenter__(self) -> "Running":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@contextlib.asynccontextmanager
async def publishing(settings: Settings) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    producer = AIOKafkaProducer(**producer_options(settings) | {"linger_ms": 20})
    await producer.start()

    async def publish(
        lane: Lane, requests: Iterable[ForecastRequest | bytes], key: str = "k", headers: dict[str, bytes] | None = None
    ) -> None:
        sent = []
        for request in requests:
            value = request if isinstance(request, bytes) else request.to_arrow()
            of = key if isinstance(request, bytes) else request.series_key
            sent.append(
                await producer.send(
                    topics.LANE_TOPICS[lane].name, value, key=of.encode(), headers=list((headers or {}).items())
                )
            )
        await asyncio.gather(*sent)

    try:
        yield publish
    finally:
        await producer.stop()


async def forecasts(settings: Settings) -> list[Forecast]:
    records = [record for topic in topics.FORECASTS.values() for record in await read_all(settings, topic.name)]
    return [Forecast.from_arrow(record.value) for record in records]


async def until_answered(settings: Settings, requests: Sequence[ForecastRequest]) -> None:
    """Each has its forecast; what comes again has the same id."""
    wanted = {request.request_id for request in requests}

    def complete(records: list[ConsumerRecord[bytes, bytes]]) -> bool:
        enough = len(records) >= len(wanted)
        return enough and {Forecast.from_arrow(record.value).request_id for record in records} == wanted

    await until_there(settings, FORECAST_NAMES, complete)


@pytest.fixture
async def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    settings = Settings(
        broker=broker.address, state_dir=tmp_path, lane_capacity=64, batch_size=8, **overrides_of(broker)
    )
    await provision(settings)
    return settings


async def test_somebody_who_waits_overtakes_a_backlog(settings: Settings, tmp_path: Path) -> None:
    gate = threading.Event()
    forecaster = RecordingForecaster(gate)
    backlog = [request_of(number) for number in range(BACKLOG)]
    urgent = [request_of(number) for number in range(BACKLOG, BACKLOG + 20)]
    async with publishing(settings) as publish, Running(settings, tmp_path) as running:
        depth = running.role.batcher.depth
        await publish("backfill", backlog)
        await running.start(forecaster)
        lane = running.role.lanes["backfill"]
        await until_async(
            lambda: forecaster.began.is_set() and len(lane.in_flight) == 64, "a full lane, a batch of it begun"
        )
        await publish("interactive", urgent)
        await until_async(lambda: depth("interactive") == 20, "the urgent requests queued beside the full lane")
        held = settings.batch_size
        gate.set()
        await until_async(lambda: len(forecaster.drawn) == BACKLOG + 20, "everything answered", 60)
    names = {bytes.fromhex(forecast_id_of(request, FINGERPRINT)) for request in urgent}
    places = [place for place, seed in enumerate(forecaster.drawn) if seed in names]
    assert len(places) == 20
    passed_by = places[-1] + 1 - 20 - held  # besides the batch that was under way
    assert passed_by <= 20 // (TURNS_PER_SHARE - 1) + 1, f"{passed_by} of the backlog went before the urgent ones"
    assert running.fatal == []
    found = await forecasts(settings)
    assert {record.request_id for record in found} == {request.request_id for request in backlog + urgent}
    assert len(found) == BACKLOG + 20


async def test_draws_do_not_depend_on_company_and_are_shared(settings: Settings, tmp_path: Path) -> None:
    wanted = request_of(7)
    forecaster = RecordingForecaster()
    async with publishing(settings) as publish, Running(settings, tmp_path) as running:
        await publish("live", [wanted], headers={TRACEPARENT: TRACE, "other": b"1"})
        await running.start(forecaster)
        await until_async(lambda: len(forecaster.drawn) == 1, "the lone request drawn")
        await publish("backfill", [request_of(number) for number in range(30)])
        forced = request_of(7, request_id="f" * 64, force=True)
        await publish("interactive", [forced, request_of(8, request_id="e" * 64)])
        await until_async(lambda: _answers(running) == 33, "everything answered")
    samples: dict[str, set[tuple[float, ...]]] = {}
    for record in await forecasts(settings):
        samples.setdefault(record.forecast_id, set()).add(tuple(record.samples_mgdl))
    assert len(samples) == 30
    assert all(len(different) == 1 for different in samples.values()), "one computation, one set of bits"
    for lane, topic in topics.FORECASTS.items():
        said = [dict(record.headers) for record in await read_all(settings, topic.name)]
        expected = {TRACEPARENT: TRACE} if lane == "live" else {}
        assert said == [expected] * len(said), "each is in the trace of its own request"
    assert running.fatal == []


def _answers(running: Running) -> float:
    text = running.metrics.exposition().decode()
    lines = [line for line in text.splitlines() if line.startswith("glucast_requests_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def test_what_cannot_be_answered_ends_in_an_outcome_or_a_dead_letter(settings: Settings, tmp_path: Path) -> None:
    def trouble(windows: Any, num_samples: int) -> None:
        if num_samples == 13:
            raise RuntimeError("no kernel image")

    async with publishing(settings) as publish, Running(settings, tmp_path) as running:
        await publish("interactive", [request_of(1, deadline_ms=1, demand_id="late"), b"poison", b""])
        await publish("live", [request_of(2, num_samples=13, demand_id="broken"), request_of(3)])
        await publish("backfill", [request_of(4, past_centi_mgdl=[10_000] * 95, demand_id="short")])
        await running.start(RecordingForecaster(trouble=trouble))
        await until_async(lambda: _answers(running) == 6, "everything ended")
    outcomes = [
        RequestOutcome.from_json(record.value) for record in await read_all(settings, topics.REQUEST_OUTCOMES.name)
    ]
    assert {(each.demand_id, each.status) for each in outcomes} == {
        ("late", "expired"),
        ("broken", "failed"),
        ("short", "implausible"),
    }
    letters = [DeadLetter.from_json(record.value) for record in await read_all(settings, topics.DEAD_LETTERS.name)]
    assert sorted((letter.topic, letter.code) for letter in letters) == [
        (topics.INTERACTIVE.name, "malformed"),
        (topics.INTERACTIVE.name, "malformed"),
        (topics.LIVE.name, "failed"),
    ]
    assert [record.request_id for record in await forecasts(settings)] == [request_of(3).request_id]
    assert running.fatal == []


async def test_live_requests_give_way_to_newer_ones_and_go_on_as_backfill_when_late(
    settings: Settings, tmp_path: Path
) -> None:
    def live(number: int, **changes: Any) -> ForecastRequest:
        return request_of(number, kind="live", series_key="ada", subject_id="ada", handle=None, index=None, **changes)

    end = 1_700_000_000
    old, new = (live(number, end_seconds=end, revision=number) for number in (1, 2))
    late = live(3, deadline_ms=1)
    async with publishing(settings) as publish, Running(settings, tmp_path) as running:
        await publish("live", [old, new, late], key="ada")
        await asyncio.gather(*(app.start() for app in running.apps))
        await until_async(lambda: len(running.role._unnamed["live"]) == 3, "all wait for the model")
        running.role.serve(Model(RecordingForecaster(), settings))
        running.answering = asyncio.create_task(running.role.answer())
        await until_async(lambda: _answers(running) == 4, "everything ended")
    assert {record.request_id for record in await forecasts(settings)} == {new.request_id, late.request_id}
    (outcome,) = [
        RequestOutcome.from_json(record.value) for record in await read_all(settings, topics.REQUEST_OUTCOMES.name)
    ]
    assert (outcome.request_id, outcome.status) == (old.request_id, "superseded")
    assert [record.value for record in await read_all(settings, topics.BACKFILL.name)] == [late.to_arrow()]
    assert running.fatal == []


async def test_a_worker_that_leaves_or_joins_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    requests = [request_of(number) for number in range(600)]

    def slow(windows: Any, num_samples: int) -> None:
        threading.Event().wait(0.005)

    both = Running(settings, tmp_path, 1), Running(settings, tmp_path, 2)
    async with publishing(settings) as publish, both[0] as first, both[1] as second:
        await publish("backfill", requests[:200])
        await first.start(RecordingForecaster(trouble=slow))
        await publish("backfill", requests[200:400])
        await second.start(RecordingForecaster(trouble=slow))
        await publish("backfill", requests[400:])
        await first.stop()
        await until_answered(settings, requests)
    assert first.fatal == second.fatal == []


async def test_a_killed_worker_is_replaced_by_the_other(settings: Settings, tmp_path: Path) -> None:
    requests = [request_of(number) for number in range(900)]
    light = dict(EmbeddedBroker.settings_overrides) | {
        "forecaster": "persistence",
        "batch_size": 1,
        "lane_capacity": 64,
    }

    with Roles(settings.broker, tmp_path / "roles", variables(light)) as roles:
        victim, survivor = roles.worker("inference", 0), roles.worker("inference", 1)
        await asyncio.to_thread(roles.wait_until_ready)
        async with publishing(settings) as publish:
            await publish("backfill", requests[:700])
            await until_there(settings, FORECAST_NAMES, bool)
            victim.kill()
            before = {forecast.request_id for forecast in await forecasts(settings)}
            await publish("live", requests[700:])

        await until_answered(settings, requests)
        assert before < {request.request_id for request in requests}, "the worker was killed after its work was done"
        assert survivor.returncode is None
