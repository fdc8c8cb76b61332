"""Applies what a work has collected: writes, then sends, each attached to its delivery; or the sends first."""

import asyncio
from collections.abc import Mapping
from typing import cast

from agents.work import Send, Work
from streams.kafka.consumer import StrictApp
from streams.kafka.delivery import Confirmation, Delivery
from streams.kafka.tables import ConfirmedTable


class Effects:
    """The effects of one App's steps. What is enqueued here was checked by the size middleware before."""

    def __init__(self, app: StrictApp, tables: Mapping[str, ConfirmedTable]) -> None:
        self._app = app
        self._tables = tables

    async def told(self, work: Work, delivery: Delivery) -> bool:
        """Send what is to be sent, and wait until the broker has confirmed it: `apply` has the writes left.

        False where the partition is somebody else's by then.
        """
        confirmations = []
        while work.sends:
            confirmations.append(await self._send(work.sends.pop(0)))
            delivery.attach(confirmations[-1])
        await asyncio.gather(*confirmations)
        await self._app.fence.opened(lambda: delivery.is_current)
        return delivery.is_current

    async def apply(self, work: Work, delivery: Delivery) -> None:
        """Enqueue everything. The delivery is not sealed."""
        for (table, key), value in work.writes.items():
            delivery.attach(await self._tables[table].partition(work.message.partition).write(key, value))
        for send in work.sends:
            delivery.attach(await self._send(send))

    async def _send(self, send: Send) -> Confirmation:
        """The future is done when the broker has confirmed the message."""
        headers = list(send.headers.items())
        future = await self._app.producer.send(send.topic.name, send.key, send.value, send.partition, None, headers)
        return cast(Confirmation, future)


class TableLocks:
    """Steps that share a table take turns on a partition of it: a read and the write that follows stay together."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}

    def of(self, table: str, partition: int) -> asyncio.Lock:
        """The lock of one partition of one table."""
        return self._locks.setdefault((table, partition), asyncio.Lock())
