"""A sample of the fuzzed messages through all roles on the embedded broker: no process ends, every message does.

What a message becomes was looked at without a broker; here it meets consumers, codecs of the wire, tables on disk and
other messages under way.
"""

import asyncio
import contextlib
import dataclasses
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.work import Message, check_size
from deploy.bench import faults_told
from deploy.bench.faults_audit import read_all
from deploy.bench.fuzz_cases import KINDS, Case, case_of
from deploy.bench.fuzz_checks import unfit_reason
from deploy.bench.fuzz_records import GOOD_SUBJECT
from deploy.bench.roles import RoleProcess, Roles, provisioned
from deploy.bench.soak_audit import ends_of
from deploy.brokers.embedded import EmbeddedBroker
from schemas import event, topics
from schemas.dead_letter import DeadLetter
from schemas.errors import MessageTooLargeError, RejectedError
from schemas.fan_chart import FanChart
from schemas.grid import PAST_POINTS
from schemas.metrics import NOTIFY_LAG
from schemas.topics import Topic
from streams.kafka.connection import producer_options
from streams.middlewares import FAILED
from streams.models import choice_in
from streams.settings import Settings
from streams.topology import WORKER_ROLES, steps_of

GOOD_EVERY = 25
"""Cases between two readings of somebody whose forecasts have to go on."""
END_SECONDS = 240.0
CASES_A_SECOND = 400.0
WARM_UP_SHARE = 0.25
GROWTH_MIB = 64.0
"""More resident memory of a process than after the first quarter of the cases is growth."""
_ENDED = re.compile(r'^glucast_events_total\{outcome="(processed|rejected|dead_lettered)",step="(\w+)"\} (\S+)', re.M)
_LAG = re.compile(rf"^{NOTIFY_LAG.name} (\S+)", re.M)
_MIB = 1 << 20


@dataclasses.dataclass(slots=True)
class PipelineReport:
    """What went in, how messages ended by step, and what did not hold."""

    sent: int = 0
    refused: int = 0
    good: int = 0
    ended: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    memory: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """Resident MiB of each process, after the warm-up and at the end."""
    violations: list[str] = dataclasses.field(default_factory=list)

    @property
    def growing(self) -> list[str]:
        """Processes that hold more and more."""
        return [
            f"{name} grows by {after - before:.0f} MiB"
            for name, (before, after) in self.memory.items()
            if after - before > GROWTH_MIB
        ]

    @property
    def clean(self) -> bool:
        return not (self.violations or self.growing)

    def lines(self) -> Iterator[str]:
        yield f"through the pipeline: {self.sent} sent, {self.refused} refused by broker or client, {self.good} good"
        for (step, outcome), count in sorted(self.ended.items()):
            yield f"    {step:<16} {outcome:<14} {count:>7}"
        for name, (before, after) in self.memory.items():
            yield f"    {name:<16} {before:.0f} MiB after the warm-up, {after:.0f} MiB at the end"
        wrong = [*self.violations, *self.growing]
        yield from wrong[:20]
        yield "everything held" if self.clean else f"{len(wrong)} VIOLATIONS: see above"


