"""Reads what is to be told: plans deliveries, keeps them on Kafka, and commits only then.

An event is lost to nobody: its offset is committed when its deliveries are records of ``cgm.webhook-deliveries``, which
the broker has confirmed. So a webhook that hangs holds back no commit, and a process that is killed finds there what it
still had to send. Partitions of all topics that have one number belong to one process, with the deliveries that came of
them: whoever takes a number over reads the deliveries under it first, and sends none of them before it has read what
came while nobody had the number: that may have ended them.
"""

import asyncio
import dataclasses
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import ConsumerRecord

from schemas.alert import Alert
from schemas.errors import MalformedRecordError, RejectedError
from schemas.fan_chart import FanChart
from schemas.reading import ReadingOutcome
from schemas.topics import ALERTS, FAN_CHARTS, READING_OUTCOMES, WEBHOOK_DELIVERIES, Topic
from schemas.webhook import Delivery
from streams.kafka.connection import new_consumer
from streams.kafka.decoding import Undecodable
from streams.kafka.fetched import positions
from streams.kafka.log_ends import log_ends
from streams.kafka.whole_topics import everything
from streams.notify.courier import Steps, utc_now
from streams.notify.events import LONGEST_HOLDS, began_at, event_of
from streams.notify.outbox import LastSteps, Outbox, group_of
from streams.notify.people import People
from streams.notify.webhook_file import Endpoint
from streams.settings import Settings
from streams.topology import app_id

log = structlog.get_logger(__name__)

READ = (ALERTS, FAN_CHARTS, READING_OUTCOMES)
GROUP = app_id("notify")
POLL_MILLISECONDS = 200
LONGEST_POLL_MILLISECONDS = 24 * 3600 * 1000
"""A take-over lies between two polls, and takes as long as there is to read; `run` ends one that hangs."""
TAIL = 500
"""So many of the last messages a partition are looked at for what is shown now: more than a quarter of an hour of
readings of a hundred people."""
TIDY_SECONDS = 60.0
MOST_OUTCOMES = 50_000
"""So many of the last outcomes a partition are looked through for orders: half a day of three hundred people."""
_FORGOTTEN = ("erased", "reset")
_FORGOTTEN_BYTES = [f'"{status}"'.encode() for status in _FORGOTTEN]
"""In the JSON of their outcomes: most are of readings, and need not be read."""


@dataclasses.dataclass(slots=True)
class _Behind:
    """A number that was taken over, until all is read that its topics held then."""

    ends: dict[TopicPartition, int]
    deliveries: list[Delivery]
    """What may be sent afterwards."""


