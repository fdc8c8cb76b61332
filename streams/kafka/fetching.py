"""Faust's fetching thread: quicker, fair between partitions, right about log ends, and stopped by no record."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, cast

from aiokafka.consumer.fetcher import FetchError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from streams.kafka import decoding
from streams.kafka.connection import ISOLATION_LEVEL
from streams.kafka.continuity import RESERVED_KEYS
from streams.kafka.log_ends import log_ends

_NO_KEY = b"__glucast\0no row__"

_log = logging.getLogger("faust.strict")


class PromptThread(AIOKafkaConsumerThread):
    """Fetches that wait less: every question to the broker (first offsets, high watermarks) queues behind a fetch."""

    logger = _log

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.positions: Mapping[TP, int] = {}
        """Where the fetcher stood after the last fetch, behind everything that it had brought by then."""

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        decoding.install()
        consumer = super()._create_consumer(loop)
        consumer._isolation_level = ISOLATION_LEVEL  # Faust reads what is aborted, unless it writes transactions itself
        consumer._fetch_max_wait_ms = cast(Any, self.app).fetch_wait_milliseconds  # Faust fixes it at 1,500
        return consumer

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

        aiokafka empties one partition's buffer before it looks at the next.
        """
        buffers = consumer._fetcher._records
        waiting = [partition for partition in buffers if partition in active_partitions][:max_records]
        records: Any = {}
        if len(waiting) > 1 and max_records and not any(isinstance(buffers[each], FetchError) for each in waiting):
            for partition in waiting:
                share = max(1, max_records // len(waiting))
                records.update(await super()._fetch_records(consumer, {partition}, timeout=0, max_records=share))
                if partition in buffers:
                    buffers[partition] = buffers.pop(partition)  # the next poll begins with the others
        if not records:
            records = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        self.positions = _positions(consumer)
        return records


def row(message: Any) -> Any:
    """A record of a changelog; one that no worker has written becomes the deletion of a row that nobody has."""
    if message.key is None or message.key in RESERVED_KEYS or isinstance(message.value, decoding.Undecodable):
        _log.error("%s/%d: what offset %d holds is no row, and is left out", *message.tp, message.offset)
        message.key, message.value = _NO_KEY, None
    return message


def _positions(consumer: Any) -> dict[TP, int]:
    """Of the assigned partitions that have one."""
    assignment = consumer._subscription.subscription.assignment
    states = {tp: assignment.state_value(tp) for tp in assignment.tps}
    return {TP(*tp): state.position for tp, state in states.items() if state is not None and state.has_valid_position}
