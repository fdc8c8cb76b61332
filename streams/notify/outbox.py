"""What is still to be sent to each webhook: a pure queue, whose every change is a record of ``cgm.webhook-deliveries``.

The records of a partition, in their order, make the queue again. Whoever owns the partition of an event owns its
deliveries. A delivery waits `held` until its record is confirmed and the event's offset committed: then the event
cannot come again after the delivery was made.
"""

import dataclasses
import datetime
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from agents.core.fingerprint import delivery_id
from schemas.webhook import FORGOTTEN, WAITING, Delivery, DeliveryStatus, EventGroup
from streams.notify.events import LONGEST_HOLDS, NEWER, Event, Place, place_of, why_ended
from streams.notify.remembered import Remembered, number_of
from streams.notify.webhook_file import Endpoint

MOST_ATTEMPTS = (1 << 31) - 1
"""That a record can tell."""
KNOWN_FOR = datetime.timedelta(hours=1)
"""So long after its end a delivery is remembered, so that an event that comes twice is sent once."""
TOO_LATE = "it no longer held when it could have been sent"
REPLACED = "it was for another webhook, which had this name before"
FULL = "too many deliveries wait for this webhook"
SAID_AGAIN = "the alert was said again"
_URGENCY: dict[EventGroup, int] = {"alert": 0, "outcome": 1, "forecast": 2}


@dataclasses.dataclass(slots=True)
class Waiting:
    """A delivery with its body, the first to go and the last to be dropped by `order`."""

    delivery: Delivery
    partition: int
    about: str
    held: bool

    @property
    def group(self) -> EventGroup:
        return group_of(self.delivery.event_type)

    @property
    def began_at(self) -> datetime.datetime:
        return self.delivery.began_at or self.delivery.queued_at

    @property
    def order(self) -> tuple[int, int, datetime.datetime]:
        return _URGENCY[self.group], self.delivery.attempts, self.delivery.queued_at


class _Newest(NamedTuple):
    """The newest forecast of a subject, until when it holds, and its partition."""

    place: Place
    until: datetime.datetime
    partition: int


class LastSteps:
    """The last step of each delivery of a partition, by all its records in their order.

    Of what has ended and cannot come again no more is kept than a number: a topic holds two days of forecasts, of which
    those of the last hour matter.
    """

    def __init__(self, now: datetime.datetime) -> None:
        self._long_ago = now - KNOWN_FOR
        self._steps: dict[str, Delivery] = {}
        self._over: set[int] = set()

    def add(self, record: Delivery) -> None:
        """The next record."""
        key = record.delivery_id
        before = self._steps.get(key)
        if number_of(key) in self._over or (before is not None and before.status not in WAITING):
            return  # what has ended does not begin again, whatever a process that was cut off adds
        if record.status in WAITING:
            body = record.body or (before.body if before is not None else None)
            self._steps[key] = record if body == record.body else record.model_copy(update={"body": body})
        elif record.valid_until > self._long_ago:
            self._steps[key] = record.model_copy(update={"body": None})
        else:
            self._steps.pop(key, None)
            self._over.add(number_of(key))

    def left(self) -> list[Delivery]:
        """Those that wait, with their bodies, and those that have ended of late."""
        return list(self._steps.values())


def group_of(event_type: str) -> EventGroup:
    """Of the type of an event."""
    if event_type == "forecast.issued":
        return "forecast"
    return "alert" if event_type in ("alert.raised", "alert.repeated") else "outcome"


