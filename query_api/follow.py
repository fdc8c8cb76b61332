"""Keeps the read model up to date: reads every partition of the followed topics, reconnects, rebuilds when it must."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from query_api.read_model import Entry, ReadModel
from schemas.errors import RebuildError, StorageError, UnavailableError
from schemas.topics import WEBHOOK_DELIVERIES, WEBHOOKS, may_lack_deletions
from streams.kafka.acks import NO_EPOCH
from streams.kafka.connection import new_consumer
from streams.kafka.epochs import ends_of_epochs
from streams.kafka.fetched import positions
from streams.kafka.log_ends import log_ends
from streams.kafka.state_dir import cluster_id
from streams.settings import Settings
from streams.topology import ALERTS_CHANGELOG, CHART_CHANGELOGS, DAYS_CHANGELOG, SCORES_CHANGELOG

log = structlog.get_logger("query_api.follow")

POLL_MILLISECONDS = 200
POLL_RECORDS = 200
PROBE_SECONDS = 2.0
RETRY_SECONDS = 0.5
REWRITE_SECONDS = 5.0
"""After something was erased: what other topics tell of it has come by then, and goes with it."""
RETRY_REWRITE_SECONDS = 60.0
REST = 20
"""Times as long as it took the files are not written anew again: whoever deletes all the time costs little."""
STUCK_SECONDS = 10.0
_Batches = dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]
_Offsets = dict[TopicPartition, int]


class Follower:
    """`run` never returns by itself. Without a broker the table keeps what it has and `connected` is false."""

    def __init__(self, settings: Settings, model: ReadModel) -> None:
        self._settings = settings
        self._model = model
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int] = {}
        self._epochs: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._advanced = asyncio.Condition()
        self._probing: asyncio.Task[None] | None = None
        self._moved = time.monotonic()
        self._has_caught_up = False
        self._urgent = _urgent(model.followed)
        self._said = ""
        self.connected = False
        self.storage_problem: str | None = None
        """Why the table on disk takes nothing more; None while it does."""

    @property
    def caught_up(self) -> bool:
        """Whether the table has held everything and still follows: behind and standing still is not caught up."""
        return self._has_caught_up and (self.lag() == 0 or time.monotonic() - self._moved < STUCK_SECONDS)

    def lag(self) -> int:
        """Messages between the table and the last known ends of the log."""
        return sum(max(0, end - self._next.get(partition, 0)) for partition, end in self._ends.items())

    def reached(self, topic: str, partition: int) -> int:
        """The next offset of a followed partition that the table lacks."""
        return self._next.get(TopicPartition(topic, partition), 0)

    def known_end(self, topic: str, partition: int) -> int:
        """As far as the partition's log is known to go."""
        return max(self.reached(topic, partition), self._ends.get(TopicPartition(topic, partition), 0))

    async def run(self) -> None:
        while True:
            try:
                await self._follow()
            except RebuildError as reason:
                log.warning("read model is rebuilt", reason=str(reason))
                self._model.wipe()
                self._has_caught_up = False
            except (KafkaError, OSError, UnavailableError) as error:
                self._say(log.warning, "no Kafka for the read model, trying again", error)
                await asyncio.sleep(RETRY_SECONDS)
            except StorageError as error:
                self.storage_problem = str(error)
                self._say(log.error, "the read model stands still", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("the read model's reader failed, starting it again")
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self.connected = False

    def _say(self, how: Callable[..., object], what: str, error: Exception) -> None:
        """Once, until something could be read again or there is another reason."""
        if self._said != str(error):
            self._said = str(error)
            how(what, broker=self._settings.broker, reason=self._said)

    async def _follow(self) -> None:
        consumer = new_consumer(self._settings, client_id="glucast-query")
        try:
            await consumer.start()
            await self._seek(consumer)
            self._consumer = consumer
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(each) for each in (self._watch(), self._rewrite())]
                try:
                    while True:
                        await self._read(consumer)
                finally:
                    for task in beside:
                        task.cancel()
        except* (RebuildError, StorageError) as errors:
            raise errors.exceptions[0] from None
        except* (KafkaError, OSError, UnavailableError) as errors:
            raise errors.exceptions[0] from None
        finally:
            self._consumer = None
            await consumer.stop()

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        """Continue where the table stands, or begin again where it cannot be continued."""
        partitions = [
            TopicPartition(topic, number)
            for topic in self._model.followed
            for number in range(self._settings.partitions)
        ]
        consumer.assign(partitions)
        await self._check_cluster()
        known, epochs = self._model.positions(), self._model.epochs()
        self._epochs = {each: epochs[each.topic, each.partition] for each in partitions if each in epochs}
        touched = self._model.touched_seconds()
        if touched and may_lack_deletions(time.time() - touched):
            raise RebuildError("the table is older than Kafka keeps deletions, or the clock was set back")
        self._ends = await log_ends(consumer, partitions)
        begins = await consumer.beginning_offsets(partitions)
        for partition in partitions:
            offset = known.get((partition.topic, partition.partition), 0)
            if offset > self._ends[partition]:
                raise RebuildError(f"{partition.topic} ends before the offset that was reached")
            self._next[partition] = max(offset, begins[partition])
            consumer.seek(partition, self._next[partition])
        self.connected = True
        await self._advance()

    async def _check_cluster(self) -> None:
        if not self._model.belongs_to(await cluster_id(self._settings)):
            raise RebuildError("it is of another Kafka cluster or of an earlier version")

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        batches = await self._fetched(consumer)
        for partition, records in batches.items():
            if records and records[0].offset < self._next[partition]:
                raise RebuildError(f"{partition.topic} began again")
        passed, epochs = await self._passed(consumer)
        if not passed:
            return
        self._moved = time.monotonic()
        self._model.apply(_entries(record for records in batches.values() for record in records), passed, epochs)
        self._next.update(passed)
        self._epochs.update(epochs)
        if self.storage_problem is not None:
            log.info("the read model goes on")
        self._said, self.storage_problem = "", None
        await self._advance()

    async def _passed(self, consumer: AIOKafkaConsumer) -> tuple[_Offsets, _Offsets]:
        """The partitions whose reader has moved on, also past markers of transactions, and their new leader epochs.

        Raises `RebuildError` where a log does not hold any more what was read of it; `KafkaError` where nobody can say.
        """
        found = {each: position for each, position in positions(consumer).items() if each in self._next}
        passed = {each: offset for each, (offset, _) in found.items() if offset != self._next[each]}
        # The consumer goes back by itself, but only where the broker does not know its offset.
        for partition, offset in passed.items():
            if offset < self._next[partition]:
                raise RebuildError(f"{partition.topic} ends before the offset that was reached")
        epochs = {each: found[each].epoch for each in passed if found[each].epoch > self._epochs.get(each, NO_EPOCH)}
        if earlier := {each: self._epochs[each] for each in epochs if each in self._epochs}:
            for partition, end in (await ends_of_epochs(consumer, earlier)).items():
                if end < self._next[partition]:
                    raise RebuildError(f"{partition.topic} has lost its end, and holds something else there")
        return passed, epochs

    async def _fetched(self, consumer: AIOKafkaConsumer) -> _Batches:
        """What the most urgent topics have, else what any has: a waiter is behind one poll of a backlog at most."""
        for topics in self._urgent:
            partitions = [partition for partition in self._next if partition.topic in topics]
            batches: _Batches = await consumer.getmany(*partitions, timeout_ms=0, max_records=POLL_RECORDS)
            if batches:
                return batches
        found: _Batches = await consumer.getmany(timeout_ms=POLL_MILLISECONDS, max_records=POLL_RECORDS)
        return found

    async def _watch(self) -> None:
        """A consumer stays silent when its broker is away: ask for the ends of the log now and then."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            await self._probe()

    async def _rewrite(self) -> None:
        """The files of the table keep nothing of what was erased."""
        pause = REWRITE_SECONDS / 5
        while True:
            await asyncio.sleep(pause)
            began, ago = time.monotonic(), self._model.erased_seconds_ago()
            if ago is not None and self.lag() == 0 and not 0 <= ago < REWRITE_SECONDS:
                try:
                    await self._model.rewrite()
                except Exception as error:  # it is tried again; what is read still finds its room, or stands still
                    log.warning("the table could not be written anew", reason=str(error))
                    pause = RETRY_REWRITE_SECONDS
                    continue
            pause = max(REWRITE_SECONDS / 5, REST * (time.monotonic() - began))

    async def _probe(self) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        was_connected = self.connected
        try:
            async with asyncio.timeout(2 * PROBE_SECONDS):
                self._ends = await log_ends(consumer, list(self._next))
                if not was_connected:
                    await self._check_cluster()
        except (KafkaError, OSError, TimeoutError, UnavailableError):
            self.connected = False
            return
        self.connected = True
        await self._advance()

    async def _advance(self) -> None:
        if not self._has_caught_up and self.lag() == 0:
            self._has_caught_up = True
            log.info("read model has caught up", handles=self._model.uploads.handle_count())
        async with self._advanced:
            self._advanced.notify_all()

    async def catch_up(self, timeout_seconds: float = 2.0) -> None:
        """Return when the table holds everything that was in Kafka at the call; what another replica just answered
        is then known here too. Concurrent calls share one question to the broker: the next one, where one is on its
        way, whose answer may be older than the call.

        Raises `UnavailableError` where that takes too long or no broker answers.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                if self._probing is not None:
                    await asyncio.wait([self._probing])
                if self._probing is None or self._probing.done():
                    self._probing = asyncio.create_task(self._probe())
                await asyncio.shield(self._probing)
                goal = dict(self._ends)
                async with self._advanced:
                    await self._advanced.wait_for(lambda: self.connected and self._reached(goal))
        except (TimeoutError, RebuildError):
            raise UnavailableError(
                "this replica has not caught up with Kafka, so it cannot say what is stored; try again"
            ) from None

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Where the log of any partitions ends now. Raises `UnavailableError` without a broker."""
        if self._consumer is None:
            raise UnavailableError(f"no Kafka answers at {self._settings.broker}")
        return await log_ends(self._consumer, partitions)

    def _reached(self, goal: dict[TopicPartition, int]) -> bool:
        return bool(goal) and all(self._next.get(partition, 0) >= end for partition, end in goal.items())


def _entries(records: Iterable[ConsumerRecord]) -> Iterable[Entry]:
    for record in records:
        yield Entry(record.topic, record.partition, record.offset, record.key, record.value, record.timestamp)


def _urgent(followed: Collection[str]) -> tuple[frozenset[str], ...]:
    """Topics before which nobody should wait for the rest: outcomes and interactive charts, then live ones too."""
    backlog, live = (CHART_CHANGELOGS[lane].name for lane in ("backfill", "live"))
    # How earlier days and forecasts were, and what was sent to others, is worth waiting for.
    patient = {backlog, SCORES_CHANGELOG.name, DAYS_CHANGELOG.name, WEBHOOKS.name, WEBHOOK_DELIVERIES.name}
    alerts = ALERTS_CHANGELOG.name  # as much as live charts
    return frozenset(followed) - patient - {live, alerts}, frozenset(followed) - patient
