"""What it costs to tell many at once: followers of events and webhooks, one of which hangs and one of which fails.

All roles run as processes against one broker, under a steady load of simulated people. First nobody is told, then
everybody. Printed is how much memory and processor time each role takes, what others wait for meanwhile, and how long
after its record an event and a webhook are there. It measures, and counts what did not come.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.bench import faults_load, soak_audit
from deploy.bench.faults_load import Key
from deploy.bench.pipeline import p95
from deploy.bench.push_crowd import ASKED, Crowd, Seen
from deploy.bench.roles import RoleProcess, Roles, provisioned
from deploy.brokers.choice import choose
from schemas.grid import PAST_POINTS
from schemas.reading import Reading
from schemas.topics import FAN_CHARTS, READING_OUTCOMES
from streams.kafka.connection import new_consumer
from streams.notify import webhook_file
from streams.private_file import write
from streams.settings import Settings

HISTORY_RATE = 500
MARGIN_SECONDS = 3.0
"""What came later than so long before the end may still have been under way."""
SAMPLE_SECONDS = 2.0
_MIB = 1 << 20
_TROUBLED = ("webhook-0", "webhook-1")
"""The one that hangs and the one that fails."""
_LOOPBACK = "127.0.0.0/8"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """`rate` readings a second of so many people: `alone_seconds` with nobody told, then `seconds` with everybody.

    In `mended_seconds` after them the webhooks that hung and failed answer.
    """

    rate: float = 40.0
    people: int = 60
    followers: int = 500
    webhooks: int = 100
    alone_seconds: float = 20.0
    seconds: float = 60.0
    mended_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Use:
    """Of one role: resident MiB at the end of each part and at most, and its share of a core in each part."""

    role: str
    alone_mib: float
    last_mib: float
    most_mib: float
    alone_core: float
    core: float

    def line(self) -> str:
        memory = f"{self.alone_mib:>9.0f} {self.last_mib:>9.0f} {self.most_mib:>9.0f}"
        return f"{self.role:<14}{memory} {100 * self.alone_core:>9.0f} {100 * self.core:>9.0f}"


@dataclasses.dataclass(slots=True)
class Report:
    """What a run found. `records`: when the record of a reading or forecast was made, Unix seconds."""

    plan: Plan
    began: float
    ended: float
    uses: list[Use]
    seen: Seen
    records: Mapping[tuple[str, Key], float]
    states: Mapping[str, str]
    mended_at: float | None = None
    after: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The states once those that hung and failed had answered for a while."""

    def lines(self) -> Iterator[str]:
        plan = self.plan
        yield f"{plan.rate:g} readings/s of {plan.people} people; {plan.followers} followers, {plan.webhooks} webhooks"
        yield f"{'':<14}{'alone MiB':>9} {'told MiB':>9} {'most MiB':>9} {'alone %':>9} {'told %':>9}   of a core"
        yield from (use.line() for use in self.uses)
        yield f"{'ms':<38}{'p50':>8} {'p95':>8} {'max':>8} {'n':>7}"
        for path in ASKED:
            yield _line(f"{path}, alone", self._took(path, 0, self.began))
            yield _line(f"{path}, told", self._took(path, self.began, self.ended))
        for kind in ("reading", "forecast"):
            yield _line(f"event {kind}, from its record", self._late(self.seen.events, kind))
        yield _line("webhook forecast, from its record", self._late(self.seen.webhooks, "forecast"))
        yield f"answers that are none: {sum(status != 200 for *_, status in self.seen.answers)}"
        yield f"followers: cut {self.seen.cut} times, refused {self.seen.refused} times"
        yield f"events that did not come: {self.missing}"
        yield from (f"webhook {name}: {state}" for name, state in sorted(self.states.items()))
        if self.mended_at is not None:
            yield from self._mended(self.mended_at)

    def _mended(self, since: float) -> Iterator[str]:
        for path in sorted({path for path, *_ in self.seen.mended}):
            came = [(at, of) for each, at, of in self.seen.mended if each == path]
            ids = {of for _, of in came}
            yield (
                f"webhook {path[1:]} answers again: first after {min(at for at, _ in came) - since:.1f} s, "
                f"{len(ids)} deliveries, {len(came) - len(ids)} again"
            )
        yield from (f"then webhook {name}: {state}" for name, state in sorted(self.after.items()))

    def _took(self, path: str, since: float, until: float) -> list[float]:
        return [took for asked, at, took, status in self.seen.answers
                if asked == path and since <= at < until and status == 200]  # fmt: skip

    def _late(self, came: Sequence[tuple[str, str, int, float]], wanted: str) -> list[float]:
        return [at - self.records[kind, (subject, of)] for kind, subject, of, at in came
                if kind == wanted and (kind, (subject, of)) in self.records and at > self.began]  # fmt: skip

    @property
    def missing(self) -> int:
        """Events of records between both ends that not every follower of their subject was told."""
        told: dict[tuple[str, Key], int] = defaultdict(int)
        for kind, subject, of, _ in self.seen.events:
            told[kind, (subject, of)] += 1
        people = [faults_load.subject_of(number % self.plan.people) for number in range(self.plan.followers)]
        wanted = {person: people.count(person) for person in set(people)}
        return sum(
            max(0, wanted.get(key[0], 0) - told[kind, key])
            for (kind, key), at in self.records.items()
            if self.began < at < self.ended - MARGIN_SECONDS
        )


