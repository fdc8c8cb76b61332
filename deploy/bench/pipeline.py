"""End-to-end figures of a whole running glucast, beside those of GluRPC 0.6.3. It measures and prints.

Starts `glucast up` on the chosen broker in a fresh state directory, takes every figure from outside as a user would
see it, and stops it again.
"""

import asyncio
import base64
import dataclasses
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents.virtual_person.person import VirtualPerson
from deploy.bench.http_load import load, post
from schemas.errors import UnavailableError
from schemas.fan_chart import FanChart
from schemas.grid import PAST_POINTS
from schemas.reading import Reading
from schemas.topics import FAN_CHARTS, READINGS
from streams.kafka.connection import new_consumer, producer_options
from streams.settings import Settings

GLURPC = {
    "start to ready": "9 s",
    "upload to handle": "110 ms",
    "upload to first plot": "39.6 s",
    "quick_plot, cold": "788 ms",
    "quick_plot, cached": "72 ms",
    "draw, cached": "12 ms (figure only)",
    "reading to forecast record": "none",
    "resident memory, all roles": "5-17 GB",
}
"""GluRPC 0.6.3 with the full-size network on a like machine with shared cores, ±50 %."""

FILE_POINTS = 288
UNIFIED_HEADER = (
    "sequence_id,original_datetime,original_glucose,quality,event_type,datetime,glucose,"
    "carbs,insulin_slow,insulin_fast,exercise"
)
READY_SECONDS = 120.0
IDLE_SECONDS = 5.0
CLIENTS, LOAD_SECONDS = 8, 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measured row: the median and range of `seconds`, or a ready text."""

    name: str
    seconds: tuple[float, ...] = ()
    text: str = ""

    def line(self) -> str:
        reference = GLURPC.get(self.name, "")
        if self.text:
            return f"{self.name:<28} {self.text:<44} {reference}"
        ordered = sorted(self.seconds)
        middle, high = _short(statistics.median(ordered)), _short(p95(ordered))
        shown = f"p50 {middle}  p95 {high}  max {_short(ordered[-1])}  n={len(ordered)}"
        return f"{self.name:<28} {shown:<44} {reference}"


def p95(ordered: Sequence[float]) -> float:
    """The 95th percentile of numbers in ascending order: one of them, none in between."""
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def export_of(person: int) -> str:
    """A day of a virtual person as a unified CSV in base64; another person for every number, so nothing is cached."""
    start = datetime(2024, 1, 1) + timedelta(days=person)
    virtual = VirtualPerson("adult#001", seed=person, start=start)
    rows = [
        f"0,{at:%Y-%m-%dT%H:%M:%S}.000,{mgdl:.1f},0,EGV_READ,{at:%Y-%m-%dT%H:%M:%S}.000,{mgdl:.1f},,,,"
        for at, mgdl in islice(virtual.readings(), FILE_POINTS)
    ]
    return base64.b64encode("\n".join([UNIFIED_HEADER, *rows, ""]).encode()).decode()


class RunningGlucast:
    """`glucast up` as a child process: `start_seconds` is from its start until the API says that all is ready."""

    def __init__(self, broker: str, port: int, environment: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._home = tempfile.mkdtemp(prefix="glucast-bench-")
        self._log = (Path(self._home) / "up.log").open("w")
        command = [
            sys.executable,
            "-m",
            "deploy.cli.main",
            "up",
            "--broker",
            broker,
            "--port",
            str(port),
            "--no-simulate",
        ]
        env = os.environ | {"GLUCAST_STATE_DIR": self._home} | environment
        began = time.perf_counter()
        self._process = subprocess.Popen(command, env=env, stdout=self._log, stderr=self._log)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.perf_counter() - began

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        log = Path(self._log.name)
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise UnavailableError(f"glucast up ended with {self._process.returncode}:\n{log.read_text()[-2000:]}")
            if "ready in" in log.read_text():
                return
            time.sleep(0.02)
        raise UnavailableError(f"glucast up was not ready after {READY_SECONDS:.0f} s:\n{log.read_text()[-2000:]}")

    @property
    def broker(self) -> str:
        """The address that `up` printed for Kafka clients."""
        found = re.search(r"Kafka\s+(\S+:\d+\S*)", Path(self._log.name).read_text())
        if found is None:
            raise UnavailableError("glucast up did not say where its broker is")
        return found[1]

    def memory(self) -> Iterator[tuple[str, int, int]]:
        """(role, resident bytes, proportional bytes) of each process under the supervisor, with its children.

        What processes share counts in full for each in the first, and once for all in the second.
        """
        for role, family in self._families():
            infos = [member.memory_full_info() for member in family]
            yield role, sum(int(info.rss) for info in infos), sum(int(info.pss) for info in infos)

    def _families(self) -> Iterator[tuple[str, list[psutil.Process]]]:
        for child in psutil.Process(self._process.pid).children():
            yield _role(child.cmdline()), [child, *child.children(recursive=True)]
        yield "supervisor", [psutil.Process(self._process.pid)]

    def idle_share(self) -> float:
        """Processor time of all processes, in cores, while nobody asks anything."""
        begin, before = time.perf_counter(), self._processor_seconds()
        time.sleep(IDLE_SECONDS)
        return (self._processor_seconds() - before) / (time.perf_counter() - begin)

    def _processor_seconds(self) -> float:
        used = [member.cpu_times() for _, family in self._families() for member in family]
        return float(sum(times.user + times.system for times in used))

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()
        shutil.rmtree(self._home, ignore_errors=True)


def _role(command: list[str]) -> str:
    words = [Path(word).name for word in command]
    for known in ("ingest", "inference", "calc", "api", "simulate", "deploy.brokers.long_polling", "java"):
        if known in words:
            return known
    return words[0]


async def measure(url: str, broker: str, repeats: int) -> list[Figure]:
    """The figures of a glucast that is already running at `url` on `broker`."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await _ok(client, "/quick_plot", {"csv_base64": export_of(0)})  # the browser's first render is start-up
        handles, first_plots, cold = [], [], []
        for i in range(repeats):
            body = {"csv_base64": export_of(1 + i)}
            handles.append(await _timed(_ok(client, "/process_unified", body)))
            await _settle(client, body)
        for i in range(repeats):
            body = {"csv_base64": export_of(1000 + i)}
            first_plots.append(await _timed(_first_plot(client, body)))
            await _settle(client, body)
        for i in range(repeats):
            body = {"csv_base64": export_of(2000 + i)}
            cold.append(await _timed(_ok(client, "/quick_plot", body)))
            await _settle(client, body)
        known = {"csv_base64": export_of(0)}
        handle = (await _ok(client, "/process_unified", known)).json()["handle"]
        draw = {"handle": handle, "index": 0}
        await _ok(client, "/draw_a_plot", draw)
        cached = [await _timed(_ok(client, "/quick_plot", known)) for _ in range(5 * repeats)]
        drawn = [await _timed(_ok(client, "/draw_a_plot", draw)) for _ in range(5 * repeats)]
    return [
        Figure("upload to handle", tuple(handles)),
        Figure("upload to first plot", tuple(first_plots)),
        Figure("quick_plot, cold", tuple(cold)),
        Figure("quick_plot, cached", tuple(cached)),
        Figure("draw, cached", tuple(drawn)),
        *[
            Figure(
                f"{name}, {CLIENTS} clients",
                text=f"{(await load(url, request, CLIENTS, LOAD_SECONDS)).per_second:.0f} /s",
            )
            for name, request in (
                ("figure, cached", post(url, "/draw_a_plot", draw, "application/json")),
                ("PNG, cached", post(url, "/draw_a_plot", draw, "image/png")),
                ("quick_plot, cached", post(url, "/quick_plot", known)),
            )
        ],
        Figure("reading to forecast record", tuple(await _readings(broker, repeats))),
    ]


