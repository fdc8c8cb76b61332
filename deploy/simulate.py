"""Virtual people who wear sensors: their readings reach ``cgm.readings`` as a device would send them, only faster."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from agents.virtual_person.person import VirtualPerson
from schemas.errors import ConfigurationError, UnavailableError
from schemas.grid import STEP
from schemas.reading import Reading
from streams.kafka.connection import producer_options
from streams.kafka.readings import send_readings
from streams.settings import Settings

PATIENTS = 10
DEVICE = "glucast simulate"
_RETRY_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How many people, how fast, and how much of their past comes at once.

    The simulated clock starts `days_ago` in the past, so that no reading lies in the future; once it has caught up,
    readings come in real time. `steps` ends it after so many readings a person beyond the history. `tag` ends the
    subject ids; without it the time of day does, so that a run meets no readings of an earlier one.
    """

    people: int = 1
    speedup: float = 60.0
    history_hours: float = 8.5
    days_ago: float = 7.0
    seed: int = 0
    steps: int | None = None
    tag: str | None = None

    def __post_init__(self) -> None:
        if self.people < 1:
            raise ConfigurationError("--people has to be at least 1")
        if self.speedup <= 0 or self.history_hours < 0 or self.days_ago < 0:
            raise ConfigurationError("--speedup has to be positive, --history and --days-ago not negative")
        if self.history_hours > 24 * self.days_ago:
            raise ConfigurationError("--history has to fit into --days-ago, or readings would lie in the future")


def subject_ids(people: int, tag: str) -> list[str]:
    """``sim-adult-001-1405`` and so on."""
    return [f"sim-adult-{number + 1:03d}-{tag}" for number in range(people)]


def tag_of(time: datetime) -> str:
    """Hours and minutes, e.g. 1405."""
    return f"{time:%H%M}"


def readings_of(number: int, subject_id: str, plan: Plan, start: datetime) -> Iterator[Reading]:
    """Endless readings of one person, five minutes apart; the same for the same number, seed and start."""
    person = VirtualPerson(f"adult#{number % PATIENTS + 1:03d}", seed=plan.seed * 1000 + number, start=start)
    for time, glucose_mgdl in person.readings():
        yield Reading(
            subject_id=subject_id, time=time, glucose=glucose_mgdl, unit="mg/dL", device=DEVICE, simulated=True
        )


async def simulate(settings: Settings, plan: Plan, report: Callable[[str], None]) -> None:
    """Publish until `plan.steps` or cancelled. Raises `UnavailableError` without a broker."""
    now = datetime.now(UTC)
    start = _grid(now - timedelta(days=plan.days_ago))
    subjects = subject_ids(plan.people, plan.tag or tag_of(now.astimezone()))
    streams = [readings_of(number, subject, plan, start) for number, subject in enumerate(subjects)]
    async with _Publisher(settings, report) as publisher:
        history = round(plan.history_hours * 12)
        await publisher.publish([reading for stream in streams for reading in islice(stream, history)])
        shown = ", ".join(subjects[:5]) + (f" and {len(subjects) - 5} more" if len(subjects) > 5 else "")
        report(f"{shown}: {plan.history_hours:g} h of history published ({history * plan.people} readings)")
        pace = STEP / plan.speedup
        report(f"now one reading per person every {pace.total_seconds():g} s (5 simulated minutes)")
        for step in count() if plan.steps is None else range(plan.steps):
            batch = [next(stream) for stream in streams]
            await asyncio.sleep(max(pace, batch[0].time - datetime.now(UTC)).total_seconds())
            await publisher.publish(batch)
            if step % 12 == 11:
                report(f"simulated clock {batch[0].time:%Y-%m-%d %H:%M} UTC")


def _grid(time: datetime) -> datetime:
    return time.replace(minute=time.minute - time.minute % 5, second=0, microsecond=0)


class _Publisher:
    """A producer that has every reading confirmed."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._report = report
        self._producer: AIOKafkaProducer

    async def __aenter__(self) -> "_Publisher":
        self._producer = AIOKafkaProducer(**producer_options(self._settings))
        try:
            await self._producer.start()
        except KafkaConnectionError as error:
            await self._producer.stop()
            raise UnavailableError(f"no Kafka answers at {self._settings.broker}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def publish(self, readings: list[Reading]) -> None:
        """Return when Kafka has confirmed all; a broker that goes away is waited for, as a device would."""
        while True:
            try:
                await send_readings(self._producer, readings, "simulate")
                return
            except KafkaError:
                self._report("Kafka does not answer; trying again")
                await asyncio.sleep(_RETRY_SECONDS)