def _line(name: str, seconds: Sequence[float]) -> str:
    if not seconds:
        return f"{name:<38}{'none came':>8}"
    ordered = sorted(1000 * each for each in seconds)
    numbers = f"{statistics.median(ordered):>8.1f} {p95(ordered):>8.1f} {ordered[-1]:>8.1f}"
    return f"{name:<38}{numbers} {len(ordered):>7}"


class Records:
    """A consumer that notes when each outcome of a reading and each fan chart was made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.made: dict[tuple[str, Key], float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        consumer: AIOKafkaConsumer = new_consumer(self._settings)
        await consumer.start()
        try:
            topics = (FAN_CHARTS.name, READING_OUTCOMES.name)
            consumer.assign([TopicPartition(name, p) for name in topics for p in range(self._settings.partitions)])
            await consumer.seek_to_end()
            async for record in consumer:
                kind, field = ("forecast", "issue_time") if record.topic == FAN_CHARTS.name else ("reading", "time")
                document = orjson.loads(record.value)
                moment = int(datetime.datetime.fromisoformat(document[field]).timestamp())
                self.made.setdefault((kind, (document["subject_id"], moment)), record.timestamp / 1000)
        finally:
            await consumer.stop()


class Meter:
    """Resident memory and processor time of each role, with its children."""

    def __init__(self, roles: Sequence[RoleProcess]) -> None:
        self._roles = {role.name: psutil.Process(role.pid) for role in roles}
        self.most: dict[str, float] = defaultdict(float)

    def memory(self) -> dict[str, float]:
        """MiB now, of each role."""
        now = {name: _sum(process, lambda each: each.memory_info().rss / _MIB) for name, process in self._roles.items()}
        for name, size in now.items():
            self.most[name] = max(self.most[name], size)
        return now

    def processor(self) -> dict[str, float]:
        """Seconds since its start, of each role."""
        return {name: _sum(process, lambda each: sum(each.cpu_times()[:2])) for name, process in self._roles.items()}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.memory()
            await asyncio.sleep(SAMPLE_SECONDS)


def _sum(process: psutil.Process, of: Callable[[psutil.Process], float]) -> float:
    """Over a process and its children; one that goes meanwhile counts nothing."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += of(each)
    return total