class Outbox:
    """The queues of all webhooks, `most` deliveries each. Times are passed in; nothing here waits or sends."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[str, dict[str, Waiting]] = {}
        self._of: defaultdict[str, dict[str, Waiting]] = defaultdict(dict)
        """The same by what they are about: an event ends few of them, of however many that wait for who hangs."""
        self._known = Remembered(KNOWN_FOR)
        self._newest: dict[str, _Newest] = {}
        self._ordered: dict[str, tuple[datetime.datetime, int]] = {}
        """Up to when each subject was forgotten last, and its partition: topics are read side by side."""

    def restore(self, partition: int, records: Iterable[Delivery], now: datetime.datetime) -> None:
        """Take a partition over: all records of it, in their order."""
        last = LastSteps(now)
        for record in records:
            last.add(record)
        for delivery in last.left():
            if delivery.valid_until > now - KNOWN_FOR:
                self._known.add(delivery.delivery_id, delivery.valid_until, partition)
            if group_of(delivery.event_type) == "forecast" and not self._is_over(
                delivery.subject_id, place_of(delivery).began_at
            ):
                self._is_outrun(delivery.subject_id, place_of(delivery), delivery.valid_until, partition)
            if delivery.status in WAITING and delivery.body is not None:
                self._put(Waiting(delivery, partition, _about(delivery), held=False))

    def forget(self, partition: int) -> None:
        """Another process takes this partition over."""
        for item in [item for item in self._all() if item.partition == partition]:
            self._take(item)
        self._known.forget(partition)
        self._newest = {key: newest for key, newest in self._newest.items() if newest.partition != partition}
        self._ordered = {key: ordered for key, ordered in self._ordered.items() if ordered[1] != partition}

    def plan(
        self, event: Event, partition: int, endpoints: Iterable[Endpoint], now: datetime.datetime
    ) -> list[Delivery]:
        """The records that an event makes: deliveries to be made, and those that it ends. Held until `release`."""
        if self._is_over(event.subject_id, event.began_at):
            return []  # nor does it end what came after the order
        to = [endpoint for endpoint in endpoints if _wants(endpoint, event)]
        made = self._end_earlier(event, to, now)
        too_late = TOO_LATE if event.valid_until <= now else None
        if event.place is not None and self._is_outrun(event.about, event.place, event.valid_until, partition):
            too_late = NEWER
        for endpoint in to:
            key = delivery_id(endpoint.name, event.event_id)
            if key in self._known:
                continue
            self._known.add(key, event.valid_until, partition)
            delivery = Delivery(
                delivery_id=key, webhook_id=endpoint.name, event_id=event.event_id, event_type=event.type,
                subject_id=event.subject_id, status="queued", queued_at=now, began_at=event.began_at,
                issue_time=None if event.place is None else event.place.issue_time,
                revision=None if event.place is None else event.place.revision,
                updated_at=now, valid_until=event.valid_until, body=event.body.decode(),
            )  # fmt: skip
            if too_late is not None:
                made.append(step_of(delivery, "expired", now, reason=too_late))
                continue
            made.append(delivery)
            self._put(Waiting(delivery, partition, event.about, held=True))
            made += self._make_room(self._waiting[endpoint.name], now)
        return made

    def _end_earlier(self, event: Event, to: Collection[Endpoint], now: datetime.datetime) -> list[Delivery]:
        persons = {endpoint.name for endpoint in to if endpoint.channel == "ntfy"}

        def why(item: Waiting) -> str | None:
            waiting = item.delivery
            if event.group != "outcome" and delivery_id(waiting.webhook_id, event.event_id) in self._known:
                return None  # it was told, or waits itself: delivered again it takes nobody's place
            if event.type == "alert.repeated" and waiting.webhook_id in persons and item.group == "alert":
                return SAID_AGAIN if waiting.valid_until <= event.valid_until else None
            return why_ended(waiting, event)

        return self._drop(list(self._of.get(event.about, {}).values()), why, "expired", now)

    def _is_over(self, subject_id: str, began_at: datetime.datetime) -> bool:
        """Whether what began then was forgotten since."""
        ordered = self._ordered.get(subject_id)
        return ordered is not None and began_at <= ordered[0]

    def _is_outrun(self, subject_id: str, place: Place, until: datetime.datetime, partition: int) -> bool:
        """Whether a newer forecast came before it; else it is the newest from here on."""
        known = self._newest.get(subject_id)
        if known is not None and place < known.place:
            return True
        self._newest[subject_id] = _Newest(place, until, partition)
        return False

    def _make_room(self, of_webhook: dict[str, Waiting], now: datetime.datetime) -> list[Delivery]:
        if len(of_webhook) <= self._most:
            return []
        least = max(of_webhook.values(), key=lambda item: (_URGENCY[item.group], -item.delivery.queued_at.timestamp()))
        self._take(least)
        return [step_of(least.delivery, "dropped", now, reason=FULL)]

    def release(self, made: Iterable[Delivery]) -> set[str]:
        """Their records are confirmed and the offset is committed: now they may be sent. Returns the webhooks."""
        touched = set()
        for delivery in made:
            item = self._waiting.get(delivery.webhook_id, {}).get(delivery.delivery_id)
            if item is not None:
                item.held = False
                touched.add(delivery.webhook_id)
        return touched

    def hold(self, partition: int) -> list[Delivery]:
        """Keep back what waits under a partition, until `release` is given it."""
        items = [item for item in self._all() if item.partition == partition]
        for item in items:
            item.held = True
        return [item.delivery for item in items]

    def next(self, webhook_id: str) -> Waiting | None:
        """What is to be sent first: alerts before forecasts, what was tried least, the oldest."""
        ready = (item for item in self._waiting.get(webhook_id, {}).values() if not item.held)
        return min(ready, key=lambda item: item.order, default=None)

    def still_waits(self, item: Waiting) -> bool:
        """Whether it was neither ended nor given away since."""
        return self._waiting.get(item.delivery.webhook_id, {}).get(item.delivery.delivery_id) is item

    def tried(
        self, item: Waiting, status: DeliveryStatus, now: datetime.datetime, response: int | None, reason: str | None
    ) -> Delivery:
        """The record of an attempt; delivered ones leave the queue."""
        delivery = item.delivery
        made = step_of(delivery, status, now, response, reason, min(delivery.attempts + 1, MOST_ATTEMPTS))
        if status in WAITING:
            item.delivery = made.model_copy(update={"body": delivery.body})
        elif self.still_waits(item):
            self._take(item)
        return made

    def expire(self, webhook_id: str, now: datetime.datetime) -> list[tuple[int, Delivery]]:
        """End what no longer holds; with the partition that each record belongs to."""
        of_webhook = self._waiting.get(webhook_id, {})
        late = [item for item in of_webhook.values() if not item.held and item.delivery.valid_until <= now]
        for item in late:
            self._take(item)
        return [(item.partition, step_of(item.delivery, "expired", now, reason=TOO_LATE)) for item in late]

    def ends_next(self, webhook_id: str) -> datetime.datetime | None:
        """When the first of a webhook's deliveries no longer holds."""
        ends = (item.delivery.valid_until for item in self._waiting.get(webhook_id, {}).values() if not item.held)
        return min(ends, default=None)

    def replaced(self, endpoint: Endpoint, now: datetime.datetime) -> list[tuple[int, Delivery]]:
        """End what waits for one that had the name of this webhook before, see `is_meant_for`."""
        of_webhook = self._waiting.get(endpoint.name, {})
        others = [item for item in of_webhook.values() if not item.held and not is_meant_for(endpoint, item.delivery)]
        for item in others:
            self._take(item)
        return [(item.partition, step_of(item.delivery, "dropped", now, reason=REPLACED)) for item in others]

    def give_up(self, webhook_id: str, reason: str, now: datetime.datetime) -> list[tuple[int, Delivery]]:
        """End all deliveries to a webhook."""
        gone = list(self._waiting.get(webhook_id, {}).values())
        for item in gone:
            self._take(item)
        return [(item.partition, step_of(item.delivery, "dropped", now, reason=reason)) for item in gone]

    def erase(
        self, subject_id: str, up_to: datetime.datetime, partition: int, now: datetime.datetime
    ) -> list[Delivery]:
        """End all deliveries about a person that are of before an order; what is read behind it makes none."""
        self.order(subject_id, up_to, partition)
        about = [item for item in self._all() if item.delivery.subject_id == subject_id and item.began_at <= up_to]
        return self._drop(about, lambda _: FORGOTTEN, "dropped", now)

    def order(self, subject_id: str, up_to: datetime.datetime, partition: int) -> None:
        """Know of an order: what began before it and is read behind it is told to nobody, and is newer than nothing."""
        known = self._ordered.get(subject_id)
        self._ordered[subject_id] = up_to if known is None else max(known[0], up_to), partition
        newest = self._newest.get(subject_id)
        if newest is not None and newest.place.began_at <= up_to:
            del self._newest[subject_id]

    def _drop(
        self,
        items: Iterable[Waiting],
        why: Callable[[Waiting], str | None],
        status: DeliveryStatus,
        now: datetime.datetime,
    ) -> list[Delivery]:
        made = []
        for item in items:
            reason = why(item)
            if reason is not None:
                self._take(item)
                made.append(step_of(item.delivery, status, now, reason=reason))
        return made

    def _all(self) -> Iterator[Waiting]:
        return (item for of_webhook in self._waiting.values() for item in of_webhook.values())

    def _put(self, item: Waiting) -> None:
        key = item.delivery.delivery_id
        self._waiting.setdefault(item.delivery.webhook_id, {})[key] = item
        self._of[item.about][key] = item

    def _take(self, item: Waiting) -> None:
        key = item.delivery.delivery_id
        del self._waiting[item.delivery.webhook_id][key]
        del self._of[item.about][key]
        if not self._of[item.about]:
            del self._of[item.about]

    def webhooks(self) -> Sequence[str]:
        """Those for which something waits."""
        return [name for name, of_webhook in self._waiting.items() if of_webhook]

    def count(self) -> int:
        """How many deliveries wait."""
        return sum(map(len, self._waiting.values()))

    def tidy(self, now: datetime.datetime) -> None:
        """Forget ids that cannot come again."""
        self._known.tidy(now)
        self._newest = {key: newest for key, newest in self._newest.items() if newest.until > now}
        self._ordered = {key: each for key, each in self._ordered.items() if each[0] > now - LONGEST_HOLDS}


