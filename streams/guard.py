"""The one wrapper around every step and every lane: room, turns, middlewares, fence, effects, confirmation, ack.

A step raises what it likes; its stream never sees it. A message ends acked, with all its effects confirmed by the
broker, or the process ends without the ack and the message comes again.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

from faust.types import TP

from agents.work import StepFunction, Work
from streams.effects import Effects, TableTurns
from streams.kafka.consumer import StrictApp
from streams.kafka.delivery import Delivery
from streams.kafka.partitioning import partition_of
from streams.kafka.tables import ConfirmedTable
from streams.metrics import Metrics
from streams.middlewares import GivenBackError, around
from streams.settings import Settings
from streams.topology import Step


class Guard:
    """Runs one step over a stream.

    In turn: a message after the other, while their confirmations overlap. Or `together`, for a step that waits for
    somebody else (the model): then messages are begun in their order and end in any. Or `by_partition`, for a step that
    waits for somebody else and keeps no table (a parser): messages of a partition in turn, partitions together.
    """

    def __init__(
        self,
        step: Step,
        function: StepFunction,
        app: StrictApp,
        tables: Mapping[str, ConfirmedTable],
        room: asyncio.Semaphore,
        metrics: Metrics,
        settings: Settings,
        turns: TableTurns | None = None,
        together: bool = False,
        by_partition: bool = False,
    ) -> None:
        """`room` bounds the events in flight of everybody who shares it; `turns` are shared with the tables."""
        self._step, self._app = step, app
        self._tables = {name: tables[name] for name in step.tables}
        self._metrics = metrics.of_step(step.name)
        self._run = around(function, settings.step_attempts, self._metrics, self._tables)
        self._room, self._turns, self._together = room, turns or TableTurns(), together or by_partition
        self._effects = Effects(app, self._tables, self._turns)
        self._waiting: set[Delivery] | None = set() if by_partition else None
        self._partition_of: Callable[[bytes], int] = partial(partition_of, partitions=settings.partitions)
        self._begun: set[asyncio.Task[None]] = set()

    async def consume(self, stream: Any) -> None:
        """The body of the step's agent. What it has begun `together` goes on when it is cancelled, until it is done."""
        if not self._together:
            async for event in stream.noack().events():
                await self._room.acquire()
                await self.guarded(Delivery(event.message, self._app.strict, self._app.fatal, self._done))
            return
        async for delivery in self.deliveries(stream):
            task = asyncio.create_task(self.guarded(delivery))
            self._begun.add(task)
            task.add_done_callback(self._begun.discard)
            await asyncio.sleep(0)  # begun, as far as it comes, before the next

    async def deliveries(self, stream: Any) -> AsyncIterator[Delivery]:
        """What a stream brings, as far as there is room; each is to be `guarded` or released."""
        async for event in stream.noack().events():
            await self._room.acquire()
            delivery = Delivery(event.message, self._app.strict, self._app.fatal, self._done)
            if self._app.should_stop or not delivery.is_current:  # it waited for room meanwhile
                delivery.release()
            else:
                yield delivery

    def give_back(self, revoked: set[TP]) -> None:
        """Release what waits for its turn in these partitions: it has not begun."""
        for delivery in [each for each in self._waiting or () if each.tp in revoked]:
            self._waiting_no_more(delivery)
            delivery.release()

    def _waiting_no_more(self, delivery: Delivery) -> bool:
        """False where the delivery was given back meanwhile."""
        if self._waiting is None:
            return True
        known = delivery in self._waiting
        self._waiting.discard(delivery)
        return known

    async def guarded(self, delivery: Delivery) -> None:
        """Handle a delivery: now or later it is sealed or released, or the process ends."""
        try:
            await self.handle(delivery)
        except asyncio.CancelledError:
            delivery.release()
            raise
        except Exception as error:
            self._app.fatal(f"step {self._step.name}: effects could not be sent: {error!r}")

    def _done(self, delivery: Delivery) -> None:
        self._room.release()
        self._metrics.confirmed(time.monotonic() - delivery.begun_at)

    async def handle(self, delivery: Delivery) -> None:
        """Run the step on one message and apply its effects, which seals the delivery."""
        message = delivery.message
        async with contextlib.AsyncExitStack() as turn:
            if self._waiting is not None:
                self._waiting.add(delivery)
                await turn.enter_async_context(self._turns.of(self._step.name, message.partition))
            if not self._waiting_no_more(delivery):
                return
            for table in sorted(self._tables):
                await turn.enter_async_context(self._turns.of(table, message.partition))
            views = {name: table.partition(message.partition) for name, table in self._tables.items()}
            work = Work(message, views, self._step, self._partition_of, delivery)
            try:
                await self._run(work)
            except GivenBackError:
                delivery.release()
                return
            await self._app.fence.opened(lambda: delivery.is_current)
            if not delivery.is_current:  # somebody else has it by now
                delivery.release()
                return
            await self._effects.apply(work, delivery)