async def run(seed: int, numbers: range, say: Callable[[str], None] = print) -> PipelineReport:
    """Start the roles, send the cases with good readings in between, wait for the end of every message, stop all."""
    with tempfile.TemporaryDirectory(prefix="glucast-fuzz-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        webhooks = home / "webhooks"
        environment = {"GLUCAST_FORECASTER": "persistence", "GLUCAST_LOG_LEVEL": "warning"}
        environment |= faults_told.environment(webhooks)
        async with (
            provisioned(EmbeddedBroker(home), home, environment) as (settings, roles),
            faults_told.receiving(webhooks, lambda _: None),
        ):
            for role in WORKER_ROLES:
                roles.worker(role)
            roles.api()
            roles.notify()
            await asyncio.to_thread(roles.wait_until_ready)
            say(f"{len(numbers)} cases through all roles")
            return await _fuzzed(seed, numbers, settings, roles)


async def _fuzzed(seed: int, numbers: range, settings: Settings, roles: Roles) -> PipelineReport:
    report = PipelineReport()
    before: dict[str, float] = {}
    good = next(kind for kind in KINDS if kind.topic == topics.READINGS)
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    began = time.monotonic()
    try:
        for number in range(-PAST_POINTS, 0):
            await _send(producer, good.topic, good.message(number), report)
        for place, number in enumerate(numbers):
            if place == int(len(numbers) * WARM_UP_SHARE):
                await _all_ended(settings, roles, report)
                before = {process.name: _resident_mib(process) for process in _running(roles)}
                began = time.monotonic() - place / CASES_A_SECOND
            case = case_of(seed, number)
            if not _is_order(case):
                await _send(producer, case.topic, case.message, report)
            if place % GOOD_EVERY == 0:
                await _send(producer, good.topic, good.message(report.good), report)
                report.good += 1
            if (ahead := began + place / CASES_A_SECOND - time.monotonic()) > 0.02:
                await asyncio.sleep(ahead)
        await producer.flush()
    finally:
        await producer.stop()
    await _all_ended(settings, roles, report)
    report.memory = {process.name: (before.get(process.name, 0.0), _resident_mib(process))
                     for process in _running(roles)}  # fmt: skip
    report.violations += [f"{process.name} ended with {process.returncode}: {process.log.read_text()[-600:]}"
                          for process in roles.all if process.returncode is not None]  # fmt: skip
    report.violations += await _of_letters(settings)
    report.violations += await _of_good(settings, report.good)
    return report


def _running(roles: Roles) -> list[RoleProcess]:
    return [process for process in roles.all if process.returncode is None]


def _is_order(case: Case) -> bool:
    """Whether it has a model serve that nobody has: workers that are told so end, and say why."""
    message = case.message
    return case.topic == topics.MODEL_CHOICES and choice_in(message.key, message.value) is not None


async def _send(producer: AIOKafkaProducer, topic: Topic, message: Message, report: PipelineReport) -> None:
    try:
        check_size(topic, message.key, message.value, message.headers)
        await producer.send_and_wait(
            topic.name, message.value, key=message.key, headers=list(message.headers.items()),
            timestamp_ms=message.timestamp_ms,
        )  # fmt: skip
    except (KafkaError, MessageTooLargeError, ValueError, OverflowError, AssertionError):
        report.refused += 1
    else:
        report.sent += 1


async def _all_ended(settings: Settings, roles: Roles, report: PipelineReport) -> None:
    """Wait until each step has ended as many messages as its topics hold, and notify has read its own."""
    steps = [step for role in WORKER_ROLES for step in steps_of(role)]
    deadline, behind = time.monotonic() + END_SECONDS, ["not looked at yet"]
    while behind and time.monotonic() < deadline and all(process.returncode is None for process in roles.all):
        await asyncio.sleep(1.0)
        report.ended = await _ended(roles)
        behind = []
        for step in steps:
            held = sum((await ends_of(settings, step.reads)).values())
            done = sum(count for (name, _), count in report.ended.items() if name == step.name)
            if done < held:
                behind.append(f"{step.name} has ended {done} of {held} messages")
        behind += await _behind_of_notify(roles)
    report.violations += behind


async def _behind_of_notify(roles: Roles) -> list[str]:
    process = next(process for process in roles.all if process.name.startswith("notify"))
    async with httpx.AsyncClient(timeout=10) as client:
        try:
            found = _LAG.search((await client.get(f"{process.url}/metrics")).text)
        except httpx.HTTPError:
            found = None
    waiting = None if found is None else float(found[1])
    return [] if waiting == 0 else [f"notify has still to read {waiting} messages"]


async def _ended(roles: Roles) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    async with httpx.AsyncClient(timeout=10) as client:
        for process in roles.all:
            try:
                text = (await client.get(f"{process.url}/metrics")).text
            except httpx.HTTPError:
                continue
            for outcome, step, count in _ENDED.findall(text):
                if float(count):
                    found[step, outcome] += int(float(count))
    return found


async def _of_letters(settings: Settings) -> list[str]:
    """Dead letters that no person understands, or that are a failure of ours."""
    wrong = []
    for record in await read_all(settings, topics.DEAD_LETTERS.name):
        if event.ID not in dict(record.headers):
            continue  # a case: our own letters have an id
        letter = DeadLetter.from_json(record.value)
        found = [f"it failed: {letter.reason[:200]}"] if letter.code == FAILED else list(unfit_reason(letter.reason))
        wrong += [f"{letter.letter_id}: {each}" for each in found]
    return wrong


async def _of_good(settings: Settings, good: int) -> list[str]:
    issued = set()
    for record in await read_all(settings, topics.FAN_CHARTS.name):
        with contextlib.suppress(RejectedError):  # a case
            chart = FanChart.from_json(record.value)
            if chart.subject_id == GOOD_SUBJECT and chart.kind == "live":
                issued.add(chart.issue_time)
    return [] if len(issued) >= good else [f"{good} good readings have charts of {len(issued)} times"]


def _resident_mib(process: RoleProcess) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / _MIB
