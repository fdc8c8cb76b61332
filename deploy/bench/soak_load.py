"""The load of the soak: simulated people with a reading every few seconds, and somebody who uploads and looks."""

import asyncio
import base64
import dataclasses
import datetime
import time
from collections import Counter
from collections.abc import Iterator

import httpx
from aiokafka import AIOKafkaProducer

from deploy.bench.faults_load import WIDE_SWING_MGDL, glucose_of
from deploy.bench.fuzz_files import rows_of, unified
from schemas.errors import UnavailableError
from schemas.grid import PAST_POINTS, STEP
from schemas.reading import Reading
from schemas.topics import READINGS
from streams.kafka.connection import producer_options
from streams.settings import Settings

HISTORY_RATE = 400.0
_PNG = b"\x89PNG"


@dataclasses.dataclass(slots=True)
class Answers:
    """What the API said to uploads and plots."""

    drawn: int = 0
    refused: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        return not self.refused

    def lines(self) -> Iterator[str]:
        yield f"{self.drawn} plots drawn"
        for what, count in self.refused.most_common(5):
            yield f"{count} times {what}"


class Load:
    """`publish` and `plot` run until `stop`, or for `seconds`."""

    def __init__(self, settings: Settings, url: str, people: int, rate: float, seconds: float) -> None:
        self._settings, self._url = settings, url
        self._people, self._rate = people, rate
        self._total = int(rate * seconds)
        self.history = people * (PAST_POINTS - 1)
        readings_each = PAST_POINTS + self._total // people + 1
        # Simulated clocks run fast, and end in the present: none is ever ahead of the machine's.
        self._start = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - readings_each * STEP
        self._stopped = asyncio.Event()
        self.published = 0
        self.handles: dict[str, int] = {}
        """Uploaded so far, with their number of windows."""
        self.answers = Answers()

    def readings(self, first: int, count: int) -> Iterator[Reading]:
        """From reading `first` on, the people in turn."""
        for number in range(first, first + count):
            step, person = divmod(number, self._people)
            yield Reading(
                subject_id=f"soak-{person:04d}",
                time=self._start + step * STEP,
                glucose=glucose_of(person, step, WIDE_SWING_MGDL),
                unit="mg/dL",
                simulated=True,
                reading_id=f"{person}-{step}",
            )

    async def warm_up(self) -> None:
        """Eight hours of everybody, but for the reading that brings the first forecast."""
        await self._send(self.readings(0, self.history), HISTORY_RATE)

    async def publish(self) -> None:
        """The steady part."""
        await self._send(self.readings(self.history, self._total), self._rate)

    async def _send(self, readings: Iterator[Reading], rate: float) -> None:
        producer = AIOKafkaProducer(**producer_options(self._settings))  # the embedded broker knows no idempotence
        await producer.start()
        began = time.monotonic()
        try:
            for number, reading in enumerate(readings):
                if self._stopped.is_set():
                    break
                await producer.send(READINGS.name, key=reading.subject_id.encode(), value=reading.to_json())
                self.published += 1
                if (ahead := began + number / rate - time.monotonic()) > 0.02:
                    await asyncio.sleep(ahead)
            await producer.flush()
        finally:
            await producer.stop()
            if self.published >= self.history + self._total:
                self._stopped.set()

    async def plot(self, every_seconds: float) -> None:
        """A new file every so often: its PNG and its figure, then the forecast of somebody whose readings come in."""
        number = 0
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:
            while not self._stopped.is_set():
                await self._wait(every_seconds)  # first of all too: nobody has a forecast yet
                number += 1
                await self._look(client, number)

    async def _look(self, client: httpx.AsyncClient, number: int) -> None:
        body = {"csv_base64": base64.b64encode(unified(rows_of(number))).decode()}
        answer = await self._asked(client, "POST", "/process_unified", json=body)
        if answer is not None:
            self.handles[answer.json()["handle"]] = answer.json()["total_samples"]
        answer = await self._asked(client, "POST", "/quick_plot", json=body)
        if answer is not None:
            drawn = answer.json()
            whole = base64.b64decode(drawn["plot_base64"] or "").startswith(_PNG) and drawn["plot_data"]
            self._count(bool(whole), "/quick_plot without PNG or figure")
        person = f"/subjects/soak-{number % self._people:04d}/forecast/plot"
        answer = await self._asked(client, "GET", person, headers={"Accept": "image/png"})
        if answer is not None:
            self._count(answer.content.startswith(_PNG), "a subject's plot that is no PNG")

    async def _asked(self, client: httpx.AsyncClient, method: str, path: str, **more: object) -> httpx.Response | None:
        shape = path if "/soak-" not in path else "/subjects/…/forecast/plot"
        try:
            answer = await client.request(method, path, **more)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            self.answers.refused[f"{shape}: {type(error).__name__}"] += 1
            return None
        if answer.status_code == 200:
            return answer
        self.answers.refused[f"{shape}: {answer.status_code} {answer.text[:160]}"] += 1
        return None

    def _count(self, drawn: bool, otherwise: str) -> None:
        if drawn:
            self.answers.drawn += 1
        else:
            self.answers.refused[otherwise] += 1

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return

    def stop(self) -> None:
        """End both; what was sent stays sent."""
        self._stopped.set()

    def require_published(self) -> None:
        """Raises `UnavailableError` where nothing was sent: there is nothing to count then."""
        if not self.published:
            raise UnavailableError("no reading was published")
