"""Whether who is told outside Kafka was told everything, whatever was killed meanwhile: a follower, and a webhook.

The reference are the topics. Each outcome of a reading is an event under one id a record; each live forecast too, but
for one that another has replaced. Each alert and each forecast is a delivery that was received under the id of what it
tells, as often as it came, or has ended otherwise for a reason that is on record.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka.structs import ConsumerRecord

from deploy.bench.faults_audit import read_all
from deploy.bench.push_clients import Delivery, Event, Follower, Receiver
from schemas import webhook
from schemas.fan_chart import FanChart
from schemas.reading import ReadingOutcome
from schemas.topics import ALERTS, FAN_CHARTS, READING_OUTCOMES, WEBHOOK_DELIVERIES
from streams.notify import webhook_file
from streams.notify.events import event_of
from streams.notify.webhook_file import new_endpoint, new_secret
from streams.private_file import write
from streams.settings import Settings

NAME = "faults"
_COMPARED = ("outcome_id", "subject_id", "issue_time", "chart_id", "epoch_ms", "alert_id", "status")
"""Of what is told: the whole of it, kept for a run of ten minutes, is gigabytes, and collecting it pauses the bench."""
_NETWORK = "127.0.0.0/8"


def environment(file: Path) -> dict[str, str]:
    """Of the roles, so that a webhook can be added in this file, which is made here."""
    write(file, [], webhook_file.WHAT)
    return {"GLUCAST_WEBHOOKS_FILE": str(file), "GLUCAST_WEBHOOK_PRIVATE_NETWORKS": _NETWORK}


@dataclasses.dataclass(slots=True)
class Listeners:
    """What a follower of everybody's events and a receiver of everybody's webhooks were told since `began`.

    That is when the stream was open and the API listed the webhook: a webhook is told what notify reads after its file.
    """

    follower: Follower
    events: list[Event]
    deliveries: list[Delivery]
    began: float = 0.0


@contextlib.asynccontextmanager
async def receiving(file: Path, told: Callable[[Delivery], None]) -> AsyncIterator[None]:
    """A webhook of everybody's alerts, outcomes and forecasts is in the roles' file, and received, in the block."""
    receiver = Receiver(told)
    endpoint = new_endpoint(
        {
            "name": NAME,
            "url": f"{await receiver.start()}/hook",
            "events": ["alert", "outcome", "forecast"],
            "secret": new_secret(),
            "added_at": datetime.datetime.now(datetime.UTC),
        }
    )
    webhook_file.add(file, endpoint)
    try:
        yield
    finally:
        await receiver.close()


@contextlib.asynccontextmanager
async def listening(url: str, file: Path) -> AsyncIterator[Listeners]:
    """Both, while the block runs. `url`: of the API; `file`: the roles' webhooks."""
    events, deliveries = list[Event](), list[Delivery]()

    def told(event: Event) -> None:
        events.append(event._replace(data=_compared(event.data)))

    def received(delivery: Delivery) -> None:
        body = {"type": delivery.body["type"], "data": _compared(delivery.body["data"])}
        deliveries.append(delivery._replace(body=body))

    async with receiving(file, received), aiohttp.ClientSession() as session:
        follower = Follower(session, f"{url}/events", told)
        listeners = Listeners(follower, events, deliveries)
        task = asyncio.create_task(follower.run())
        try:
            while not (follower.streams and await _is_known(session, url)):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.05)
            listeners.began = time.time()
            yield listeners
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _compared(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: document[name] for name in _COMPARED if name in document}


