"""Disturb a pipeline on a real Kafka in every way that operations do, then count what was lost and what came twice.

The acts: ``join:ROLE`` a further worker, ``term:ROLE`` SIGTERM and restart, ``kill:ROLE`` SIGKILL and restart,
``pause:ROLE`` SIGSTOP beyond the session timeout, ``broker:stop`` and ``broker:kill`` with a restart.
Workers are started again as `glucast up` does it: a spare process with its code loaded takes the place of a dead one.
"""

import asyncio
import dataclasses
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from deploy import spare_order
from deploy.bench import faults_audit, faults_load
from deploy.bench.roles import Roles
from deploy.brokers.local_kafka import LocalKafka
from schemas.errors import ConfigurationError
from schemas.grid import PAST_POINTS
from schemas.topics import FAN_CHARTS, READING_OUTCOMES
from streams.kafka.provision import provision
from streams.settings import Settings

INGEST_ACTS = (
    "term:ingest", "join:ingest", "kill:ingest", "pause:ingest", "broker:stop", "broker:kill",
)  # fmt: skip
PIPELINE_ACTS = (
    "term:ingest", "term:inference", "term:calc", "join:calc", "kill:ingest", "kill:inference", "kill:calc",
    "pause:calc", "broker:stop", "broker:kill",
)  # fmt: skip
HISTORY_READINGS = PAST_POINTS - 1
WORKERS = {"ingest": 2, "inference": 1, "calc": 2}


@dataclasses.dataclass(frozen=True, slots=True)
class FaultRun:
    """One run: what is disturbed, under which load, with whose consumer."""

    acts: Sequence[str]
    rate: float
    whole_pipeline: bool
    consumer: Literal["strict", "plain"] = "strict"
    subjects: int = 200
    seconds_an_act: float = 14.0
    settle_seconds: float = 180.0
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """Of ``glucast worker``."""
        return ("--plain",) if self.consumer == "plain" else ()


@dataclasses.dataclass(slots=True)
class Stall:
    """Longest pause of each partition's output after one act, seconds."""

    act: str
    seconds: dict[int, float]

    def line(self) -> str:
        pauses = "  ".join(f"p{number} {pause:.1f} s" for number, pause in sorted(self.seconds.items()))
        return f"{self.act:<16} longest pause: {pauses}"


@dataclasses.dataclass(slots=True)
class FaultReport:
    """What a run found."""

    audit: faults_audit.Audit
    stalls: list[Stall]
    published: int

    @property
    def clean(self) -> bool:
        return self.audit.lost == 0 and self.audit.wrong == 0 and self.audit.published == self.published


async def run(plan: FaultRun, say: Callable[[str], None] = print) -> FaultReport:
    """Start a Kafka and the workers, disturb them under load, and count. Raises `ConfigurationError` without Kafka."""
    unknown = [act for act in plan.acts if act.partition(":")[0] not in ("join", "term", "kill", "pause", "broker")]
    if unknown:
        raise ConfigurationError(
            f"unknown acts {', '.join(unknown)}; known: join term kill pause :ROLE, broker:stop|kill"
        )
    with tempfile.TemporaryDirectory(prefix="glucast-faults-") as directory:
        home = Path(directory)
        broker = LocalKafka(home)
        broker.start()
        try:
            settings = Settings(broker=broker.address, state_dir=home)
            await provision(settings)
            with Roles(broker.address, home / "roles", plan.environment) as roles:
                return await _disturb(plan, settings, broker, roles, say)
        finally:
            broker.stop()


