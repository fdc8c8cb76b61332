"""The clock of the watch over readings: a tick on each partition of ``cgm.readings`` that this worker reads.

A tick says nothing but that it came: its time is the broker's, wherever the sender's clock stands, and one too many or
too late changes nothing. So nobody has to agree on who sends it, and a restart or a rebalance loses none that matters.
"""

import asyncio

import structlog

from schemas.arrival import TICK, TICK_KEY
from schemas.topics import READINGS
from streams.kafka.consumer import StrictApp

log = structlog.get_logger(__name__)


class Clock:
    """`run` never returns by itself; without a broker the next tick tries again."""

    def __init__(self, app: StrictApp, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def run(self) -> None:
        """Wait first: what a worker finds when it starts is read before anybody is missed."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.tick()
            except Exception as error:  # whatever it is, a worker does not end for a tick
                log.warning("no tick could be sent", error=type(error).__name__)

    async def tick(self) -> None:
        """One on each partition, which the broker has confirmed. Raises what sending raises."""
        parts = [tp.partition for tp in self._app.ledgers() if tp.topic == READINGS.name]
        key, headers = TICK_KEY.encode(), [(TICK, b"1")]
        sent = [await self._app.producer.send(READINGS.name, key, None, part, None, headers) for part in parts]
        await asyncio.gather(*sent)
