"""Everything at once for a long time: does anything grow, is anything lost, does anything come in two versions?

All roles run as processes of their own against one broker, under a steady load of simulated people with uploads and
plots in between, and a webhook is told everything. Every half minute each process is measured; in the end everything is
counted by id, from the topics.

What is flat: over the last two thirds of the samples the Theil-Sen slope (the median of all slopes between two samples:
one peak does not move it) is no steeper than the series' limit, or makes out less than its tolerance over that time.
A log grows by nature. So it is judged apart from the roles: what the broker keeps, on disk or (the embedded one) in its
memory, may grow by `LOG_FACTOR` times the bytes that were produced meanwhile, and the reserve of a segment a partition.
"""

import asyncio
import dataclasses
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
from scipy.stats import theilslopes

from deploy.bench import faults_told, soak_audit, soak_load
from deploy.bench.roles import Roles, provisioned
from deploy.brokers.broker import Broker
from deploy.brokers.choice import choose
from streams.settings import Settings

WARM_UP_SHARE = 1 / 3
LOG_FACTOR = 3.5
LOG_RESERVE_MIB = 160.0
FEWEST_SAMPLES = 6
_MIB = 1 << 20
_HOUR = 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """Steeper than `slope` an hour and more than `rise` in all is growth."""

    slope: float
    rise: float
    unit: str


LIMITS: Mapping[str, Limit] = {
    "rss": Limit(32.0, 16.0, "MiB"),
    "state": Limit(48.0, 24.0, "MiB"),
    "fds": Limit(20.0, 8.0, ""),
    "threads": Limit(10.0, 4.0, ""),
}
"""State has the sawtooth of a database that collects and compacts, and resident memory that of an allocator."""


@dataclasses.dataclass(frozen=True, slots=True)
class SoakPlan:
    """One run. `people` have a reading each every ``people / rate`` seconds."""

    minutes: float
    rate: float
    people: int = 40
    broker: str = "embedded"
    upload_seconds: float = 5.0
    sample_seconds: float = 30.0
    settle_seconds: float = 600.0
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class Series:
    """One measured quantity of one process: (seconds since the start, value)."""

    name: str
    what: str
    points: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def judged(self) -> list[tuple[float, float]]:
        """What comes after the warm-up."""
        return self.points[int(len(self.points) * WARM_UP_SHARE) :]

    def slope_an_hour(self) -> float:
        """Theil-Sen over the judged part; 0 where there is too little to judge."""
        points = self.judged()
        if len(points) < 3:
            return 0.0
        seconds, values = zip(*points, strict=True)
        return float(theilslopes(values, seconds)[0]) * _HOUR

    def is_flat(self) -> bool:
        limit, points = LIMITS[self.what], self.judged()
        hours = (points[-1][0] - points[0][0]) / _HOUR if points else 0.0
        slope = self.slope_an_hour()
        return slope <= limit.slope or slope * hours <= limit.rise

    def line(self) -> str:
        limit, values = LIMITS[self.what], [value for _, value in self.points]
        verdict = "flat" if self.is_flat() else "GROWS"
        return (
            f"{self.name:<14} {self.what:<8} {values[0]:>9.1f} {values[-1]:>9.1f} {max(values):>9.1f} "
            f"{self.slope_an_hour():>+10.1f} {limit.unit + '/h':<6} {verdict}"
        )


@dataclasses.dataclass(slots=True)
class SoakReport:
    """What a run found."""

    series: list[Series]
    audit: soak_audit.SoakAudit
    answers: soak_load.Answers
    ended: list[str]
    log_mib: float
    produced_mib: float
    judged: bool
    told: Counter[str] = dataclasses.field(default_factory=Counter)
    """What a webhook of everybody's events received, by type."""

    @property
    def log_is_flat(self) -> bool:
        return self.log_mib <= LOG_FACTOR * self.produced_mib + LOG_RESERVE_MIB

    @property
    def clean(self) -> bool:
        flat = all(series.is_flat() for series in self.series) and self.log_is_flat
        return flat and not self.ended and self.audit.clean and self.answers.clean and self.judged and bool(self.told)

    def lines(self) -> Iterator[str]:
        yield f"{'process':<14} {'what':<8} {'first':>9} {'last':>9} {'highest':>9} {'slope':>10}"
        yield from (series.line() for series in self.series)
        log = "as the log does" if self.log_is_flat else "GROWS"
        yield f"the broker keeps {self.log_mib:+.0f} MiB for {self.produced_mib:.0f} MiB produced: {log}"
        yield from self.answers.lines()
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(self.told.items()))
        yield f"a webhook received {told or 'nothing'}"
        yield from self.audit.lines()
        yield from self.ended
        if not self.judged:
            yield f"fewer than {FEWEST_SAMPLES} samples: too short to say what grows; run it for longer"
        yield "flat, nothing lost, nothing twice" if self.clean else "NOT CLEAN: see above"


