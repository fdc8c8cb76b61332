"""Disturb a pipeline on a real Kafka in every way that operations do, then count what was lost and what came twice.

The acts: ``join:ROLE`` a further worker, ``term:ROLE`` SIGTERM and restart, ``kill:ROLE`` SIGKILL and restart,
``pause:ROLE`` SIGSTOP beyond the session timeout, ``freeze:ROLE`` for three of them, ``full:ROLE`` no room on its disk,
``clock:ROLE:SECONDS`` its clock jumps ahead or back and returns, ``cut:ROLE:SECONDS`` no network meanwhile.
``broker:stop``, ``broker:kill``, ``broker:pause`` and ``broker:full`` the same of a broker, of three the one whose
number follows; ``broker:disk`` one that comes back with an empty disk, ``broker:roll`` all of them in turn. Workers are
started again as `glucast up` does it: a spare process with its code loaded takes the place of a dead one.

After each act service has to be back in time: within `FaultRun.back_seconds` of a broker's return, and within
`FaultRun.role_back_seconds` of what was done to a role, whose process may have to start first.
"""

import asyncio
import dataclasses
import itertools
import math
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from deploy import spare_order
from deploy.bench import faults_audit, faults_load, faults_told, faults_uploads
from deploy.bench.faults_acts import API, NOTIFY, Act, Props, Reviver, Stage, act_of
from deploy.bench.faults_load import Key
from deploy.bench.faults_watch import Person, Watch, longest_pause
from deploy.bench.roles import Place, Roles
from deploy.brokers.local_cluster import LocalCluster
from schemas.grid import PAST_POINTS
from schemas.reading import Reading
from schemas.topics import FAN_CHARTS, READING_OUTCOMES
from streams.kafka.provision import provision
from streams.settings import Settings

INGEST_ACTS = (
    "term:ingest", "join:ingest", "kill:ingest", "pause:ingest", "broker:stop", "broker:kill",
)  # fmt: skip
PIPELINE_ACTS = (
    "term:ingest", "term:inference", "term:calc", "join:calc", "kill:ingest", "kill:inference", "kill:calc",
    "pause:calc", "broker:stop", "broker:kill", "kill:api", "kill:notify",
)  # fmt: skip
CLUSTER_ACTS = (
    *(f"broker:{verb}:{number}" for verb in ("kill", "stop", "pause") for number in (1, 2, 3)),
    "broker:disk:2", "broker:roll", "kill:ingest", "kill:inference", "kill:calc", "kill:api", "pause:calc",
)  # fmt: skip
MACHINE_ACTS = (
    "broker:full", "full:ingest", "full:calc", "full:api", "clock:ingest:7200", "clock:calc:-7200", "clock:api:3600",
    "clock:api:-3600", "cut:ingest:5", "cut:ingest:20", "freeze:calc",
)  # fmt: skip
ACT_SETS: Mapping[str, Sequence[str]] = {
    "ingest": INGEST_ACTS, "pipeline": PIPELINE_ACTS, "cluster": CLUSTER_ACTS, "machine": MACHINE_ACTS,
}  # fmt: skip
TOLD = ("freeze", "full", "clock", "cut")
_BAD = re.compile(r"\[(error|warning) +\]|\b(ERROR|FATAL)\b")
HISTORY_READINGS = PAST_POINTS - 1
WORKERS = {"ingest": 2, "inference": 1, "calc": 2}
WARM_SECONDS = 3.0
WATCHED_SECONDS = 90.0
"""After an act; what is not back then never is."""


def acts_of(text: str) -> tuple[str, ...]:
    """The acts of a comma separated list, in which a name of `ACT_SETS` stands for all of its acts."""
    return tuple(act for name in text.split(",") for act in ACT_SETS.get(name, (name,)))


@dataclasses.dataclass(frozen=True, slots=True)
class FaultRun:
    """One run: what is disturbed, under which load, with whose consumer, on how many brokers."""

    acts: Sequence[str]
    rate: float
    whole_pipeline: bool
    brokers: int = 1
    consumer: Literal["strict", "plain"] = "strict"
    subjects: int = 200
    is_followed: bool = True
    """Whether a client follows everybody's events and a webhook gets everybody's forecasts, and both are counted."""
    seconds_an_act: float = 14.0
    back_seconds: float = 10.0
    role_back_seconds: float = 30.0
    settle_seconds: float = 600.0
    away_seconds: float | None = None
    hold_seconds: float = 20.0
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """Of ``glucast worker``."""
        return ("--plain",) if self.consumer == "plain" else ()

    def limit_of(self, act: Act) -> float:
        """Seconds within which all has to be back."""
        return self.back_seconds if act.on_broker else self.role_back_seconds


