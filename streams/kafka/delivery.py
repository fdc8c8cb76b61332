"""One message from its delivery to its ack: everything it causes is attached to it, and confirmed before the ack."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Protocol

from aiokafka.errors import InvalidTimestampError
from faust.types import TP

from streams.kafka import messages

Confirmation = asyncio.Future[Any]
"""Done when the broker has confirmed one effect, with what it says of it; failed where it has refused it."""

Fatal = Callable[[str], None]
"""Ends the process with exit code 3, without acking anything more; takes the reason."""


class InFlight:
    """The deliveries that are being worked on or wait for their confirmations.

    `unconfirmed` counts effects that have been handed to the producer and not been confirmed.
    """

    def __init__(self) -> None:
        self.unconfirmed = 0
        self._open: dict[TP, set[int]] = {}
        self._begun: dict[TP, int] = {}
        self._count = 0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return self._count

    def enter(self, tp: TP, offset: int) -> None:
        """The delivery of this message begins."""
        self._open.setdefault(tp, set()).add(offset)
        self._begun[tp] = max(offset, self._begun.get(tp, -1))
        self._count += 1

    async def changed(self, timeout_seconds: float) -> None:
        """Wait until a delivery ends, or for so long."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_seconds)

    def leave(self, tp: TP, offset: int) -> None:
        """The delivery of this message has ended."""
        self._open[tp].discard(offset)
        self._count -= 1
        self._changed.set()

    def restart(self, tp: TP) -> None:
        """The partition is delivered anew from some offset on."""
        self._begun.pop(tp, None)

    def was_passed(self, tp: TP, offset: int) -> bool:
        """True if a later message of the partition has begun and this one is not being worked on.

        Messages of a partition begin in order, so this one is done or has been lost on its way.
        """
        return self._begun.get(tp, -1) > offset and offset not in self._open.get(tp, ())

    async def settled(self, timeout_seconds: float) -> bool:
        """Wait until nothing is in flight; False if the time was not enough."""
        deadline = time.monotonic() + timeout_seconds
        while self._count > 0:
            if time.monotonic() >= deadline:
                return False
            await self.changed(deadline - time.monotonic())
        return True


class AckingConsumer(Protocol):
    """What a delivery asks of the consumer that it came from."""

    app: Any  # with its deliveries `in_flight` and its `consumer_generation_id`
    ledgers: dict[TP, Any]

    def committed(self, tp: TP) -> int: ...
    async def settled(self, tp: TP, offset: int, while_true: Callable[[], bool]) -> None: ...
    def ack(self, message: Any) -> object: ...
    def forget(self, message: Any) -> None: ...


class Delivery:
    """A message that a step works on.

    Attach the future of every send and table write that it causes, then `seal` it: when all of them are confirmed it
    is acked. A future that fails ends the process: the message was not acked, so it comes again. Work that has not
    begun when its partition is revoked, or that is no longer `is_current`, is given back with `release`.
    """

    __slots__ = ("_consumer", "_fatal", "_in_flight", "_on_done", "_open", "_pending", "_raw", "begun_at", "message")

    def __init__(
        self,
        raw: Any,
        consumer: AckingConsumer,
        fatal: Fatal,
        on_done: Callable[["Delivery"], None] | None = None,
    ) -> None:
        """`raw` is Faust's message. `on_done` is called once, after the ack or the release."""
        self.message = messages.of_faust(raw)
        self.begun_at = time.monotonic()
        self._raw, self._consumer, self._fatal, self._on_done = raw, consumer, fatal, on_done
        self._in_flight: InFlight = consumer.app.in_flight
        self._pending = 1  # until sealed
        self._open = True
        self._in_flight.enter(raw.tp, raw.offset)

    @property
    def tp(self) -> TP:
        """The partition that the message came from."""
        return TP(self._raw.tp.topic, self._raw.tp.partition)

    @property
    def is_current(self) -> bool:
        """False when the partition was revoked since: the message will be delivered again, here or elsewhere."""
        consumer = self._consumer
        return self._raw.generation_id == consumer.app.consumer_generation_id and self._raw.tp in consumer.ledgers

    @property
    def goes_on(self) -> bool:
        """False when it is not current, or the worker stops: what has no effects yet is to be released."""
        return self.is_current and not self._consumer.app.should_stop

    @property
    def committed(self) -> int:
        """Messages of its partition with lower offsets are never delivered again."""
        return self._consumer.committed(self._raw.tp)

    async def settled(self) -> None:
        """Return once all messages before it are committed, or it is no longer current."""
        await self._consumer.settled(self._raw.tp, self._raw.offset, lambda: self.is_current)

    def attach(self, future: "asyncio.Future[Any]") -> None:
        """The ack waits for this future too."""
        self._pending += 1
        self._in_flight.unconfirmed += 1
        future.add_done_callback(self._confirmed)

    def seal(self) -> None:
        """Nothing more will be attached."""
        self._countdown()

    def release(self) -> None:
        """Neither do nor ack it. Only before anything was attached; a second call does nothing."""
        if self._open:
            self._consumer.forget(self._raw)
            self._close()

    def _confirmed(self, future: "asyncio.Future[Any]") -> None:
        self._in_flight.unconfirmed -= 1
        if future.cancelled():
            self._fatal(f"a confirmation was cancelled, for a message of {self.message.topic}")
        elif (error := future.exception()) is not None:
            self._fatal(f"the broker did not confirm an effect of a message of {self.message.topic}: {_words(error)}")
        else:
            self._countdown()

    def _countdown(self) -> None:
        self._pending -= 1
        if self._pending == 0 and self._open:
            self._consumer.ack(self._raw)
            self._close()

    def _close(self) -> None:
        self._open = False
        self._in_flight.leave(self._raw.tp, self._raw.offset)
        if self._on_done is not None:
            self._on_done(self)


def _words(error: BaseException) -> str:
    if isinstance(error, InvalidTimestampError):  # Kafka's limit, message.timestamp.after.max.ms
        return "this machine's clock is over an hour ahead of the broker's"
    return repr(error)
