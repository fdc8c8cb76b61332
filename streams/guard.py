"""The one wrapper around every step: retries, dead letters, effects, confirmation, acks, metrics.

A step raises what it likes; its stream never sees it. A message ends acked, with all its effects confirmed by the
broker, or the process ends without the ack and the message comes again.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, cast

import structlog

from agents.work import Message, Send, StepFunction, Work
from schemas.errors import RejectedError
from streams import dead_letters
from streams.kafka.consumer import StrictApp
from streams.kafka.delivery import Delivery
from streams.kafka.tables import ConfirmedTable
from streams.metrics import Metrics
from streams.settings import Settings
from streams.topology import Step

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0

log = structlog.get_logger(__name__)


class PartitionLocks:
    """Steps that share tables take turns on a partition, so that a read and the write that follows stay together."""

    def __init__(self) -> None:
        self._locks: dict[int, asyncio.Lock] = {}

    def of(self, partition: int) -> asyncio.Lock:
        if (lock := self._locks.get(partition)) is None:
            lock = self._locks[partition] = asyncio.Lock()
        return lock


class Effects:
    """Applies what a work has collected: table writes first, then sends, each attached to its delivery."""

    def __init__(self, app: StrictApp, tables: Mapping[str, ConfirmedTable]) -> None:
        self._app = app
        self._tables = tables

    def check(self, work: Work) -> None:
        """Raises `MessageTooLargeError` for a table value that is too large; sends were checked when collected."""
        for (table, _), value in work.writes.items():
            self._tables[table].check(value)

    async def apply(self, work: Work, delivery: Delivery) -> None:
        """Enqueue everything. The delivery is not sealed."""
        for (table, key), value in work.writes.items():
            delivery.attach(await self._tables[table].partition(work.message.partition).write(key, value))
        for send in work.sends:
            delivery.attach(await self.send(send))

    async def send(self, send: Send) -> "asyncio.Future[Any]":
        """Enqueue one message; the future is done when the broker has confirmed it."""
        return await self.send_raw(send.topic.name, send.key.encode(), send.value, send.headers, send.partition)

    async def send_raw(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes],
        partition: int | None = None,
    ) -> "asyncio.Future[Any]":
        """The same for a key that may be any bytes."""
        future = await self._app.producer.send(topic, key, value, partition, None, list(headers.items()))
        return cast("asyncio.Future[Any]", future)


class Guard:
    """Runs one step over a stream, a message after the other; their confirmations overlap."""

    def __init__(
        self,
        step: Step,
        function: StepFunction,
        app: StrictApp,
        tables: Mapping[str, ConfirmedTable],
        locks: PartitionLocks,
        room: asyncio.Semaphore,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        """`tables` are those of the step; `room` bounds the events in flight of the whole App."""
        self._step, self._function, self._app, self._settings = step, function, app, settings
        self._tables = {name: tables[name] for name in step.tables}
        self._effects = Effects(app, tables)
        self._locks, self._room = locks, room
        self._metrics = metrics.of_step(step.name)

    async def consume(self, stream: Any) -> None:
        """The body of the step's agent."""
        async for event in stream.noack().events():
            await self._room.acquire()
            delivery = Delivery(event.message, self._app.strict, self._app.fatal, self._done)
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
        """Run the step on one message, apply its effects and seal the delivery."""
        message = delivery.message
        async with self._locks.of(message.partition):
            work = await self._attempt(message)
            await self._app.fence.opened(lambda: delivery.is_current)
            if not delivery.is_current:
                delivery.release()
                return
            if isinstance(work, dead_letters.Failure):
                await self._bury(delivery, work)
            else:
                await self._effects.apply(work, delivery)
                self._metrics.ended("processed")
        delivery.seal()

    async def _attempt(self, message: Message) -> Work | dead_letters.Failure:
        """The finished work, or why there is none after all tries."""
        attempt = 0
        while True:
            attempt += 1
            began = time.perf_counter()
            work = Work(message, {name: table.partition(message.partition) for name, table in self._tables.items()})
            try:
                await self._function(work)
                self._effects.check(work)
            except RejectedError as error:
                return dead_letters.Failure(error.code, str(error), attempt)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                if attempt >= self._settings.step_attempts:
                    log.error("step failed", step=self._step.name, error=type(error).__name__, attempts=attempt,
                              topic=message.topic, partition=message.partition, offset=message.offset)  # fmt: skip
                    return dead_letters.Failure("failed", reason, attempt)
                self._metrics.ended("retried")
                await asyncio.sleep(min(FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1), LONGEST_BACKOFF_SECONDS))
            else:
                self._metrics.step_seconds(time.perf_counter() - began)
                return work

    async def _bury(self, delivery: Delivery, failure: dead_letters.Failure) -> None:
        message = delivery.message
        letter = dead_letters.letter(message, self._step.name, failure)
        delivery.attach(await self._effects.send_raw(dead_letters.TOPIC.name, message.key, letter.to_json(), {}))
        self._metrics.ended("rejected" if failure.code != "failed" else "dead_lettered")
