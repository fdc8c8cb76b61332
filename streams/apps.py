"""Faust Apps by role, from the topology: what they read, keep and run, and every setting that plain Faust gets wrong.

`step_app` runs the steps of ingest or calc. `lane_app` is one lane of inference, whose requests wait for the model
together and are given back, as far as they have not begun, when their partition goes to somebody else.
"""

import asyncio
import dataclasses
import importlib
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import faust
import rocksdict
from faust.types import TP

from agents.work import Helped, Message, StepFunction
from schemas.lanes import Lane
from schemas.topics import LANE_TOPICS, READINGS, Topic
from streams import topology
from streams.calc_metrics import CalcMetrics
from streams.clock import Clock
from streams.effects import TableTurns
from streams.guard import Guard
from streams.kafka import asking
from streams.kafka.connection import BATCH_BYTES, tls_context
from streams.kafka.consumer import StrictApp
from streams.kafka.databases import share_cache
from streams.kafka.delivery import Fatal
from streams.kafka.rewriter import Rewriter
from streams.kafka.tables import ConfirmedTable
from streams.lanes import Lanes
from streams.metrics import Metrics
from streams.settings import Settings
from streams.topology import Step, WorkerRole

BACKFILL_LINGER_SECONDS = 0.05
"""So long a backfill forecast waits for others: singly each is a request of its own, and what brokers and clients spend
on that the lanes that somebody waits for do without. A backlog is over a tenth sooner."""


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """What a worker process gives to its Apps: settings, metrics, its end, where tables lie, its own port."""

    settings: Settings
    metrics: Metrics
    fatal: Fatal
    data_dir: Path
    port: int
    helpers: list[Helped] = dataclasses.field(default_factory=list)
    """Steps with somebody who works for them: started once the role is ready, closed when it stops."""


def module_of(step: Step) -> str:
    """Where a worker's step is built."""
    return f"agents.{step.role}.{step.name}"


def load_step(step: Step, settings: Settings) -> StepFunction:
    """``agents.<role>.<name>.build(settings)``, imported now and not before."""
    function: StepFunction = importlib.import_module(module_of(step)).build(settings)
    return function


def helped(function: object) -> list[Helped]:
    """The step, if it is one of the few that have helpers."""
    return [function] if isinstance(function, Helped) else []


def step_app(role: WorkerRole, host: Host, load: Callable[[Step, Settings], StepFunction] = load_step) -> StrictApp:
    """The App of ingest or calc: an agent a step behind its guard, tables shared by the role's steps."""
    settings = host.settings
    app = new_app(topology.app_id(role), role, host)
    cache = rocksdict.Cache(settings.block_cache_bytes)
    tables = {
        name: ConfirmedTable(app, faust_table(app, name, settings, cache), role, name)
        for name in topology.tables_of(role)
    }
    for table in tables.values():
        app.keep(table)
    app.task(Rewriter(tables.values(), lambda: app.tables_are_open).run)
    if role == "calc":
        CalcMetrics(host.metrics)
    turns, room = TableTurns(), asyncio.Semaphore(settings.events_in_flight)
    for step in topology.steps_of(role):
        function = load(step, settings)
        host.helpers.extend(helped(function))
        if step.by_lane:
            _run_by_lane(app, step, function, tables, host, turns)
            continue
        # What waits by partition may be many, and must not take the room of others.
        own_room = asyncio.Semaphore(settings.events_in_flight) if step.by_partition else room
        guard = Guard(
            step, function, app, tables, own_room, host.metrics, settings, turns, by_partition=step.by_partition
        )
        app.on_release.append(guard.give_back)
        app.agent(topic_of(app, step.reads, settings), name=step.name)(guard.consume)
        if READINGS in step.reads and settings.tick_seconds:
            app.task(Clock(app, settings.tick_seconds).run)
    return app


def _run_by_lane(
    app: StrictApp,
    step: Step,
    function: StepFunction,
    tables: Mapping[str, ConfirmedTable],
    host: Host,
    turns: TableTurns,
) -> None:
    """An agent and a room a lane, and one loop over them."""
    settings = host.settings
    guards = {
        lane: Guard(
            step, function, app, tables, asyncio.Semaphore(settings.events_in_flight), host.metrics, settings, turns
        )
        for lane in step.by_lane
    }
    lanes = Lanes(guards, getattr(function, "prepare", _prepare_nothing))
    app.on_release.append(lanes.release)
    app.task(lanes.serve)
    for lane, topic in step.by_lane.items():
        app.agent(topic_of(app, (topic,), settings), name=f"{step.name}-{lane}")(partial(lanes.take_in, lane))


def _prepare_nothing(messages: Sequence[Message]) -> None:
    """Of a step that takes every message alone."""


