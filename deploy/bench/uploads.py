"""Large exports from several clients at once: how soon handles come, how many a second, whether all are right.

Starts `glucast up`, uploads files of three months each alone and then by several clients, and compares every answer
with what the file's series and handle are when it is read here. It measures and prints.
"""

import asyncio
import base64
import dataclasses
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import httpx

from agents.core.fingerprint import handle_of
from agents.ingest.files.unified_file import Rules, unify_file
from agents.virtual_person.person import VirtualPerson
from deploy.bench.pipeline import UNIFIED_HEADER, Figure, RunningGlucast
from schemas.errors import UnavailableError
from schemas.grid import STEPS_A_DAY
from streams.settings import Settings

FIRST = datetime(2024, 1, 1)
SENSOR_DAYS, CHANGE_MINUTES = 10, 120
ANSWER_SECONDS = 120.0
_DATE = "DATE"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """`alone` files one after the other, then `clients` with `each` files; a file is of so many days."""

    alone: int = 10
    clients: int = 8
    each: int = 25
    days: int = 110


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """A file as it is sent, and the handle that it must get."""

    body: dict[str, Any]
    handle: str


class Exports:
    """Exports of one virtual person, each a day later than the one before: none is like another."""

    def __init__(self, days: int) -> None:
        person = VirtualPerson("adult#004", seed=5, start=FIRST)
        worn, changing = timedelta(days=SENSOR_DAYS), timedelta(minutes=CHANGE_MINUTES)
        self._days = [""] * days
        for at, mgdl in islice(person.readings(), days * STEPS_A_DAY):
            since = at - FIRST
            if since % worn >= changing:
                time_of_day = f"{_DATE}T{at.time().isoformat()}.000"
                self._days[since.days] += f"0,{time_of_day},{mgdl:.1f},0,EGV_READ,{time_of_day},{mgdl:.1f},,,,\n"
        settings = Settings()
        rules = Rules(settings.minimum_duration_minutes, settings.maximum_wanted_duration)
        self._series = unify_file(self._raw(0), "UTC", rules)

    def export(self, number: int) -> Export:
        """The file of this number."""
        start_seconds = self._series.start_seconds + number * 86_400
        handle = handle_of(self._series.timezone, start_seconds, self._series.centi)
        return Export({"csv_base64": base64.b64encode(self._raw(number)).decode()}, handle)

    def _raw(self, number: int) -> bytes:
        dates = (FIRST + timedelta(days=number + place) for place in range(len(self._days)))
        rows = [day.replace(_DATE, date.date().isoformat()) for date, day in zip(dates, self._days, strict=True)]
        return f"{UNIFIED_HEADER}\n{''.join(rows)}".encode()


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """Seconds of each upload, how long all of them took together, and how many had the right handle."""

    each_seconds: tuple[float, ...]
    seconds: float
    right: int

    def figures(self, name: str) -> Iterator[Figure]:
        count = len(self.each_seconds)
        yield Figure(f"{name}: file to handle", self.each_seconds)
        yield Figure(f"{name}: files", text=f"{count / self.seconds:.1f} /s, {self.right} of {count} handles right")


async def upload(url: str, exports: list[Export], clients: int) -> Answered:
    """Send all files, so many at a time."""
    took: list[float] = []
    right = 0
    waiting = iter(exports)

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal right
        for export in waiting:
            began = time.perf_counter()
            answer = await http.post("/process_unified", json=export.body)
            took.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise UnavailableError(f"an upload was answered with {answer.status_code}: {answer.text[:300]}")
            right += answer.json()["handle"] == export.handle

    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_SECONDS) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    return Answered(tuple(took), time.perf_counter() - began, right)


def run(broker: str, port: int, plan: Plan, say: Callable[[str], None]) -> None:
    """A fresh glucast on `broker` (embedded, local or host:port); print its figures."""
    source = Exports(plan.days)
    exports = [source.export(number) for number in range(1 + plan.alone + plan.clients * plan.each)]
    size = len(exports[0].body["csv_base64"]) * 3 // 4
    say(f"{len(exports)} files of {size / 1e6:.1f} MB on {broker}")
    running = RunningGlucast(broker, port, {"GLUCAST_MAX_CACHE_SIZE": "10000"})
    try:
        asyncio.run(upload(running.url, exports[:1], 1))
        alone = asyncio.run(upload(running.url, exports[1 : 1 + plan.alone], 1))
        many = asyncio.run(upload(running.url, exports[1 + plan.alone :], plan.clients))
    finally:
        running.stop()
    for name, answered in (("alone", alone), (f"{plan.clients} clients", many)):
        for figure in answered.figures(name):
            say("    " + figure.line().rstrip())