@dataclasses.dataclass(slots=True)
class Seen:
    """What was seen of one act. Unix times: when it `began`, was `over`, and all was back.

    What clients saw, in seconds: the longest `pause` of a partition's results, how long after its end all was `back`,
    and of a person at the query API the longest pause between readings that were `taken` and between `fresh` forecasts.
    """

    act: str
    began: float
    over: float
    until: float
    limit: float
    """Seconds within which all has to be back."""
    restarted: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    """What the victim said to an operator."""
    pause: float = 0.0
    back: float = 0.0
    taken: float | None = None
    fresh: float | None = None

    @property
    def is_late(self) -> bool:
        """What is never back is back after infinity."""
        return not self.back <= self.limit

    def late_line(self) -> str:
        when = f"after {self.back:.1f} s" if math.isfinite(self.back) else "never"
        return f"{self.act}: all has to be back within {self.limit:g} s, and was {when}"

    def line(self) -> str:
        person = "".join(f"{'' if seconds is None else f'{seconds:.1f}':>9}" for seconds in (self.taken, self.fresh))
        return f"{self.act:<20}{self.pause:>9.1f}{self.back:>9.1f}{person}  {' '.join(self.restarted)}".rstrip()


def told(log: Path, since: int) -> tuple[str, ...]:
    """The different errors and warnings that stand in a log behind so many bytes, without their times; five at most."""
    with log.open("rb") as file:
        file.seek(since)
        text = file.read().decode(errors="replace")
    lines = [line.partition(" ")[2].strip()[:300] for line in text.splitlines() if _BAD.search(line)]
    return tuple(dict.fromkeys(lines))[:5]


@dataclasses.dataclass(slots=True)
class FaultReport:
    """What a run found. `refusals`: how often the query API said what instead of an answer."""

    audit: faults_audit.Audit
    seen: list[Seen]
    sent: int
    refusals: dict[str, int]
    heard: faults_told.Heard | None = None
    """What a follower of events and a webhook were told, of the whole pipeline."""
    uploads: faults_uploads.UploadAudit | None = None
    waits: Sequence[float] = ()
    """From each reading to what was seen of it, seconds in order: in the calm and while something was away."""

    @property
    def whole(self) -> bool:
        """Nothing was lost, nothing was wrong."""
        others = all(found is None or found.clean for found in (self.heard, self.uploads))
        return self.audit.lost == 0 and self.audit.wrong == 0 and self.audit.published == self.sent and others

    @property
    def clean(self) -> bool:
        """And after each act all was back in time."""
        return self.whole and not any(seen.is_late for seen in self.seen)


async def run(plan: FaultRun, say: Callable[[str], None] = print) -> FaultReport:
    """Start a Kafka and the roles, disturb them under load, and count. Raises `ConfigurationError` without Kafka."""
    acts = [act_of(name, plan.brokers) for name in plan.acts]
    for act in acts:
        if act.missing:
            say(f"{act.name} is skipped: {act.missing}")
    acts = [act for act in acts if not act.missing]
    with tempfile.TemporaryDirectory(prefix="glucast-faults-") as directory:
        home = Path(directory)
        with Props(acts, home) as props:
            return await _on_cluster(plan, acts, props, home, say)


async def _on_cluster(
    plan: FaultRun, acts: Sequence[Act], props: Props, home: Path, say: Callable[[str], None]
) -> FaultReport:
    cluster = LocalCluster(home, plan.brokers, second_host=props.second_host)
    try:
        cluster.start()
        overrides: dict[str, Any] = dict(cluster.settings_overrides)
        settings = Settings(broker=cluster.address, state_dir=home, **overrides)
        await provision(settings)
        webhooks = home / "webhooks"
        environment = plan.environment | faults_told.environment(webhooks) | faults_uploads.environment()
        with Roles(cluster.address, home / "roles", environment) as roles:
            places = {role: props.place_of(role, cluster.second_address) for role in (*WORKERS, API, NOTIFY)}
            stage = Stage(
                settings, cluster.nodes, roles, props, plan.options, plan.away_seconds, plan.hold_seconds, say
            )
            return await _Run(plan, settings, roles, stage, places, webhooks, say).disturbed(acts)
    finally:
        cluster.stop()


