"""Tables are opened at once, and thrown away where their disk can no longer be continued from the changelog."""

import logging
import time
from collections import Counter
from typing import Any, cast

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP

_log = logging.getLogger("faust.strict")


class CheckedRecovery(Recovery):
    """Faust's recovery, which first looks whether what lies on the disk is a beginning of the changelog."""

    logger = _log

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: "Counter[TP]", title: str) -> None:
        app = cast(Any, self.app)
        for tp in tps if title == "active" else ():
            disk, now = app.kept[tp.topic].disk(tp.partition), time.time()
            if fault := disk.fault(self.active_highwaters[tp], now):
                _log.warning("%s/%d: %s; the table is read anew", *tp, fault.text)
                disk.wipe(now, fault.sources_too)
                destination[tp] = None  # type: ignore[assignment]
            if disk.wants_reread:
                app.reread.add(tp)
        await super()._build_offsets(consumer, tps, destination, title)


class PromptTables(TableManager):
    """Tables that are opened at once; Faust waits a second before it begins."""

    logger = _log

    @property
    def recovery(self) -> Recovery:
        """The checked one."""
        if self._recovery is None:
            self._recovery = CheckedRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Open the tables and start their recovery."""
        await self._update_channels()
        await self.recovery.start()
