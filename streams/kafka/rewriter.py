"""Has the files of tables written anew after something was erased from them.

A write that erases leaves a wish in the database, in the same batch, so that it outlives the process; whoever owns the
partition carries it out, one database at a time and beside its work.
"""

import asyncio
import time
from collections.abc import Callable, Collection

import structlog

from streams.kafka.rewriting import rewrite, settle
from streams.kafka.tables import ConfirmedTable

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
"""How long a wish may wait: what is erased together is written anew together."""
RETRY_SECONDS = 60.0
REST = 20
"""Times as long as the last round took nothing is written anew: whoever deletes all the time costs little."""


class Rewriter:
    """`run` never returns by itself."""

    def __init__(self, tables: Collection[ConfirmedTable], is_steady: Callable[[], bool]) -> None:
        """`is_steady`: whether the tables are open and nobody is giving partitions away."""
        self._tables, self._is_steady = tables, is_steady

    async def run(self) -> None:
        pause = LOOK_SECONDS
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            try:
                await self.round()
                pause = max(LOOK_SECONDS, REST * (time.monotonic() - began))
            except Exception as error:  # the wish stays; a table that takes no row ends the worker by itself
                log.warning("the files of a table could not be written anew", reason=str(error))
                pause = RETRY_SECONDS

    async def round(self) -> int:
        """Write anew what is wished for now; returns how many databases that were. Raises what the disk raises."""
        count = 0
        for table in self._tables:
            for partition in table.owned():
                wish = table.disk(partition).wants_rewriting if self._holds(table, partition) else None
                if wish is not None:
                    await self._rewrite(table, partition, wish)
                    count += 1
        return count

    def _holds(self, table: ConfirmedTable, partition: int) -> bool:
        """Asked anew after every wait: a database that is not ours would be opened by looking at it."""
        return self._is_steady() and partition in table.owned()

    async def _rewrite(self, table: ConfirmedTable, partition: int, wish: bytes) -> None:
        database = table.database(partition)
        await asyncio.to_thread(rewrite, database)
        if self._holds(table, partition) and table.disk(partition).rewritten(wish):
            await asyncio.to_thread(settle, database)
