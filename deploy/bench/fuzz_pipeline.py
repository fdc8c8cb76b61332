"""A sample of the fuzzed messages through all roles on the embedded broker: no process ends, every message does.

What a message becomes was looked at without a broker; here it meets consumers, codecs of the wire, tables on disk and
other messages under way.
"""

import asyncio
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
from deploy.bench.faults_audit import read_all
from deploy.bench.fuzz_cases import GOOD_SUBJECT, KINDS, case_of
from deploy.bench.fuzz_checks import unfit_reason
from deploy.bench.roles import RoleProcess, Roles, provisioned
from deploy.bench.soak_audit import ends_of
from deploy.brokers.embedded import EmbeddedBroker
from schemas import topics
from schemas.dead_letter import DeadLetter
from schemas.errors import MessageTooLargeError
from schemas.fan_chart import FanChart
from schemas.grid import PAST_POINTS
from schemas.topics import Topic
from streams.kafka.connection import producer_options
from streams.middlewares import FAILED
from streams.settings import Settings
from streams.topology import WORKER_ROLES, steps_of

GOOD_EVERY = 25
"""Cases between two readings of somebody whose forecasts have to go on."""
END_SECONDS = 240.0
CASES_A_SECOND = 400.0
_ENDED = re.compile(r'^glucast_events_total\{outcome="(processed|rejected|dead_lettered)",step="(\w+)"\} (\S+)', re.M)
_MIB = 1 << 20


@dataclasses.dataclass(slots=True)
class PipelineReport:
    """What went in, how messages ended by step, and what did not hold."""

    sent: int = 0
    refused: int = 0
    good: int = 0
    ended: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    memory: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    violations: list[str] = dataclasses.field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.violations

    def lines(self) -> Iterator[str]:
        yield f"through the pipeline: {self.sent} sent, {self.refused} refused by broker or client, {self.good} good"
        for (step, outcome), count in sorted(self.ended.items()):
            yield f"    {step:<16} {outcome:<14} {count:>7}"
        for name, (before, after) in self.memory.items():
            yield f"    {name:<16} {before:.0f} MiB before, {after:.0f} MiB after"
        yield from self.violations[:20]
        yield "everything held" if self.clean else f"{len(self.violations)} VIOLATIONS: see above"


async def run(seed: int, numbers: range, say: Callable[[str], None] = print) -> PipelineReport:
    """Start the roles, send the cases with good readings in between, wait for the end of every message, stop all."""
    with tempfile.TemporaryDirectory(prefix="glucast-fuzz-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        environment = {"GLUCAST_FORECASTER": "persistence", "GLUCAST_LOG_LEVEL": "warning"}
        async with provisioned(EmbeddedBroker(home), home, environment) as (settings, roles):
            for role in WORKER_ROLES:
                roles.worker(role)
            roles.api()
            await asyncio.to_thread(roles.wait_until_ready)
            say(f"{len(numbers)} cases through all roles")
            return await _fuzzed(seed, numbers, settings, roles)


async def _fuzzed(seed: int, numbers: range, settings: Settings, roles: Roles) -> PipelineReport:
    report = PipelineReport()
    before = {process.name: _resident_mib(process) for process in roles.all}
    good = next(kind for kind in KINDS if kind.topic == topics.READINGS)
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    began = time.monotonic()
    try:
        for number in range(-PAST_POINTS, 0):
            await _send(producer, good.topic, good.message(number), report)
        for place, number in enumerate(numbers):
            case = case_of(seed, number)
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
    report.memory = {process.name: (before[process.name], _resident_mib(process)) for process in roles.all
                     if process.returncode is None}  # fmt: skip
    report.violations += [f"{process.name} ended with {process.returncode}: {process.log.read_text()[-600:]}"
                          for process in roles.all if process.returncode is not None]  # fmt: skip
    report.violations += await _of_letters(settings)
    report.violations += await _of_good(settings, report.good)
    return report


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
    """Wait until each step has ended as many messages as its topics hold."""
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
    report.violations += behind


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
        letter = DeadLetter.from_json(record.value)
        found = [f"it failed: {letter.reason[:200]}"] if letter.code == FAILED else list(unfit_reason(letter.reason))
        wrong += [f"{letter.letter_id}: {each}" for each in found]
    return wrong


async def _of_good(settings: Settings, good: int) -> list[str]:
    charts = [FanChart.from_json(record.value) for record in await read_all(settings, topics.FAN_CHARTS.name)]
    issued = {chart.issue_time for chart in charts if chart.subject_id == GOOD_SUBJECT and chart.kind == "live"}
    return [] if len(issued) >= good else [f"{good} good readings have charts of {len(issued)} times"]


def _resident_mib(process: RoleProcess) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / _MIB