async def _is_known(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether notify has read the file: what it says of a webhook is what the API lists."""
    async with session.get(f"{url}/webhooks") as answer:
        return answer.ok and NAME in (each["webhook_id"] for each in (await answer.json())["webhooks"])


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """Counts. Lost, under another id and still waiting have to be 0; again is what ids are there for."""

    events: int
    streams: int
    resets: int
    readings_lost: int
    readings_otherwise: int
    """Readings under more ids than they have records."""
    forecasts_lost: int
    webhooks: int
    webhooks_again: int
    webhooks_otherwise: int
    webhooks_lost: int
    webhooks_waiting: int

    @property
    def clean(self) -> bool:
        lost = self.readings_lost + self.forecasts_lost + self.webhooks_lost + self.webhooks_waiting
        return lost + self.resets + self.readings_otherwise + self.webhooks_otherwise == 0

    def lines(self) -> Iterator[str]:
        yield (
            f"events: {self.events} in {self.streams} streams, {self.resets} resets; {self.readings_lost} readings and "
            f"{self.forecasts_lost} forecasts lost, {self.readings_otherwise} readings under another id"
        )
        yield (
            f"webhooks: {self.webhooks} received, {self.webhooks_again} again; {self.webhooks_lost} lost, "
            f"{self.webhooks_waiting} still wait, {self.webhooks_otherwise} under another id"
        )


async def heard(settings: Settings, listeners: Listeners, *, forecasts: bool = True) -> Heard:
    """Compare what was told with what the topics hold now. Without `forecasts` none are expected as events."""
    names = (READING_OUTCOMES.name, FAN_CHARTS.name, ALERTS.name, WEBHOOK_DELIVERIES.name)
    return compared(listeners, [record for name in names for record in await read_all(settings, name)], forecasts)


def compared(listeners: Listeners, records: Iterable[ConsumerRecord[bytes, bytes]], forecasts: bool) -> Heard:
    """The same of these records, those of a partition in their order."""
    of: defaultdict[str, list[ConsumerRecord[bytes, bytes]]] = defaultdict(list)
    for record in records:
        of[record.topic].append(record)
    began, events = listeners.began, listeners.events
    outcomes = Counter(
        ReadingOutcome.from_json(record.value).outcome_id
        for record in of[READING_OUTCOMES.name]
        if record.timestamp > 1000 * began
    )
    ids: dict[str, set[str]] = defaultdict(set)
    told: set[tuple[str, int]] = set()
    for event in events:
        if event.kind == "reading":
            ids[event.data["outcome_id"]].add(event.id)
        if event.kind == "forecast":
            moment = datetime.datetime.fromisoformat(event.data["issue_time"])
            told.add((event.data["subject_id"], int(moment.timestamp())))
    charts = of[FAN_CHARTS.name]
    expected = {place for record in charts if record.timestamp > 1000 * began and (place := _place(record))}
    received = Counter(delivery.id for delivery in listeners.deliveries)
    ended, waiting = _deliveries(of[WEBHOOK_DELIVERIES.name])
    wanted = {
        found.event_id
        for record in (*charts, *of[ALERTS.name])
        if record.timestamp > 1000 * began and (found := event_of(record.topic, record.value, _came(record)))
    }
    delivered = {event_id for event_id, status in ended.items() if status == "delivered"}
    return Heard(
        events=len(events),
        streams=listeners.follower.streams,
        resets=sum(event.kind == "reset" for event in events),
        readings_lost=len(outcomes.keys() - ids.keys()),
        readings_otherwise=sum(len(ids[name]) > count for name, count in outcomes.items()),
        forecasts_lost=len(expected - told) if forecasts else 0,
        webhooks=len(received),
        webhooks_again=received.total() - len(received),
        webhooks_otherwise=sum(not _is_of(delivery) for delivery in listeners.deliveries),
        webhooks_lost=len(wanted - ended.keys() - waiting) + len(delivered - received.keys()),
        webhooks_waiting=len(waiting),
    )


def _place(record: ConsumerRecord[bytes, bytes]) -> tuple[str, int] | None:
    """Whose forecast, and of when in Unix seconds; None for what is none of a served model."""
    chart = FanChart.from_json(record.value)
    if chart.kind != "live" or not chart.model_serves or chart.subject_id is None:
        return None
    return chart.subject_id, int(chart.issue_time.timestamp())


def _came(record: ConsumerRecord[bytes, bytes]) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.timestamp / 1000, datetime.UTC)


def _deliveries(records: Iterable[ConsumerRecord[bytes, bytes]]) -> tuple[Mapping[str, str], set[str]]:
    """How each delivery has ended, by its event, and what is still to be sent."""
    ended: dict[str, str] = {}
    begun: set[str] = set()
    for record in records:
        step = webhook.Delivery.from_json(record.value)
        if step.webhook_id == NAME:
            begun.add(step.event_id)
            if step.status not in webhook.WAITING:
                ended.setdefault(step.event_id, step.status)
    return ended, begun - ended.keys()


def _is_of(delivery: Delivery) -> bool:
    """Whether its id is that of what it tells."""
    data = delivery.body["data"]
    if delivery.body["type"] == "forecast.issued":
        return delivery.id == f"forecast_{data['chart_id']}_{data['epoch_ms']}"
    return delivery.id.startswith(f"alert_{data['alert_id']}_{data['status']}")
