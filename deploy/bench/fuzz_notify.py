"""What the notify role makes of a fuzzed message: intake, outbox and registry, without Kafka or a network."""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import orjson
from aiokafka.structs import ConsumerRecord

from deploy.bench.fuzz_records import NOW, OFFSET_OF_0
from schemas import topics
from schemas.errors import RejectedError
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL, STEP
from schemas.webhook import Delivery, DeliveryStatus, Webhook
from streams.notify.courier import DAMAGED
from streams.notify.intake import READ, Intake
from streams.notify.outbox import Outbox, step_of
from streams.notify.people import People
from streams.notify.registry import Registry
from streams.notify.sender import request_of
from streams.notify.webhook_file import new_endpoint, new_secret
from streams.settings import Settings
from streams.topology import step_of as step_named

_MOST = 20
"""Deliveries that wait: what is over that is dropped, which is looked at too."""
_SHOWN = ("glucose", "median_30", "median_60")
_ENDPOINTS = [
    new_endpoint({"name": name, "url": "https://example.org/hook", "added_at": NOW - 400 * STEP, **more})
    for name, more in (
        ("everything", {"events": ["alert", "outcome", "forecast"], "secret": new_secret()}),
        ("phone", {"channel": "ntfy", "events": ["alert", "outcome"]}),
    )
]

Ends = tuple[str, list[str]]
"""How a message ended, and what did not hold."""
Record: TypeAlias = ConsumerRecord[bytes, bytes]


class Notify:
    """The parts of one process, which see one message after the other."""

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry(disable_hours=24)
        self._registry.load(_ENDPOINTS, NOW)
        self._people = People(["*"])
        self._outbox = Outbox(_MOST)
        self._intake = Intake(
            settings, self._outbox, self._people, self._registry.active, _publish, lambda _: None, lambda *_: None
        )
        self._take: Mapping[str, Callable[[Record, datetime.datetime], Ends]] = {
            **{topic.name: self._plan for topic in READ},
            topics.WEBHOOK_DELIVERIES.name: _restored,
            topics.WEBHOOKS.name: self._follow,
        }
        if missing := {topic.name for topic in step_named("notify").reads} - self._take.keys():
            raise KeyError(f"notify reads {', '.join(sorted(missing))}, and here nobody does")

    @property
    def topics(self) -> frozenset[str]:
        """What it reads."""
        return frozenset(self._take)

    def read(self, record: Record) -> Ends:
        """Take a message in, and send whatever it makes."""
        return self._take[record.topic](record, NOW + (record.offset - OFFSET_OF_0) * STEP)

    def _plan(self, record: Record, now: datetime.datetime) -> Ends:
        skipped = self._intake.skipped
        made = self._intake.plan(record, now)
        wrong = list(_of_records(made)) + list(self._of_people(now))
        self._outbox.release(made)
        wrong += list(_emptied(self._outbox, [each.name for each in _ENDPOINTS], now))
        self._outbox.tidy(now)
        return ("skipped" if self._intake.skipped > skipped else "processed"), wrong

    def _of_people(self, now: datetime.datetime) -> Iterator[str]:
        for subject in self._people.subjects():
            person = self._people.find(subject)
            for name, value in ({} if person is None else person.state(now, "mg/dL")).items():
                if name in _SHOWN and value is not None and not LOWEST_MGDL <= value <= HIGHEST_MGDL:
                    yield f"a display shows {name} {value}"
            if person is not None:
                person.tidy(now)

    def _follow(self, record: Record, now: datetime.datetime) -> Ends:
        try:
            name, state = (record.key or b"").decode(), None
            if record.value is not None:
                state = Webhook.from_json(record.value)
        except (RejectedError, UnicodeDecodeError):
            return "skipped", []
        registry = Registry(disable_hours=24)
        changes = list(registry.load(_ENDPOINTS, NOW).values())
        registry.follow(name, state)
        registry.active()
        for more in (
            registry.failed(name, "it answers 500", now),
            registry.succeeded(name, now),
            registry.disabled(name, "it answers 410", now),
            registry.load(_ENDPOINTS, now),
        ):
            changes += more.values()
        for change in changes:
            if change is not None:
                Webhook.from_json(change.to_json())
        return "processed", []


async def _publish(_: object) -> None:
    raise AssertionError("nothing is published here")


def _restored(record: Record, now: datetime.datetime) -> Ends:
    """Whoever takes the partition over finds the message among what is still to be sent."""
    try:
        found = Delivery.from_json(record.value)
    except RejectedError:
        return "skipped", []
    outbox, again = Outbox(_MOST), Outbox(_MOST)
    outbox.restore(0, [found], now)
    wrong = list(_emptied(outbox, outbox.webhooks(), now))
    again.restore(0, [found, step_of(found, "delivered", now)], now)
    wrong += ["what was delivered is sent again"] if again.count() else []
    for each in (outbox, again):
        each.tidy(now)
        each.forget(0)
    return "processed", wrong


def _emptied(outbox: Outbox, names: Iterable[str], now: datetime.datetime) -> Iterator[str]:
    """Send everything that waits, as couriers do it."""
    for name in list(names):
        for _, ended in outbox.expire(name, now):
            yield from _of_records([ended])
        while (item := outbox.next(name)) is not None:
            outbox.ends_next(name)
            status: DeliveryStatus = "delivered"
            reason: str | None = None
            for endpoint in _ENDPOINTS:
                try:
                    body, _ = request_of(endpoint, item.delivery, now)
                    if endpoint.channel == "webhook":
                        orjson.loads(body)
                except (RejectedError, LookupError, TypeError, ValueError):
                    status, reason = "dropped", DAMAGED
            yield from _of_records([outbox.tried(item, status, now, None, reason)])
    if outbox.count():
        yield f"{outbox.count()} deliveries wait after all were sent"


def _of_records(made: Iterable[Delivery]) -> Iterator[str]:
    for delivery in made:
        try:
            Delivery.from_json(delivery.to_json())
        except RejectedError as error:
            yield f"a delivery that nobody reads: {error}"