@contextlib.asynccontextmanager
async def crowd_of(plan: Crowd) -> AsyncIterator[Callable[[object], Any]]:
    """The process of clients: what it is told, as JSON, and a coroutine that gives its answer."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.bench.push_crowd", stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 30
    )

    async def tell(what: object) -> Any:
        assert process.stdin is not None  # noqa: S101  both are pipes
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(orjson.dumps(what) + b"\n")
        await process.stdin.drain()
        return orjson.loads(await process.stdout.readline() or b"null")

    try:
        yield tell
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run(plan: Plan, broker: str, say: Callable[[str], None] = print) -> Report:
    """Start everything, load it, and end all that was started, whatever happens meanwhile."""
    with tempfile.TemporaryDirectory(prefix="glucast-push-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        environment = {
            "GLUCAST_RATE_LIMIT": "100000/minute",
            "GLUCAST_EVENT_CLIENTS": str(4 * plan.followers),
            "GLUCAST_WEBHOOKS_FILE": str(home / "webhooks"),
            "GLUCAST_WEBHOOK_PRIVATE_NETWORKS": _LOOPBACK,
        }
        write(home / "webhooks", [], webhook_file.WHAT)
        async with provisioned(choose(broker, home), home, environment) as (settings, roles):
            return await _measured(plan, settings, roles, home / "webhooks", say)


async def _measured(plan: Plan, settings: Settings, roles: Roles, file: Path, say: Callable[[str], None]) -> Report:
    for role in ("inference", "ingest", "calc"):
        roles.worker(role)
    api = roles.api()
    roles.notify()
    await asyncio.to_thread(roles.wait_until_ready, 120)
    sent: dict[Key, float] = {}
    say(f"eight hours of {plan.people} people first")
    history = PAST_POINTS - 1
    publish = functools.partial(faults_load.publish, settings, sent=sent, is_disturbed=False)
    await publish(faults_load.readings_of(plan.people, history), HISTORY_RATE)
    await soak_audit.settled(settings, 60, say)
    enough, records, meter = asyncio.Event(), Records(settings), Meter(roles.all)
    load = asyncio.create_task(publish(_steady(plan.people, history, enough), plan.rate))
    watching = [asyncio.create_task(records.run()), asyncio.create_task(meter.run())]
    people = [faults_load.subject_of(number) for number in range(plan.people)]
    crowd = Crowd(api.url, people, plan.followers, "/0", "/1")
    try:
        async with crowd_of(crowd) as tell:
            receiver = (await tell(dataclasses.asdict(crowd)))["receiver"]
            memory, processor = {}, [meter.processor()]
            say(f"{plan.alone_seconds:g} s with nobody told")
            await asyncio.sleep(plan.alone_seconds)
            memory["alone"] = meter.memory()
            processor.append(meter.processor())
            _add_webhooks(plan, file, receiver, people)
            await tell("follow")
            began = time.time()
            processor.append(meter.processor())
            say(f"{plan.seconds:g} s with everybody")
            await asyncio.sleep(plan.seconds)
            ended = time.time()
            memory["told"] = meter.memory()
            processor.append(meter.processor())
            states, mended_at, after = await _states(api.url), None, {}
            if plan.mended_seconds:
                mended_at = (await tell("mend"))["mended"]
                say(f"{plan.mended_seconds:g} s in which every webhook answers")
                await asyncio.sleep(plan.mended_seconds)
                after = await _states(api.url)
            enough.set()
            await load
            seen = Seen(**await tell("end"))
    finally:
        enough.set()
        for task in (load, *watching):
            task.cancel()
        await asyncio.gather(load, *watching, return_exceptions=True)
    alone = _shares(processor[0], processor[1], plan.alone_seconds)
    told = _shares(processor[2], processor[3], ended - began)
    uses = [Use(name, memory["alone"][name], memory["told"][name], meter.most[name], alone[name], told[name])
            for name in sorted(told)]  # fmt: skip
    return Report(plan, began, ended, uses, seen, records.made, states, mended_at, after)


def _shares(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> dict[str, float]:
    return {name: (after[name] - before[name]) / seconds for name in before}


def _steady(people: int, first: int, enough: asyncio.Event) -> Iterator[Reading]:
    for number in itertools.count(first):
        for reading in faults_load.readings_of(people, 1, number):
            if enough.is_set():
                return
            yield reading


def _add_webhooks(plan: Plan, file: Path, receiver: str, people: Sequence[str]) -> None:
    """Of one person each, in turn: the first hangs, the second fails."""
    for number in range(plan.webhooks):
        webhook_file.add(
            file,
            webhook_file.new_endpoint(
                {
                    "name": f"webhook-{number}",
                    "url": f"{receiver}/{number}",
                    "subject_id": people[number % len(people)],
                    "events": ["alert", "outcome", "forecast"],
                    "secret": webhook_file.new_secret(),
                    "added_at": datetime.datetime.now(datetime.UTC),
                }
            ),
        )


async def _states(url: str) -> dict[str, str]:
    """What the API tells of webhooks that do not do well, and what became of the last deliveries of the first two."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        webhooks = (await client.get("/webhooks")).json()["webhooks"]
        became = {}
        for name in _TROUBLED:
            kept = (await client.get(f"/webhooks/{name}/deliveries")).json()["deliveries"]
            became[f"{name}, its last {len(kept)} deliveries"] = str(dict(Counter(each["status"] for each in kept)))
    failing = {each["webhook_id"]: f"fails since {each['failing_since']}: {each['reason']}"
               for each in webhooks if each["failing_since"]}  # fmt: skip
    return failing | became | {"others": f"{len(webhooks) - len(failing)} do well"}
