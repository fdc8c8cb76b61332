"""Faust's fetching thread: quicker, fair between partitions, right about log ends, and stopped by no record."""

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any, cast

from aiokafka.consumer.fetcher import FetchError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from streams.kafka import decoding
from streams.kafka.connection import ISOLATION_LEVEL
from streams.kafka.continuity import RESERVED_KEYS
from streams.kafka.epochs import ends_of_epochs
from streams.kafka.fetched import Position, positions, size_of
from streams.kafka.log_ends import log_ends
from streams.kafka.room import Room

_NO_KEY = b"__glucast\0no row__"
_LOOK_AGAIN_SECONDS = 0.05
"""While somebody waits for room: it comes with an ack, of which the fetching thread is not told."""
_EPOCH = "epoch %d"

_log = logging.getLogger("faust.strict")


class PromptThread(AIOKafkaConsumerThread):
    """Fetches that wait less: every question to the broker (first offsets, high watermarks) queues behind a fetch."""

    logger = _log

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.positions: Mapping[TP, Position] = {}
        """Where the fetcher stood after the last fetch, behind everything that it had brought by then."""
        self.room = Room(0, {})
        """What the next fetch may bring; set before it."""
        self.epochs: Mapping[TP, int] = {}
        """What is told the group with the next commit of each partition."""

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        decoding.install()
        consumer = super()._create_consumer(loop)
        consumer._isolation_level = ISOLATION_LEVEL  # Faust reads what is aborted, unless it writes transactions itself
        consumer._fetch_max_wait_ms = cast(Any, self.app).fetch_wait_milliseconds  # Faust fixes it at 1,500
        commit = consumer.commit

        async def with_epochs(offsets: Any) -> None:
            known = self.epochs
            await commit({tp: OffsetAndMetadata(each.offset, _told(known.get(tp))) for tp, each in offsets.items()})

        consumer.commit = with_epochs
        return consumer

    async def committed_epochs(self, partitions: list[TP]) -> dict[TP, int]:
        """What the group was told with the last commit, where it was told anything."""
        coordinator = self._ensure_consumer()._coordinator
        found = await self.call_thread(coordinator.fetch_committed_offsets, partitions)
        told = {TP(*tp): re.fullmatch(r"epoch (\d{1,9})", each.metadata or "") for tp, each in found.items()}
        return {tp: int(match[1]) for tp, match in told.items() if match is not None}

    async def ends_of_epochs(self, epochs: Mapping[TP, int]) -> dict[TP, int]:
        """Raises `KafkaError`."""
        ends = await self.call_thread(ends_of_epochs, self._ensure_consumer(), epochs)
        return {TP(*tp): end for tp, end in ends.items()}

    async def _highwaters(self, partitions: list[TP]) -> Mapping[TP, int]:
        ends = await log_ends(self._ensure_consumer(), partitions)
        return {TP(*partition): end for partition, end in ends.items()}

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: Any,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        """Of every partition that has been fetched a share: a backlog of some holds back nobody else's next record.

        aiokafka empties one partition's buffer before it looks at the next. Who has no room left waits, with what was
        fetched, and is the first to be looked at again.
        """
        most, buffers = max_records or 1, consumer._fetcher._records
        for partition in active_partitions:
            if isinstance(buffers.get(partition), FetchError):  # before anything is taken, which would be lost with it
                return await super()._fetch_records(consumer, {partition}, timeout=0, max_records=1)
        records = await self._shares(consumer, active_partitions, most)
        if not records and (free := {each for each in active_partitions if self.room.has(TP(*each))}):
            if len(free) < len(active_partitions):
                timeout = min(timeout or 0.0, _LOOK_AGAIN_SECONDS)
            first: Any = await super()._fetch_records(consumer, free, timeout, max_records=1)
            self._taken(first)
            more = await self._shares(consumer, active_partitions, most) if first else {}
            records = first | {each: [*first.get(each, ()), *batch] for each, batch in more.items()}
        elif not records:
            await asyncio.sleep(min(timeout or 0.0, _LOOK_AGAIN_SECONDS))
        self.positions = {TP(*each): position for each, position in positions(consumer).items()}
        return records

    async def _shares(self, consumer: Any, active_partitions: Any, max_records: int) -> Any:
        """At once, of what lies there."""
        buffers = consumer._fetcher._records
        waiting = [partition for partition in buffers if partition in active_partitions][:max_records]
        records: Any = {}
        for partition in waiting:
            if isinstance(buffers.get(partition), FetchError) or not self.room.has(TP(*partition)):
                continue
            share = max(1, max_records // len(waiting))
            taken = await super()._fetch_records(consumer, {partition}, timeout=0, max_records=share)
            self._taken(taken)
            records.update(taken)
            if partition in buffers:
                buffers[partition] = buffers.pop(partition)  # the next poll begins with the others
        return records

    def _taken(self, records: Any) -> None:
        for partition, batch in records.items():
            self.room.take(TP(*partition), sum(map(size_of, batch)))


def row(message: Any) -> Any:
    """A record of a changelog; one that no worker has written becomes the deletion of a row that nobody has."""
    if message.key is None or message.key in RESERVED_KEYS or isinstance(message.value, decoding.Undecodable):
        _log.error("%s/%d: what offset %d holds is no row, and is left out", *message.tp, message.offset)
        message.key, message.value = _NO_KEY, None
    return message


def _told(epoch: int | None) -> str:
    """The metadata of a commit."""
    return "" if epoch is None else _EPOCH % epoch