class Probe:
    """Measures processes and directories, and remembers."""

    def __init__(self, processes: Mapping[str, psutil.Process], state: Path) -> None:
        self._processes, self._state = processes, state
        self._began = time.monotonic()
        self._series: dict[tuple[str, str], Series] = {}

    def sample(self) -> None:
        """One point of every series. A process that has ended adds none: that is told elsewhere."""
        at = time.monotonic() - self._began
        for name, process in self._processes.items():
            try:
                family = [process, *process.children(recursive=True)]
                own, rest = _measured(family[:1]), _measured(family[1:])
            except psutil.NoSuchProcess:
                continue
            for what, value in own.items():
                self._add(name, what, at, value)
            if rest["threads"]:  # the browser that draws for the API
                self._add(f"{name} children", "rss", at, rest["rss"])
        for directory in sorted(self._state.glob("*/*")):
            if directory.is_dir():
                self._add(directory.name, "state", at, size_mib(directory))

    def _add(self, name: str, what: str, at: float, value: float) -> None:
        self._series.setdefault((name, what), Series(name, what)).points.append((at, value))

    @property
    def series(self) -> list[Series]:
        """In the order of their names."""
        return [series for _, series in sorted(self._series.items())]


def _measured(family: list[psutil.Process]) -> dict[str, float]:
    return {
        "rss": sum(member.memory_info().rss for member in family) / _MIB,
        "fds": float(sum(member.num_fds() for member in family)),
        "threads": float(sum(member.num_threads() for member in family)),
    }


def size_mib(directory: Path) -> float:
    """What the files of a directory hold; files that go meanwhile count nothing."""
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(path) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total / _MIB


async def run(plan: SoakPlan, say: Callable[[str], None] = print) -> SoakReport:
    """Start everything, load it, count, and end all that was started, whatever happens meanwhile."""
    with tempfile.TemporaryDirectory(prefix="glucast-soak-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        broker = choose(plan.broker, home)
        webhooks = home / "webhooks"
        environment = {"GLUCAST_RATE_LIMIT": "100000/minute"} | faults_told.environment(webhooks) | plan.environment
        told = Counter[str]()
        async with (
            provisioned(broker, home, environment) as (settings, roles),
            faults_told.receiving(webhooks, lambda delivery: told.update((delivery.body["type"],))),
        ):
            report = await _soaked(plan, settings, broker, roles, home, say)
            report.told = told
            return report


async def _soaked(
    plan: SoakPlan, settings: Settings, broker: Broker, roles: Roles, home: Path, say: Callable[[str], None]
) -> SoakReport:
    for role in ("inference", "ingest", "calc"):
        roles.worker(role)
    api = roles.api()
    roles.notify()
    await asyncio.to_thread(roles.wait_until_ready)
    load = soak_load.Load(settings, api.url, plan.people, plan.rate, plan.minutes * 60)
    say(f"{plan.people} people: {load.history} readings first, then {plan.rate:g} a second for {plan.minutes:g} min")
    await load.warm_up()
    await soak_audit.settled(settings, plan.settle_seconds, say)
    processes = {process.name: psutil.Process(process.pid) for process in roles.all}
    probe, ended = Probe(processes, home / "roles"), list[str]()
    kept, produced = _kept_mib(broker, home), soak_audit.Produced(settings)
    await produced.mark()
    tasks = [asyncio.create_task(load.publish()), asyncio.create_task(load.plot(plan.upload_seconds))]
    try:
        while not tasks[0].done():
            await asyncio.to_thread(probe.sample)
            say(_short(probe, load))
            ended += [f"{process.name} ended with {process.returncode}" for process in roles.all
                      if process.returncode is not None]  # fmt: skip
            if ended or broker.returncode() is not None or tasks[1].done():
                break
            await asyncio.wait(tasks[:1], timeout=plan.sample_seconds)
        load.stop()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    say("load ended; waiting for what is under way")
    load.require_published()
    await soak_audit.settled(settings, plan.settle_seconds, say)
    audit = await soak_audit.audit(settings, load)
    log_mib = _kept_mib(broker, home) - kept
    judged = min((len(series.points) for series in probe.series), default=0) >= FEWEST_SAMPLES
    return SoakReport(probe.series, audit, load.answers, ended, log_mib, await produced.since_mib(), judged)


def _kept_mib(broker: Broker, home: Path) -> float:
    """What the broker keeps: files of the durable one, memory of the one that has none. Another's is not measured."""
    if broker.durable:
        return size_mib(home / "kafka")
    return 0.0 if broker.pid is None else float(psutil.Process(broker.pid).memory_info().rss) / _MIB


def _short(probe: Probe, load: soak_load.Load) -> str:
    """One line while it runs."""
    rss = {series.name: round(series.points[-1][1]) for series in probe.series if series.what == "rss"}
    return f"{load.published} readings, {load.answers.drawn} plots; MiB {json.dumps(rss)}"
