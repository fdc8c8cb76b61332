"""Cache commands in, the ingest side: stored series and the outcomes that point to them go.

Of a subject for whom settings or a snooze come, it is remembered that it was heard of, and no longer once it is erased:
commands of one subject come in one order, so what was on its way when somebody was erased leaves no name. Nor does one
that a dead letter sends again.
"""

from collections.abc import Sequence

from agents.core.deletions import mark_deleted, of_owner
from agents.ingest import subject_expiry, subject_reset
from agents.ingest.handle import retract
from agents.ingest.stored_series import Tail
from agents.work import StepFunction, Work
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError
from schemas.tables import SERIES_TABLE as TABLE
from schemas.topics import CACHE_COMMANDS, UPLOAD_OUTCOMES


def build(_: object) -> StepFunction:
    """The step of ``cgm.cache-commands``. Raises `MalformedRecordError` for a command that names nothing."""

    async def step(work: Work) -> None:
        command = CacheCommand.from_json(work.message.value)
        work.sends_first = True  # once the rows have gone, nothing tells whose outcomes went with them
        work.erases = command.removes
        if command.action == "flush":
            for key in _tails(work):
                _forget(work, key, None, command.up_to_ms)
            mark_deleted(work, TABLE, command.up_to_ms)
        elif command.action == "flush_owner":
            if command.owner is None:
                raise MalformedRecordError("a flush_owner names whose uploads end")
            for key in _tails(work):
                _order_deletes(work, key, command, command.owner)
            mark_deleted(work, TABLE, command.up_to_ms, of_owner(command.owner))
        elif command.action == "delete":
            if command.series_key is None or command.handle is None:
                raise MalformedRecordError("a delete names series_key and handle")
            _forget(work, command.series_key, command.handle, command.up_to_ms)
            _end_others(work, command.series_key, command.handle, command.upload_ids)
            mark_deleted(work, TABLE, command.up_to_ms, command.handle)
        elif command.action in ("alerts", "snooze") and command.series_key is not None:
            if work.message.first is None or not subject_reset.is_erased(
                work, command.series_key, work.message.came_ms
            ):
                subject_expiry.hear(work, command.series_key)
        elif command.action == "reset" and command.erases and command.series_key is not None:
            subject_expiry.forget_unless_kept(work, command.series_key, command.up_to_ms)

    return step


def _tails(work: Work) -> list[str]:
    return [key for key in work.keys(TABLE, "") if "/" not in key]  # deletion markers have a slash


def _order_deletes(work: Work, series_key: str, command: CacheCommand, owner: str) -> None:
    """A delete for each series of an owner in one tail: only here it is known which there are."""
    for series in Tail.from_bytes(work.get(TABLE, series_key)).series:
        if series.owner == owner and series.began_ms <= command.up_to_ms:
            delete = CacheCommand(
                action="delete",
                command_id=command.command_id,
                up_to_ms=command.up_to_ms,
                series_key=series_key,
                handle=series.handle,
            )
            work.send(CACHE_COMMANDS, series_key, delete.to_json())


def _end_others(work: Work, series_key: str, handle: str, upload_ids: Sequence[str]) -> None:
    """Of a handle that has gone, the uploads that its row did not name: earlier versions lost some of many."""
    if any(series.handle == handle for series in Tail.from_bytes(work.get(TABLE, series_key)).series):
        return  # sent again since
    told = {send.key for send in work.sends}
    for upload_id in upload_ids:
        if upload_id.encode() not in told:
            work.send(UPLOAD_OUTCOMES, upload_id, None)


def _forget(work: Work, series_key: str, handle: str | None, up_to_ms: int) -> None:
    """Remove a handle, or all, of one tail, as far as they began before the command."""
    row = work.get(TABLE, series_key)
    if row is None:
        return
    tail = Tail.from_bytes(row)
    handles = {series.handle for series in tail.series if series.began_ms <= up_to_ms}
    retract(work, tail, handles & {handle} if handle else handles, series_key)
    if tail.series:
        work.put(TABLE, series_key, tail.to_bytes())
    else:
        work.delete(TABLE, series_key)
