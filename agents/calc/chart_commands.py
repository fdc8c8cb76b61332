"""Cache commands in, the fan-chart side: rows and scores go, or rows come back, and what is under way is dropped."""

from agents.calc.alerts import change, forget
from agents.calc.calc import History
from agents.calc.chart_rows import store
from agents.calc.watch import follow_settings, forget_watch
from agents.core.deletions import begun, mark_deleted, of_erased, of_subject
from agents.work import StepFunction, Work
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError
from schemas.fan_chart_row import head_of
from schemas.tables import ALL_HANDLES, DELETIONS_TABLE, FAN_CHART_TABLES, handle_prefix, subject_prefix


def build(settings: History) -> StepFunction:
    """The step of ``cgm.cache-commands``. Raises `MalformedRecordError` for a command that names nothing."""
    from agents.calc.score_rows import forget as forget_scores  # numpy: loaded with the step

    async def step(work: Work) -> None:
        command = CacheCommand.from_json(work.message.value)
        work.erases = command.removes
        if command.action == "restore":
            if command.chart is None:
                raise MalformedRecordError("a restore carries a chart")
            began = {"began_ms": begun(work, command.chart.began_ms)}
            store(work, "interactive", command.chart.model_copy(update=began), settings.subject_history_steps)
        elif command.action == "flush":
            _remove(work, ALL_HANDLES, command.up_to_ms)
            mark_deleted(work, DELETIONS_TABLE, command.up_to_ms)
        elif command.action == "reset":
            if command.series_key is None:
                raise MalformedRecordError("a reset names the subject as series_key")
            _remove(work, subject_prefix(command.series_key), command.up_to_ms)
            forget_scores(work, command.series_key, command.up_to_ms)
            mark_deleted(work, DELETIONS_TABLE, command.up_to_ms, of_subject(command.series_key))
            if command.erases:
                mark_deleted(work, DELETIONS_TABLE, command.up_to_ms, of_erased(command.series_key))
            forget(work, command.series_key, command.up_to_ms, command.erases)
            forget_watch(work, command.series_key, command.up_to_ms)
        elif command.action in ("alerts", "snooze"):
            if (changed := change(work, command)) is not None:
                follow_settings(work, changed)
        elif command.action == "delete":
            if command.handle is None:
                raise MalformedRecordError("a delete names a handle")
            _remove(work, handle_prefix(command.handle), command.up_to_ms)
            mark_deleted(work, DELETIONS_TABLE, command.up_to_ms, command.handle)

    return step


def _remove(work: Work, prefix: str, up_to_ms: int) -> None:
    """Delete the rows under a prefix that began up to then, and what cannot be read."""
    for table in FAN_CHART_TABLES.values():
        for key in work.keys(table, prefix):
            try:
                began_ms = head_of(work.get(table, key) or b"").began_ms
            except MalformedRecordError:
                began_ms = -1
            if began_ms <= up_to_ms:
                work.delete(table, key)
