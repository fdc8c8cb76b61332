"""A step whose topics are lanes: its messages wait by lane and have turns by priority, with a share for each.

Each lane has a stream, a bounded room and a queue of its own, so that a backlog of one holds back its own topic and no
other. One loop takes the next messages over all lanes, tells the step of them (it may do together what it can) and
hands them to the guard one after the other. Within a lane messages keep their order; who comes in a higher lane than
the rest of a round does not wait for its end.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import structlog
from faust.types import TP

from agents.core.turns import Turns
from agents.work import Message
from schemas.lanes import LANES, Lane
from streams.guard import Guard
from streams.kafka.delivery import Delivery

TOGETHER = 64
"""Messages of one round, which the step is told together."""
AT_ONCE = 8
"""Messages of a round after which the loop has its turn, and as many of higher lanes go first."""

Prepare = Callable[[Sequence[Message]], None]
"""Tells a step what comes next, in this order."""

log = structlog.get_logger(__name__)


class Lanes:
    """The queues of one step. `take_in` is the body of each lane's agent, `serve` runs as long as the App."""

    def __init__(self, guards: Mapping[Lane, Guard], prepare: Prepare) -> None:
        """`guards`: one a lane, each with the room of its lane."""
        self._guards, self._prepare = guards, prepare
        self._waiting: dict[Lane, deque[Delivery]] = {lane: deque() for lane in LANES}
        self._turns = Turns()
        self._arrived = asyncio.Event()

    def depth(self, lane: Lane) -> int:
        """Messages that wait for their turn."""
        return len(self._waiting[lane])

    async def take_in(self, lane: Lane, stream: Any) -> None:
        """Queue what a lane's stream brings."""
        async for delivery in self._guards[lane].deliveries(stream):
            self._waiting[lane].append(delivery)
            self._arrived.set()

    def release(self, revoked: set[TP]) -> None:
        """Give back what has not begun: its partitions go to somebody else, or the App stops."""
        for lane, deliveries in self._waiting.items():
            self._waiting[lane] = deque(each for each in deliveries if each.tp not in revoked)
            for delivery in deliveries:
                if delivery.tp in revoked:
                    delivery.release()

    async def serve(self) -> None:
        """Round after round until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            await self._gathered()
            while batch := self._next():
                self._tell([delivery.message for _, delivery in batch])
                for place, (lane, delivery) in enumerate(batch, 1):
                    await self._guards[lane].guarded(delivery)
                    if place % AT_ONCE == 0:
                        await asyncio.sleep(0)
                        await self._meanwhile({lane for lane, _ in batch[place:]})
                await self._gathered()

    async def _meanwhile(self, rest: Set[Lane]) -> None:
        """Before the rest of a round go those of lanes above all of its lanes, at most as many as have just gone."""
        above = LANES[: min(map(LANES.index, rest), default=0)]
        for _ in range(AT_ONCE):
            lane = next((lane for lane in above if self._waiting[lane]), None)
            if lane is None:
                return
            await self._guards[lane].guarded(self._waiting[lane].popleft())

    async def _gathered(self) -> None:
        """Let the streams bring what they have fetched: one event each a turn of the loop, and singly it costs more."""
        before = -1
        while before < (waiting := sum(map(len, self._waiting.values()))) < TOGETHER:
            before = waiting
            await asyncio.sleep(0)

    def _next(self) -> list[tuple[Lane, Delivery]]:
        batch: list[tuple[Lane, Delivery]] = []
        while len(batch) < TOGETHER and (lane := self._turns.next(self._lanes_waiting())) is not None:
            batch.append((lane, self._waiting[lane].popleft()))
            self._turns.taken(lane, self._lanes_waiting())
        return batch

    def _lanes_waiting(self) -> list[Lane]:
        return [lane for lane in LANES if self._waiting[lane]]

    def _tell(self, messages: Sequence[Message]) -> None:
        try:
            self._prepare(messages)
        except Exception as error:  # each message meets its own failure when its turn comes
            log.warning("could not prepare a round", error=type(error).__name__, messages=len(messages))
