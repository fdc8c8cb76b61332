"""Subjects that nobody has heard of for long: what the tables know of them goes, of the longest silent ones first.

``<subject>/seen`` holds the day on which a subject was last heard of, by the broker's clock: of a reading, also of one
that was rejected, of an order about its devices, of settings or a snooze of its alerts. ``seen-on/<day>/<subject>``
keeps the same in order of days. No step has a clock: a reading of anybody in the partition, or a tick, lets those go
whose time has come, a few at once. calc follows by the command that a reset sends; readers, such as the query role and
displays, by an outcome ``erased``. Who was last heard of before this was kept has no day, and stays until then.
"""

import datetime
import itertools

from agents.core import fingerprint
from agents.ingest import glucose_days
from agents.work import Work
from schemas.command import CacheCommand
from schemas.reading import EXPIRED, ReadingOutcome
from schemas.tables import SOURCES_TABLE
from schemas.tables import SUBJECTS_TABLE as TABLE
from schemas.topics import CACHE_COMMANDS, DAY_MS, READING_OUTCOMES

MOST_AT_ONCE = 2
"""Subjects that one message lets go: more than come new with one, so none are left over for ever."""
_BY_DAY = "seen-on/"


def hear(work: Work, subject_id: str) -> None:
    """Remember that a subject was heard of: the message is of its partition."""
    today = work.message.timestamp_ms // DAY_MS
    known = _day(work, subject_id)
    if known is None or known < today:
        forget(work, subject_id)
        work.put(TABLE, _key(subject_id), b"%d" % today)
        work.put(TABLE, _entry(today, subject_id), b"1")


def let_go(work: Work, kept_days: int) -> None:
    """Let go of some of those that were not heard of for more than so many days."""
    today = work.message.timestamp_ms // DAY_MS
    for entry in list(itertools.islice(work.keys(TABLE, _BY_DAY), MOST_AT_ONCE)):
        day, _, silent = entry.removeprefix(_BY_DAY).partition("/")
        if not silent or int(day) >= today - kept_days:  # behind all days lies when a subject of this name was heard of
            break
        if _day(work, silent) == int(day):
            _let_go(work, silent, kept_days)
        else:  # heard of since: another step of the role wrote at the same time
            work.delete(TABLE, entry)


def forget(work: Work, subject_id: str) -> None:
    """Nothing says any more when a subject was heard of."""
    known = _day(work, subject_id)
    if known is not None:
        work.delete(TABLE, _key(subject_id))
        work.delete(TABLE, _entry(known, subject_id))


def forget_unless_kept(work: Work, subject_id: str, up_to_ms: int) -> None:
    """The same of somebody who was erased then, unless there is something of them again, or still."""
    known = _day(work, subject_id)
    if known is not None and known > up_to_ms // DAY_MS:
        return
    if work.get(TABLE, subject_id) is None and work.get(SOURCES_TABLE, subject_id) is None:
        forget(work, subject_id)


def _let_go(work: Work, subject_id: str, kept_days: int) -> None:
    message = work.message
    work.erases = True
    forget(work, subject_id)
    work.delete(TABLE, subject_id)
    work.delete(SOURCES_TABLE, subject_id)
    glucose_days.forget(work, subject_id)
    identity = fingerprint.order_id("expired", subject_id, message.partition, message.offset)
    outcome = ReadingOutcome(
        outcome_id=identity,
        subject_id=subject_id,
        status="erased",
        code=EXPIRED,
        reason=f"nothing was heard of the subject for more than {kept_days} days: what the tables held of it is gone",
        time=datetime.datetime.fromtimestamp(message.timestamp_ms / 1000, datetime.UTC),
    )
    command = CacheCommand(
        action="reset",
        command_id=identity,
        up_to_ms=message.timestamp_ms,
        series_key=subject_id,
        erases=True,
    )
    # A reading of somebody else has led here: neither is in its trace.
    work.publish(READING_OUTCOMES, subject_id, outcome, in_trace=False)
    work.send(CACHE_COMMANDS, subject_id, command.to_json(), in_trace=False)
    work.sends_first = True  # delivered again, it would not find them


def _day(work: Work, subject_id: str) -> int | None:
    row = work.get(TABLE, _key(subject_id))
    return None if row is None else int(row)


def _key(subject_id: str) -> str:
    return f"{subject_id}/seen"


def _entry(day: int, subject_id: str) -> str:
    return f"{_BY_DAY}{day:07d}/{subject_id}"