def lane_app(
    lane: Lane,
    step: Step,
    function: StepFunction,
    host: Host,
    release: Callable[[set[TP]], None],
    *,
    trial: bool = False,
) -> StrictApp:
    """The App of one lane: `function` waits there for the model, so that requests are under way together.

    `release` gets the revoked partitions and gives back the requests that have not begun. It is called before every
    rebalance and before the App stops; both wait for deliveries that are still open. With a model on `trial` it is a
    group of its own.
    """
    name = topology.trial_lane(lane) if trial else lane
    linger_seconds = BACKFILL_LINGER_SECONDS if lane == "backfill" else 0.0
    app = new_app(topology.app_id(step.role, name), f"{step.role}-{name}", host, linger_seconds)
    app.on_release.append(release)
    room = asyncio.Semaphore(host.settings.lane_capacity)
    guard = Guard(step, function, app, {}, room, host.metrics, host.settings, together=True)
    app.agent(topic_of(app, (LANE_TOPICS[lane],), host.settings), name=f"intake-{lane}")(guard.consume)
    return app


def topic_of(app: Any, topics: Sequence[Topic], settings: Settings) -> Any:
    """A Faust channel of raw bytes from one or several topics: what they mean is a step's business."""
    return app.topic(
        *(topic.name for topic in topics),
        partitions=settings.partitions,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
    )


def faust_table(app: Any, name: str, settings: Settings, cache: rocksdict.Cache) -> Any:
    """A Faust table of raw bytes in RocksDB."""
    table = app.Table(
        name,
        partitions=settings.partitions,
        key_type=bytes,
        value_type=bytes,
        # Faust's store takes entries out of this dictionary: never share it between tables.
        options={"driver": "rocksdict"},
    )
    share_cache(table, cache, settings.write_buffer_bytes)
    return table


def new_app(app_id: str, name: str, host: Host, linger_seconds: float = 0.0) -> StrictApp:
    """An App without agents or tables. What it sends waits `linger_seconds` for more."""
    asking.install()
    return StrictApp(
        app_id,
        fatal=host.fatal,
        session_timeout_seconds=host.settings.session_timeout_seconds,
        fetch_wait_milliseconds=host.settings.fetch_wait_milliseconds,
        held_bytes=host.settings.held_bytes,
        **app_options(name, host),
        producer_linger=linger_seconds,
    )


def app_options(name: str, host: Host) -> dict[str, Any]:
    """Faust's settings, all but the session timeout."""
    settings = host.settings
    member = f"{name}-{settings.ordinal}"
    return {
        "broker": [f"kafka://{address.strip()}" for address in settings.broker.split(",")],
        "broker_credentials": credentials(settings),
        "broker_client_id": f"glucast-{member}",
        # The assignor tells members apart by it: equal URLs leave one of them alive without work. A static member gets
        # the assignment back that the broker has kept for it, and refuses it under another URL.
        "canonical_url": f"http://{member if settings.static_membership else f'{socket.gethostname()}:{host.port}'}",
        "web_enabled": False,
        "store": "rocksdb://",
        "datadir": str(host.data_dir),
        "key_serializer": "raw",
        "value_serializer": "raw",
        "topic_partitions": settings.partitions,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "table_standby_replicas": 0,
        "producer_acks": -1,
        "producer_max_request_size": settings.max_request_bytes,
        "producer_max_batch_size": BATCH_BYTES,
        "producer_request_timeout": max(60.0, settings.stall_seconds),
        "consumer_max_fetch_size": settings.max_request_bytes,
        "consumer_auto_offset_reset": "earliest",
        # None and never an empty string, which would make all workers the same member.
        "consumer_group_instance_id": member if settings.static_membership else None,
        "broker_heartbeat_interval": settings.heartbeat_seconds,
        "broker_rebalance_timeout": settings.rebalance_timeout_seconds,
        "broker_request_timeout": max(40.0, 2 * settings.rebalance_timeout_seconds),
        "broker_max_poll_records": settings.max_poll_records,
        "broker_commit_interval": settings.commit_interval_seconds,
        "stream_buffer_maxsize": settings.stream_buffer_maxsize,
        "stream_wait_empty": True,
        "stream_recovery_delay": 0.0,
    }


def credentials(settings: Settings) -> Any:
    """Faust's form of the connection's TLS and SASL settings."""
    tls = tls_context(settings) if settings.security_protocol.endswith("SSL") else None
    if settings.security_protocol.startswith("SASL"):
        password = settings.sasl_password.get_secret_value() if settings.sasl_password else None
        return faust.SASLCredentials(
            username=settings.sasl_username, password=password, mechanism=settings.sasl_mechanism, ssl_context=tls
        )
    return faust.SSLCredentials(tls) if tls is not None else None