def is_meant_for(endpoint: Endpoint, delivery: Delivery) -> bool:
    """Whether it was planned for this webhook: a name that is removed and added again may lead to somebody else."""
    return (
        delivery.queued_at >= endpoint.added_at
        and endpoint.subject_id in (None, delivery.subject_id)
        and group_of(delivery.event_type) in endpoint.events
    )


def _wants(endpoint: Endpoint, event: Event) -> bool:
    whose = endpoint.subject_id in (None, event.subject_id)
    if event.simulated and endpoint.channel == "nightscout":
        return False  # whose times are not those of the site's clock
    return whose and event.group in endpoint.events and event.came_at >= endpoint.begins_at


def step_of(
    delivery: Delivery,
    status: DeliveryStatus,
    now: datetime.datetime,
    response: int | None = None,
    reason: str | None = None,
    attempts: int | None = None,
) -> Delivery:
    """A later step of a delivery: what was to be sent is said once."""
    return delivery.model_copy(
        update={
            "status": status, "updated_at": now, "response_status": response, "reason": reason, "body": None,
            "attempts": delivery.attempts if attempts is None else attempts,
        }
    )  # fmt: skip


def _about(delivery: Delivery) -> str:
    """As `Event.about`, from the id: alert_<alert id>_<status>. Of what is no such id, nothing."""
    if group_of(delivery.event_type) == "forecast":
        return delivery.subject_id
    return delivery.event_id.partition("_")[2].partition("_")[0]