class _Run:
    """The run of one plan on a started cluster."""

    def __init__(
        self,
        plan: FaultRun,
        settings: Settings,
        roles: Roles,
        stage: Stage,
        places: Mapping[str, Place | None],
        webhooks: Path,
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._settings, self._roles, self._say = plan, settings, roles, say
        self._webhooks = webhooks
        self._stage, self._places = stage, places
        self._reviver = Reviver(roles)
        self._watch = Watch(settings, FAN_CHARTS.name if plan.whole_pipeline else READING_OUTCOMES.name)
        self._sent: dict[Key, float] = {}
        self._enough = asyncio.Event()
        self._person: Person | None = None

    async def disturbed(self, acts: Sequence[Act]) -> FaultReport:
        """Start the roles, perform the acts under load, wait until all is done, and count."""
        await self._start_roles()
        if self._query_url is None or not self._plan.is_followed:
            return await self._disturbed(acts, None)
        async with faults_told.listening(self._query_url, self._webhooks) as listeners:
            return await self._disturbed(acts, listeners)

    async def _disturbed(self, acts: Sequence[Act], listeners: faults_told.Listeners | None) -> FaultReport:
        plan = self._plan
        history = HISTORY_READINGS if plan.whole_pipeline else 0
        early = self._readings(history)
        await faults_load.publish(self._settings, early, rate=500, sent=self._sent)
        self._say(f"{plan.consumer} consumer, {plan.brokers} broker(s): {plan.subjects} subjects, {plan.rate:.0f}/s")
        load = asyncio.create_task(faults_load.publish(self._settings, self._steady(history), plan.rate, self._sent))
        uploads = faults_uploads.Uploads(self._settings, self._query_url)
        uploading = asyncio.create_task(uploads.run())
        clients = [asyncio.create_task(client.run()) for client in (self._watch, self._person) if client is not None]
        await self._until_back(time.time())
        if self._person is not None:
            deadline = time.time() + WATCHED_SECONDS
            while not self._person.fresh and time.time() < deadline:  # noqa: ASYNC110 - seen by polling, as by people
                await asyncio.sleep(0.2)
            self._person.refusals.clear()  # what there was no forecast for yet
        await asyncio.sleep(WARM_SECONDS)
        acts_seen = [await self._act(act, load) for act in acts]
        self._enough.set()
        uploads.stop()
        await load
        await self._revived_until_done(uploading)
        if self._person is not None:
            self._person.stop()
            publishing = clients.pop()
            await asyncio.wait([publishing], timeout=WATCHED_SECONDS)
            publishing.cancel()
        await self._settled()
        for client in clients:
            client.cancel()
        await asyncio.wait(clients)
        audit = await faults_audit.audit(
            self._settings,
            sent=self._sent.keys(),
            whole_pipeline=plan.whole_pipeline,
            query_url=self._query_url,
        )
        records = [
            record
            for topic in faults_uploads.TOPICS
            for record in await faults_audit.read_all(self._settings, topic.name)
        ]
        uploaded = await faults_uploads.compared(self._settings, uploads.sent, records, charts=plan.whole_pipeline)
        refusals = uploads.sent.refusals + (self._person.refusals if self._person is not None else Counter[str]())
        for seen in acts_seen:
            self._measure(seen)
        told = None if listeners is None else await faults_told.heard(self._settings, listeners)
        waits = self._watch.waits(self._sent)
        return FaultReport(audit, acts_seen, len(self._sent), refusals, told, uploaded, waits)

    async def _start_roles(self) -> None:
        plan = self._plan
        counts = WORKERS if plan.whole_pipeline else {"ingest": WORKERS["ingest"]}
        for role, count in counts.items():
            for ordinal in range(count):
                place = self._places[role] if ordinal == 0 else None
                self._roles.worker(role, ordinal, *plan.options, place=place)
        if plan.whole_pipeline:
            self._person = Person(self._roles.api(place=self._places[API]).url, self._sent)
            self._roles.notify(place=self._places[NOTIFY])
        await asyncio.to_thread(self._roles.wait_until_ready, 120)
        self._roles.spares.prepare()

    @property
    def _query_url(self) -> str | None:
        return next((process.url for process in self._roles.all if process.name.startswith("api")), None)

    def _readings(self, each: int, first: int = 0) -> Iterator[Reading]:
        wide = faults_load.WIDE_SWING_MGDL
        return faults_load.readings_of(self._plan.subjects, each, first, swing_mgdl=wide)

    def _steady(self, first: int) -> Iterator[Reading]:
        for number in itertools.count(first):
            if self._enough.is_set():
                return
            yield from self._readings(1, number)

    async def _act(self, act: Act, load: asyncio.Task[None]) -> Seen:
        """Perform it and see how it went on until all was back."""
        began, restarted = time.time(), list[str]()
        log = self._stage.log_of(act)
        before = log.stat().st_size if log.exists() else 0
        self._say(f"{act.name}  (load average {os.getloadavg()[0]:.1f})")
        doing = asyncio.create_task(asyncio.to_thread(self._stage.perform, act))
        while not doing.done() or time.time() - began < self._plan.seconds_an_act:
            restarted += self._revive()
            if time.time() - began > spare_order.DELAY_SECONDS:
                self._roles.spares.prepare()
            await asyncio.sleep(0.05)
        over = doing.result()
        if load.done():
            await load  # raises what ended it
        restarted += await self._until_back(over)
        seen = Seen(act.name, began, over, time.time(), self._plan.limit_of(act), tuple(restarted))
        if act.verb in TOLD:
            seen.told = told(log, before)
        return seen

    async def _until_back(self, over: float) -> list[str]:
        restarted, deadline = list[str](), time.time() + WATCHED_SECONDS
        while self._watch.back(over, self._sent) == float("inf") and time.time() < deadline:
            restarted += self._revive()
            await asyncio.sleep(0.2)
        return restarted

    async def _revived_until_done(self, task: asyncio.Task[None]) -> None:
        """Whom it waits for may have ended meanwhile. After `FaultRun.settle_seconds` it waits no longer."""
        deadline = time.monotonic() + self._plan.settle_seconds
        while not task.done() and time.monotonic() < deadline:
            self._revive()
            await asyncio.sleep(0.2)
        if task.done():
            await task  # raises what ended it
        task.cancel()

    def _revive(self) -> list[str]:
        return [f"{name}({code})" for name, code in self._reviver.revive(but=self._stage.victim).items()]

    def _measure(self, seen: Seen) -> None:
        seen.pause = max(self._watch.pauses(seen.began, seen.until).values())
        seen.back = self._watch.back(seen.over, self._sent)
        if self._person is not None:
            seen.taken = longest_pause(self._person.accepted, seen.began, seen.until)
            seen.fresh = longest_pause(self._person.fresh, seen.began, seen.until)

    async def _settled(self) -> None:
        """Wait until nothing more comes out for longer than a lost session would take to move."""
        plan, settings = self._plan, self._settings
        deadline, before, still_since = time.monotonic() + plan.settle_seconds, -1, time.monotonic()
        quiet_seconds = settings.session_timeout_seconds + settings.commit_interval_seconds + 3
        while time.monotonic() < deadline:
            self._revive()
            now = await faults_audit.processed_so_far(settings)
            if now != before:
                before, still_since = now, time.monotonic()
            elif time.monotonic() - still_since > quiet_seconds:
                return
            await asyncio.sleep(0.5)
        self._say(f"still busy after {plan.settle_seconds:.0f} s; counting what there is")


def print_report(report: FaultReport, say: Callable[[str], None] = print) -> None:
    """The counts and the pauses, as a table and sentences."""
    say(f"{'act':<20}{'pause s':>9}{'back s':>9}{'taken s':>9}{'fresh s':>9}  restarted")
    for seen in report.seen:
        say(seen.line())
    for seen in report.seen:
        for text in seen.told:
            say(f"{seen.act}: {text}")
    for text, count in sorted(report.refusals.items()):
        say(f"{count:>5} x {text}")
    for found in (report.audit, report.heard, report.uploads):
        for line in found.lines() if found is not None else ():
            say(line)
    if report.waits:
        half, most = (1000 * report.waits[int(len(report.waits) * share)] for share in (0.5, 0.95))
        say(f"from reading to result {half:.0f} ms in the median, 95 % within {most:.0f} ms, of {len(report.waits)}")
    if report.audit.published != report.sent:
        say(f"{report.sent} readings were sent, {report.audit.published} are there")
    for seen in report.seen:
        if seen.is_late:
            say(f"LATE: {seen.late_line()}")
    say("nothing lost, nothing wrong" if report.whole else "LOST OR WRONG: see above")