class Intake(ConsumerRebalanceListener):  # type: ignore[misc]
    """`run` never returns by itself. Raises what Kafka raises."""

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        people: People,
        endpoints: Callable[[], Iterable[Endpoint]],
        publish: Callable[[Steps], Awaitable[None]],
        released: Callable[[Iterable[str]], None],
        shown: Callable[[str, bool], None],
    ) -> None:
        """`publish` returns when records are confirmed; `released` is told of webhooks for which something new waits;
        `shown` of a person of whom something is new, and whether that is to forget them.
        """
        self._settings, self._outbox, self._people = settings, outbox, people
        self._endpoints, self._publish, self._released, self._shown = endpoints, publish, released, shown
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int] = {}
        self._seen: dict[TopicPartition, int] = {}
        """Up to which offset messages were shown: after a take-over they come once more."""
        self._ready: set[int] = set()
        self._behind: dict[int, _Behind] = {}
        self._revocations = 0
        self._patience: asyncio.Timeout | None = None
        self.skipped = 0
        self.joined = False

    def lag(self) -> int:
        """Messages that wait to be read, as far as the consumer knows."""
        consumer = self._consumer
        if consumer is None:
            return 0
        return sum(
            max(0, end - reached)
            for partition, reached in self._next.items()
            if partition in consumer.assignment() and (end := consumer.highwater(partition)) is not None
        )

    async def run(self) -> None:
        settings = self._settings
        consumer = new_consumer(
            settings,
            client_id=f"{GROUP}-{settings.ordinal}",
            group_id=GROUP,
            group_instance_id=f"{GROUP}-{settings.ordinal}" if settings.static_membership else None,
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=int(settings.session_timeout_seconds * 1000),
            heartbeat_interval_ms=int(settings.heartbeat_seconds * 1000),
            rebalance_timeout_ms=int(settings.rebalance_timeout_seconds * 1000),
            max_poll_records=settings.max_poll_records,
            max_poll_interval_ms=LONGEST_POLL_MILLISECONDS,
        )
        consumer.subscribe([topic.name for topic in READ], listener=self)
        try:
            await consumer.start()
            self._consumer = consumer
            tidied = utc_now()
            while True:
                # The supervisor starts one that hangs again.
                async with asyncio.timeout(settings.stall_seconds) as self._patience:
                    await self._poll(consumer)
                if utc_now() - tidied > datetime.timedelta(seconds=TIDY_SECONDS):
                    tidied = utc_now()
                    self._outbox.tidy(tidied)
        finally:
            self._consumer = None
            await consumer.stop()

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        batches = await consumer.getmany(timeout_ms=POLL_MILLISECONDS)
        await self._take_over(consumer)
        await self._read(consumer, batches)
        self._pass_markers(consumer, batches)
        self._catch_up(consumer)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called before others may read them: from here on nothing of them is sent."""
        self._revocations += 1
        for number in {partition.partition for partition in revoked}:
            self._ready.discard(number)
            self._behind.pop(number, None)
            self._outbox.forget(number)
            self._show_anew(number)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """They are taken over before anything of them is read, see `_take_over`."""
        self._next.clear()
        self.joined = True

    async def _take_over(self, consumer: AIOKafkaConsumer) -> None:
        """Read what is still to be sent under numbers that are new to this process."""
        new = {partition.partition for partition in consumer.assignment()} - self._ready
        if not new:
            return
        now, revocations = utc_now(), self._revocations
        last = {number: LastSteps(now) for number in new}
        async for record in self._held(WEBHOOK_DELIVERIES, only=new):
            try:
                last[record.partition].add(Delivery.from_json(_decoded(record.value)))
            except RejectedError:
                self._skip(record)
        orders = [order async for order in self._orders(new, now)]
        shown = [
            record
            for topic in (READ if self._people.wanted else ())
            async for record in self._held(topic, only=new, last=TAIL)
        ]
        ends = await log_ends(consumer, [each for each in consumer.assignment() if each.partition in new])
        if self._revocations != revocations:  # others may have had them meanwhile: what was read is of yesterday
            return
        for outcome, record in orders:
            up_to = _ordered_at(outcome, record, now)
            self._outbox.order(outcome.subject_id, up_to, record.partition)
            self._forget(outcome, record, now)
            if outcome.status == "erased" and self._people.wants(outcome.subject_id):
                self._shown(outcome.subject_id, True)  # what is shown may be of long after the order
        for record in shown:  # all at once: no display is to see an alert come and end again, nor who was erased
            with suppress(Exception):  # it is counted when it is read in its turn
                self._show(record, now)
        for number, steps in last.items():
            self._outbox.restore(number, steps.left(), now)
            of_number = {partition: end for partition, end in ends.items() if partition.partition == number}
            self._behind[number] = _Behind(of_number, self._outbox.hold(number))
        self._ready |= new
        log.info("took partitions over", partitions=sorted(new), waiting=self._outbox.count())

    async def _orders(
        self, numbers: Collection[int], now: datetime.datetime
    ) -> AsyncIterator[tuple[ReadingOutcome, ConsumerRecord[Any, Any]]]:
        """Orders to forget that may end what is yet to be read."""
        since = now - LONGEST_HOLDS
        async for record in self._held(READING_OUTCOMES, only=numbers, last=MOST_OUTCOMES, since=since):
            if not isinstance(record.value, bytes) or not any(each in record.value for each in _FORGOTTEN_BYTES):
                continue
            with suppress(RejectedError):  # it is counted when it is read in its turn
                outcome = ReadingOutcome.from_json(record.value)
                if outcome.status in _FORGOTTEN:
                    yield outcome, record

    async def _held(self, topic: Topic, **which: Any) -> AsyncIterator[ConsumerRecord[Any, Any]]:
        """As `everything`. However long it takes: what is read is progress."""
        clock, stall_seconds = asyncio.get_running_loop().time, self._settings.stall_seconds
        async for record in everything(self._settings, topic.name, **which):
            patience = self._patience
            if patience is not None and not patience.expired():
                ends, wanted = patience.when(), clock() + stall_seconds
                if ends is not None and wanted - ends > stall_seconds / 10:
                    patience.reschedule(wanted)
            yield record

    def _forget(self, outcome: ReadingOutcome, record: ConsumerRecord[Any, Any], now: datetime.datetime) -> None:
        up_to, erases = _ordered_at(outcome, record, now), outcome.status == "erased"
        self._people.forget_subject(outcome.subject_id, up_to, record.partition, now, erases=erases)

    async def _read(
        self, consumer: AIOKafkaConsumer, batches: dict[TopicPartition, list[ConsumerRecord[Any, Any]]]
    ) -> None:
        """A batch of every partition: deliveries are kept, then offsets committed, then deliveries may be made."""
        made: list[tuple[int, Delivery]] = []
        offsets: dict[TopicPartition, int] = {}
        now = utc_now()
        for partition, records in batches.items():
            if partition.partition not in self._ready or partition not in consumer.assignment():
                continue  # taken away meanwhile: whoever has it now reads them from the committed offset
            for record in records:
                made += [(partition.partition, delivery) for delivery in self.plan(record, now)]
                offsets[partition] = record.offset + 1
        if not offsets:
            return
        await self._publish(made)
        try:
            await consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:  # taken away: the next owner plans the same
            log.warning("offsets could not be committed", reason=type(error).__name__)
            return
        self._next.update(offsets)
        for number, delivery in made:  # it may have ended long ago, and that be read only later
            if number in self._behind and delivery.status == "queued":
                self._behind[number].deliveries.append(delivery)
        self._released(self._outbox.release(each for number, each in made if number not in self._behind))

    def _catch_up(self, consumer: AIOKafkaConsumer) -> None:
        """Let go what waits under numbers of which all is read, of what may end it, that they held when taken over."""
        for number, behind in list(self._behind.items()):
            late = {each.topic for each, end in behind.ends.items() if not self._has_reached(consumer, each, end)}
            if not late:
                del self._behind[number]
            ready: list[Delivery] = []
            waits: list[Delivery] = []
            for each in behind.deliveries:
                (waits if late & _ended_by(each) else ready).append(each)
            behind.deliveries = waits
            self._released(self._outbox.release(ready))

    def _has_reached(self, consumer: AIOKafkaConsumer, partition: TopicPartition, end: int) -> bool:
        """Whether a topic is read so far, or as far as it goes: Kafka may have lost its end meanwhile."""
        there_is = consumer.highwater(partition)
        return self._next.get(partition, 0) >= (end if there_is is None else min(end, there_is))

    def _pass_markers(self, consumer: AIOKafkaConsumer, batches: Collection[TopicPartition]) -> None:
        """Where nothing came, all that lies before the reader is done: also what is no record, markers of transactions.

        Behind records it may not be: those that could not be committed are read again.
        """
        for partition, (position, _) in positions(consumer).items():
            if partition not in batches and partition.partition in self._ready:
                self._next[partition] = position

    def plan(self, record: ConsumerRecord[Any, Any], now: datetime.datetime) -> list[Delivery]:
        """The deliveries that a message makes or ends. What is no record is passed, and counted."""
        try:
            self._show(record, now)
            if record.topic == READING_OUTCOMES.name:
                outcome = ReadingOutcome.from_json(_decoded(record.value))
                if outcome.status not in _FORGOTTEN:
                    return []
                return self._outbox.erase(outcome.subject_id, _ordered_at(outcome, record, now), record.partition, now)
            came_at = _came_at(record, now)
            endpoints = [each for each in self._endpoints() if came_at >= each.begins_at]
            if not endpoints and not self._outbox.count():
                return []  # the week before there was any webhook
            event = event_of(record.topic, record.value, came_at)
            return [] if event is None else self._outbox.plan(event, record.partition, endpoints, now)
        except Exception:  # whatever is wrong with it: the next message has to be read
            self._skip(record)
            return []

    def _show_anew(self, number: int) -> None:
        """Nothing of a partition is known any more."""
        self._people.forget(number)
        self._seen = {place: offset for place, offset in self._seen.items() if place.partition != number}

    def _show(self, record: ConsumerRecord[Any, Any], now: datetime.datetime) -> None:
        """Keep what displays show of a person. Raises `MalformedRecordError`."""
        if not self._people.wanted:
            return
        place = TopicPartition(record.topic, record.partition)
        if record.offset <= self._seen.get(place, -1):
            return
        self._seen[place] = record.offset
        came_at = _came_at(record, now)
        if record.topic != READING_OUTCOMES.name and now - came_at > LONGEST_HOLDS:
            return
        if record.topic == READING_OUTCOMES.name:
            outcome = ReadingOutcome.from_json(_decoded(record.value))
            whose = outcome.subject_id
            if outcome.status in _FORGOTTEN:
                self._forget(outcome, record, now)
                if self._people.wants(whose):
                    self._shown(whose, True)
                return
            new = self._people.wants(whose) and self._people.of(whose, record.partition).read(outcome, came_at)
        elif record.topic == ALERTS.name:
            alert = Alert.from_json(_decoded(record.value))
            whose = alert.subject_id
            if not self._people.wants(whose) or self._people.is_over(whose, began_at(alert, came_at)):
                return
            new = self._people.of(whose, record.partition).tell(alert, came_at)
        else:
            chart = FanChart.from_json(_decoded(record.value))
            if chart.kind != "live" or not chart.model_serves or chart.subject_id is None:
                return
            whose = chart.subject_id
            if not self._people.wants(whose) or self._people.is_over(whose, began_at(chart, came_at)):
                return
            new = self._people.of(whose, record.partition).forecast(chart)
        if new:
            self._shown(whose, False)

    def _skip(self, record: ConsumerRecord[Any, Any]) -> None:
        self.skipped += 1
        log.warning("a message is no record of its topic", topic=record.topic, partition=record.partition,
                    offset=record.offset)  # fmt: skip


def _decoded(value: Any) -> bytes | None:
    if isinstance(value, Undecodable):
        raise MalformedRecordError(str(value))
    return value if value is None else bytes(value)


def _ordered_at(outcome: ReadingOutcome, record: ConsumerRecord[Any, Any], now: datetime.datetime) -> datetime.datetime:
    """Up to when an order to forget counts: it came before its outcome did, whatever the clock that sent it said."""
    came_at = _came_at(record, now)
    return came_at if outcome.time is None else min(came_at, outcome.time)


def _ended_by(delivery: Delivery) -> set[str]:
    """The topics that may say that a delivery need not be sent any more: no forecast ends an alert."""
    return {READING_OUTCOMES.name, FAN_CHARTS.name if group_of(delivery.event_type) == "forecast" else ALERTS.name}


def _came_at(record: ConsumerRecord[Any, Any], now: datetime.datetime) -> datetime.datetime:
    """When a message came to Kafka; never later than now, whatever its sender's clock says."""
    try:
        return min(now, datetime.datetime.fromtimestamp(record.timestamp / 1000, datetime.UTC))
    except (OverflowError, ValueError, OSError):
        return now
