"""Cache commands in, the fan-chart side: rows go or come back, and what is still being computed for them is dropped."""

import re
from typing import TYPE_CHECKING

from agents.calc.calc import TABLE
from agents.core.deletions import mark_gone
from agents.work import StepFunction, Work
from schemas import chart_keys
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError

if TYPE_CHECKING:
    from streams.settings import Settings

_EPOCH = re.compile(rb'"epoch_ms":\s*(-?\d+)')


def build(settings: "Settings") -> StepFunction:
    """The step of ``cgm.cache-commands``. Raises `MalformedRecordError` for a command that names nothing."""
    from agents.calc.fan_chart import table_key

    async def step(work: Work) -> None:
        command = CacheCommand.from_json(work.message.value)
        if command.action == "restore":
            if command.chart is None:
                raise MalformedRecordError("a restore carries a chart")
            work.put(TABLE, table_key(command.chart, settings.subject_history_steps), command.chart.to_json())
        elif command.action == "flush":
            _remove(work, "handle/", command.epoch_ms)
            mark_gone(work, TABLE, command.epoch_ms)
        else:
            if command.handle is None:
                raise MalformedRecordError("a delete names a handle")
            _remove(work, chart_keys.handle_prefix(command.handle), command.epoch_ms)
            mark_gone(work, TABLE, command.epoch_ms, command.handle)

    return step


def _remove(work: Work, prefix: str, epoch_ms: int) -> None:
    """Delete the rows under a prefix that began up to then. Reads their epoch without decoding 10 kB a row."""
    for key in [key for key in work.keys(TABLE) if key.startswith(prefix)]:
        epoch = _EPOCH.search(work.get(TABLE, key) or b"")
        if epoch is None or int(epoch[1]) <= epoch_ms:
            work.delete(TABLE, key)
