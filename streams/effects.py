"""Applies what a work has collected: writes, then sends; or the sends first, and the writes once they are confirmed."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import cast

from agents.work import Send, Work
from streams.kafka.consumer import StrictApp
from streams.kafka.delivery import Confirmation, Delivery
from streams.kafka.tables import ConfirmedTable, HeldWrite


class TableTurns:
    """Works on a partition of a table take turns: their reads and writes stay together, their writes in order.

    A work whose writes wait for a confirmation is overtaken by nobody's writes, and holds back nobody's reading: steps
    see at once what it is going to write.
    """

    def __init__(self) -> None:
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}
        self._held: dict[tuple[str, int], asyncio.Task[None]] = {}

    def of(self, table: str, partition: int) -> asyncio.Lock:
        """The lock of one partition of one table."""
        return self._locks.setdefault((table, partition), asyncio.Lock())

    def held(self, tables: Sequence[str], partition: int) -> list[asyncio.Task[None]]:
        """The works behind which a work on these tables has to write. Ask under the locks of the tables."""
        return list({task for table in tables if (task := self._held.get((table, partition))) is not None})

    def hold(self, tables: Sequence[str], partition: int, task: asyncio.Task[None]) -> None:
        """From now on works on these tables write behind this one, until it is done."""
        places = [(table, partition) for table in tables]
        self._held.update(dict.fromkeys(places, task))
        task.add_done_callback(lambda done: self._let_go(places, done))

    def _let_go(self, places: Sequence[tuple[str, int]], done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            done.exception()  # it was told where it was raised
        for place in places:
            if self._held.get(place) is done:
                del self._held[place]


class Effects:
    """The effects of one App's steps. What is enqueued here was checked by the size middleware before."""

    def __init__(self, app: StrictApp, tables: Mapping[str, ConfirmedTable], turns: TableTurns) -> None:
        self._app, self._tables, self._turns = app, tables, turns
        self._names = sorted(tables)

    async def apply(self, work: Work, delivery: Delivery) -> None:
        """Enqueue everything and seal the delivery; under the locks of the step's tables.

        Where sends have to be confirmed first, or a work before this one waits for that, the writes follow later, while
        the next work already reads what this one is going to write. The sends leave now, in the order of the works:
        that of two charts of a subject on a topic is the order in which they were scored.
        """
        if not (work.sends or work.writes):
            await self._applied(work, delivery)
            return
        # On its way from here on: a first send may wait for the broker until the partition is somebody else's.
        under_way: Confirmation = asyncio.get_running_loop().create_future()
        delivery.attach(under_way)
        following = None
        try:
            following = await self._applied(work, delivery)
        finally:
            if following is None:
                under_way.set_result(None)
            else:
                following.add_done_callback(lambda _: under_way.set_result(None))

    async def _applied(self, work: Work, delivery: Delivery) -> asyncio.Task[None] | None:
        """The task of what follows, if anything does."""
        before = self._turns.held(self._names, work.message.partition)
        first: list[Confirmation] = []
        while (work.sends_first or before) and work.sends:
            first.append(await self._send(work.sends.pop(0), delivery))
        writes = [
            self._tables[table].partition(work.message.partition).hold(key, value, work.erases)
            for (table, key), value in work.writes.items()
        ]
        if work.erases:  # what a table held before, and holds no more, may be in its files yet
            for table in set(self._names) - {table for table, _ in work.writes}:
                self._tables[table].disk(work.message.partition).wish_rewritten(time.time_ns())
        if not first and not before:
            await self._finish(writes, work.sends, delivery)
            return None
        following = asyncio.create_task(self._follow(before, first, writes, work, delivery))
        self._turns.hold(self._names, work.message.partition, following)
        return following

    async def _follow(
        self,
        before: Sequence[asyncio.Task[None]],
        first: Sequence[Confirmation],
        writes: Sequence[HeldWrite],
        work: Work,
        delivery: Delivery,
    ) -> None:
        """The rest of a work's effects, behind what has to be there before them. A failure ends the process."""
        try:
            await asyncio.gather(*before, *first)
            await self._app.fence.opened(lambda: delivery.is_current)
            if delivery.is_current:
                await self._finish(writes, work.sends, delivery)
            else:
                self._app.fatal(f"step {work.step.name}: its partition was given away between its effects")
        except Exception as error:
            self._app.fatal(f"step {work.step.name}: effects could not be sent: {error!r}")
            raise

    async def _finish(self, writes: Sequence[HeldWrite], sends: Sequence[Send], delivery: Delivery) -> None:
        for write in writes:
            delivery.attach(await write.send())
        for send in sends:
            await self._send(send, delivery)
        delivery.seal()

    async def _send(self, send: Send, delivery: Delivery) -> Confirmation:
        """The future is done when the broker has confirmed the message; the delivery's ack waits for it."""
        headers = list(send.headers.items())
        sent = await self._app.producer.send(send.topic.name, send.key, send.value, send.partition, None, headers)
        confirmation = cast(Confirmation, sent)
        delivery.attach(confirmation)
        return confirmation