async def _disturb(
    plan: FaultRun, settings: Settings, broker: LocalKafka, roles: Roles, say: Callable[[str], None]
) -> FaultReport:
    counts = WORKERS if plan.whole_pipeline else {"ingest": WORKERS["ingest"]}
    for role, count in counts.items():
        for ordinal in range(count):
            roles.worker(role, ordinal, *plan.options)
    await asyncio.to_thread(roles.wait_until_ready)
    roles.spares.prepare()
    history = HISTORY_READINGS if plan.whole_pipeline else 0
    published = 0
    if history:
        early = faults_load.readings_of(plan.subjects, history)
        published += await faults_load.publish(settings, early, rate=500)
    each = 1 + int(plan.rate * (plan.seconds_an_act * len(plan.acts) + 3) / plan.subjects)
    say(f"{plan.consumer} consumer: {each * plan.subjects} readings of {plan.subjects} subjects at {plan.rate:.0f}/s")
    steady = faults_load.readings_of(plan.subjects, each, first=history)
    load = asyncio.create_task(faults_load.publish(settings, steady, plan.rate))
    await asyncio.sleep(3)
    marks: list[tuple[str, int, int]] = []
    for act in plan.acts:
        began = time.time()
        say(f"{act}")
        await asyncio.to_thread(_perform, act, plan, settings, broker, roles)
        while time.time() - began < plan.seconds_an_act:
            _revive(roles, say)
            if time.time() - began > spare_order.DELAY_SECONDS:
                roles.spares.prepare()
            await asyncio.sleep(0.05)
        marks.append((act, int(began * 1000), int(time.time() * 1000)))
    published += await load
    await _settled(plan, settings, roles, say)
    if marks:  # a pause after the last act may end after the load
        marks[-1] = (*marks[-1][:2], int(time.time() * 1000))
    audit = await faults_audit.audit(settings, whole_pipeline=plan.whole_pipeline)
    watched = FAN_CHARTS if plan.whole_pipeline else READING_OUTCOMES
    records = await faults_audit.read_all(settings, watched.name)
    found = [Stall(act, faults_audit.stalls(records, settings.partitions, since, until)) for act, since, until in marks]
    return FaultReport(audit, found, published)


def _perform(act: str, plan: FaultRun, settings: Settings, broker: LocalKafka, roles: Roles) -> None:
    kind, _, target = act.partition(":")
    if kind == "broker":
        broker.stop() if target == "stop" else broker.kill()
        time.sleep(2)
        broker.restart()
        return
    workers = [process for process in roles.all if process.name.startswith(f"{target}-")]
    if kind == "join":
        roles.worker(target, len(workers), *plan.options)
        return
    victim = workers[0]
    if kind == "term":
        victim.stop(30)
        victim.start_again()
    elif kind == "kill":
        victim.kill()
        victim.start_again()
    elif kind == "pause":
        victim.signal(signal.SIGSTOP)
        time.sleep(settings.session_timeout_seconds + 2.5)
        victim.signal(signal.SIGCONT)


def _revive(roles: Roles, say: Callable[[str], None]) -> None:
    """What the supervisor does: a worker that has ended is started again."""
    for process in roles.all:
        if process.returncode is not None:
            say(f"{process.name} ended with {process.returncode}; started again")
            process.start_again()


async def _settled(plan: FaultRun, settings: Settings, roles: Roles, say: Callable[[str], None]) -> None:
    """Wait until nothing more comes out for longer than a lost session would take to move."""
    deadline, before, still_since = time.monotonic() + plan.settle_seconds, -1, time.monotonic()
    quiet_seconds = settings.session_timeout_seconds + settings.commit_interval_seconds + 3
    while time.monotonic() < deadline:
        _revive(roles, say)
        now = await faults_audit.processed_so_far(settings)
        if now != before:
            before, still_since = now, time.monotonic()
        elif time.monotonic() - still_since > quiet_seconds:
            return
        await asyncio.sleep(0.5)
    say(f"still busy after {plan.settle_seconds:.0f} s; counting what there is")


def print_report(report: FaultReport, say: Callable[[str], None] = print) -> None:
    """The counts and the pauses, as sentences."""
    for line in report.audit.lines():
        say(line)
    for stall in report.stalls:
        say(stall.line())
    say("nothing lost, nothing wrong" if report.clean else "LOST OR WRONG: see above")