async def _ok(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> httpx.Response:
    answer = await client.post(path, json=body)
    if answer.status_code != 200:
        raise UnavailableError(f"{path} answered {answer.status_code}: {answer.text[:300]}")
    return answer


async def _first_plot(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    handle = (await _ok(client, "/process_unified", body)).json()["handle"]
    await _ok(client, "/draw_a_plot", {"handle": handle, "index": 0})


async def _settle(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    """Wait for the oldest window too, so that no backfill runs into the next figure."""
    answer = (await _ok(client, "/process_unified", body)).json()
    await _ok(client, "/draw_a_plot", {"handle": answer["handle"], "index": 1 - answer["total_samples"]})


async def _timed(work: Coroutine[Any, Any, object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _readings(broker: str, repeats: int) -> list[float]:
    """Seconds from publishing a reading until its fan chart can be read from the public topic."""
    settings = Settings(broker=broker)
    subject = f"bench-{os.getpid()}-{int(time.time())}"
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    person = VirtualPerson("adult#002", seed=7, start=start.replace(tzinfo=None)).readings()
    producer = AIOKafkaProducer(**producer_options(settings))
    consumer = new_consumer(settings)
    await producer.start()
    await consumer.start()
    try:
        consumer.assign([TopicPartition(FAN_CHARTS.name, p) for p in range(settings.partitions)])
        await consumer.seek_to_end()
        took = []
        for number, (at, mgdl) in enumerate(islice(person, PAST_POINTS + 5 * repeats)):
            # With a clock of its own: a reading of two days ago would be late, and wait behind everybody.
            when = at.replace(tzinfo=UTC)
            record = Reading(subject_id=subject, time=when, glucose=mgdl, unit="mg/dL", simulated=True)
            began = time.perf_counter()
            await producer.send_and_wait(READINGS.name, key=subject.encode(), value=record.to_json())
            if number < PAST_POINTS - 1:
                continue
            async with asyncio.timeout(30):
                await _chart_of(subject, consumer)
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0.1)
        return took[1:]
    finally:
        await producer.stop()
        await consumer.stop()


async def _chart_of(subject: str, consumer: AIOKafkaConsumer) -> None:
    """Wait for the subject's next fan chart, as one who asks for many at once: `getone` keeps a partition that it has
    emptied until it is asked again, and who asks late waits for the fetch of all others, `fetch_wait_milliseconds`.
    """
    while True:
        batches = await consumer.getmany(timeout_ms=1000)
        charts = (FanChart.from_json(record.value) for records in batches.values() for record in records)
        if any(chart.subject_id == subject for chart in charts):
            return


def run(broker: str, port: int, repeats: int, environment: dict[str, str], say: Callable[[str], None] = print) -> None:
    """Start glucast on `broker` (embedded, local or host:port), measure it, print every figure, stop it."""
    running = RunningGlucast(broker, port, environment)
    try:
        figures = [Figure("start to ready", text=_short(running.start_seconds))]
        figures += asyncio.run(measure(running.url, running.broker, repeats))
        figures.append(Figure("processor when idle", text=f"{100 * running.idle_share():.1f} % of a core"))
        memory = sorted(running.memory(), key=lambda item: -item[1])
        total, shared_once = sum(size for _, size, _ in memory), sum(size for _, _, size in memory)
        shared = f"{_megabytes(total)}, {_megabytes(shared_once)} with what is shared once"
        figures.append(Figure("resident memory, all roles", text=shared))
        say(f"{'figure':<28} {'glucast on ' + broker:<44} GluRPC 0.6.3")
        for figure in figures:
            say(figure.line())
        for role, resident, proportional in memory:
            say(f"    {role:<28} {_megabytes(resident)}, {_megabytes(proportional)}")
    finally:
        running.stop()


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
