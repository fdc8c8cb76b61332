"""Subjects that nobody has heard of for long: what the tables know of them goes, of the longest silent ones first.

``<subject>/seen`` holds the day of the subject's last reading, by the broker's clock; ``seen-on/<day>/<subject>`` keeps
the same in order of days. No step has a clock: a reading of anybody in the partition lets those go whose time has come,
a few at once. calc follows by the command that a reset sends. Who has no reading since this was kept has no day, and
stays until one comes.
"""

import itertools

from agents.core import fingerprint
from agents.work import Work
from schemas.command import CacheCommand
from schemas.tables import SOURCES_TABLE
from schemas.tables import SUBJECTS_TABLE as TABLE
from schemas.topics import CACHE_COMMANDS, DAY_MS

MOST_AT_ONCE = 2
"""Subjects that one reading lets go: more than come new with one, so none are left over for ever."""
_BY_DAY = "seen-on/"


def note(work: Work, subject_id: str, kept_days: int) -> None:
    """Remember that a subject was heard of, and let go of those that were not for more than so many days."""
    today = work.message.timestamp_ms // DAY_MS
    known = _day(work, subject_id)
    if known is None or known < today:
        forget(work, subject_id)
        work.put(TABLE, _key(subject_id), b"%d" % today)
        work.put(TABLE, _entry(today, subject_id), b"1")
    for entry in list(itertools.islice(work.keys(TABLE, _BY_DAY), MOST_AT_ONCE)):
        day, silent = entry.removeprefix(_BY_DAY).split("/")
        if int(day) >= today - kept_days:
            break
        _let_go(work, silent)


def forget(work: Work, subject_id: str) -> None:
    """Nothing says any more when a subject was heard of."""
    known = _day(work, subject_id)
    if known is not None:
        work.delete(TABLE, _key(subject_id))
        work.delete(TABLE, _entry(known, subject_id))


def _let_go(work: Work, subject_id: str) -> None:
    message = work.message
    forget(work, subject_id)
    work.delete(TABLE, subject_id)
    work.delete(SOURCES_TABLE, subject_id)
    command = CacheCommand(
        action="reset",
        command_id=fingerprint.order_id("expired", subject_id, message.partition, message.offset),
        up_to_ms=message.timestamp_ms,
        series_key=subject_id,
        erases=True,
    )
    work.send(CACHE_COMMANDS, subject_id, command.to_json(), in_trace=False)  # a reading of somebody else has led here
    work.sends_first = True  # delivered again, it would not find them


def _day(work: Work, subject_id: str) -> int | None:
    row = work.get(TABLE, _key(subject_id))
    return None if row is None else int(row)


def _key(subject_id: str) -> str:
    """Begins with the subject, which holds no slash, so that it is exported with the rest."""
    return f"{subject_id}/seen"


def _entry(day: int, subject_id: str) -> str:
    return f"{_BY_DAY}{day:07d}/{subject_id}"
