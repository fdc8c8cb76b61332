"""What was deleted, remembered for as long as something may still be under way for it.

A marker lies in the table of the data itself: ``gone/<handle>`` after a delete, ``gone/*`` after a flush. What began
up to the marker's time is not stored any more when it arrives. No message is older than a day, so older markers go; a
second entry ``gone-since/<time>/<handle>`` keeps them in order of time, so that a delete costs what it removes and not
what the table holds.
"""

import json

from agents.work import Work
from schemas.topics import DAY_MS

_PREFIX, _BY_TIME = "gone/", "gone-since/"
EVERYTHING = f"{_PREFIX}*"


def is_deleted(work: Work, table: str, handle: str, began_ms: int) -> bool:
    """Whether what began at `began_ms` (Unix time) for this handle has been deleted since."""
    return began_ms <= max(_time(work, table, EVERYTHING), _time(work, table, _PREFIX + handle))


def mark_deleted(work: Work, table: str, up_to_ms: int, handle: str | None = None) -> None:
    """Mark a handle, or everything, as deleted as far as it began by then; markers that nothing needs any more go."""
    for entry in work.keys(table, _BY_TIME):
        time, of_handle = entry.removeprefix(_BY_TIME).split("/")
        if int(time) > (up_to_ms if handle is None else up_to_ms - DAY_MS):
            break
        work.delete(table, entry)
        if _time(work, table, _PREFIX + of_handle) <= int(time):  # not deleted again since
            work.delete(table, _PREFIX + of_handle)
    key = EVERYTHING if handle is None else _PREFIX + handle
    latest = max(up_to_ms, _time(work, table, key))
    work.put(table, key, json.dumps({"epoch_ms": latest}).encode())
    if handle is not None:
        work.put(table, f"{_BY_TIME}{latest:015d}/{handle}", b"1")


def _time(work: Work, table: str, key: str) -> int:
    marker = work.get(table, key)
    return int(json.loads(marker)["epoch_ms"]) if marker else -1
