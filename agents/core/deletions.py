"""What was deleted, remembered for as long as something may still be under way for it.

A marker lies in the table of the data itself: ``gone/<handle>`` after a delete, ``gone/*`` after a flush. What began
up to the marker's time is not stored any more when it arrives. Older markers than any message go; a
second entry ``gone-since/<time>/<handle>`` keeps them in order of time, so that a delete costs what it removes and not
what the table holds.

A marker never lies ahead of the message that leaves it: it would reject what is sent until then. One that does, of a
version that did not look, gives way to the next for the same. Nor does a row say that it began ahead of the message
that brings it (`begun`): so a command ends what began up to its own time and nothing else, whenever it is read.

Of a subject whose window was reset the marker is ``gone/subject:<digest>``, so that no marker knows the name of who was
erased; a flush of all handles does not touch subjects. Of the uploads of one owner it is ``gone/owner:<digest>``.
"""

import json
from collections.abc import Iterable

from agents.core.fingerprint import subject_digest
from agents.work import CLOCKS_DIFFER_MS, Work
from schemas.topics import FORECASTS, LANE_TOPICS, Topic, longest_kept_ms

_PREFIX, _BY_TIME = "gone/", "gone-since/"
EVERYTHING = f"{_PREFIX}*"
_SUBJECT, _ERASED, _OWNER = "subject:", "erased:", "owner:"


def _longest(topics: Iterable[Topic]) -> int:
    return max(map(longest_kept_ms, topics))


_REMEMBERED_MS = _longest(LANE_TOPICS.values()) + _longest(FORECASTS.values())
"""A replay, or a model that begins its trial, may take up the oldest request yet, and its forecast wait in turn."""


def of_subject(subject_id: str) -> str:
    """What stands for a subject where a handle is asked for. No handle has a colon."""
    return _SUBJECT + subject_digest(subject_id)


def of_erased(subject_id: str) -> str:
    """The same for all that was ordered for a subject, which a reset leaves and an erasure ends."""
    return _ERASED + subject_digest(subject_id)


def of_owner(owner: str) -> str:
    """The same for all uploads of an owner (`fingerprint.owner_of`)."""
    return _OWNER + owner


def is_deleted(work: Work, table: str, handle: str, began_ms: int) -> bool:
    """Whether what began at `began_ms` (Unix time) for this handle has been deleted since."""
    flushed_ms = -1 if handle.startswith((_SUBJECT, _ERASED)) else _time(work, table, EVERYTHING)
    return began_ms <= max(flushed_ms, _time(work, table, _PREFIX + handle))


def begun(work: Work, began_ms: int) -> int:
    """When what the message in work brings began, for its row: `began_ms`, unless that lies ahead of the message.

    It is here, so it began before, whatever a wrong clock said. This is known while the message is in work, and never
    from a command that ends it: what lies ahead of one may as well have come after it, because what topics bring is
    read in any order, and again.
    """
    latest_ms = work.message.timestamp_ms + CLOCKS_DIFFER_MS
    return began_ms if began_ms <= latest_ms else work.message.timestamp_ms


def mark_deleted(work: Work, table: str, up_to_ms: int, handle: str | None = None) -> None:
    """Mark a handle, or everything, as deleted as far as it began by then; markers that nothing needs any more go."""
    up_to_ms = min(up_to_ms, work.message.timestamp_ms)
    for entry in work.keys(table, _BY_TIME):
        time, of_handle = entry.removeprefix(_BY_TIME).split("/")
        if int(time) > (up_to_ms if handle is None else up_to_ms - _REMEMBERED_MS):
            break
        work.delete(table, entry)
        if _time(work, table, _PREFIX + of_handle) <= int(time):  # not deleted again since
            work.delete(table, _PREFIX + of_handle)
    key = EVERYTHING if handle is None else _PREFIX + handle
    earlier = _time(work, table, key)
    latest = up_to_ms if earlier > work.message.timestamp_ms + CLOCKS_DIFFER_MS else max(up_to_ms, earlier)
    work.put(table, key, json.dumps({"epoch_ms": latest}).encode())
    if handle is not None:
        work.put(table, f"{_BY_TIME}{latest:015d}/{handle}", b"1")


def _time(work: Work, table: str, key: str) -> int:
    marker = work.get(table, key)
    return int(json.loads(marker)["epoch_ms"]) if marker else -1
