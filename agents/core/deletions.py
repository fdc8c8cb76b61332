"""What was deleted, remembered for as long as something may still be under way for it.

A marker lies in the table of the data itself: ``gone/<handle>`` after a delete, ``gone/*`` after a flush. What began
up to the marker's time is not stored any more when it arrives.
"""

import json

from agents.work import Work
from schemas.topics import DAY_MS

EVERYTHING = "gone/*"
_PREFIX = "gone/"


def is_gone(work: Work, table: str, handle: str, epoch_ms: int) -> bool:
    """Whether what began at `epoch_ms` for this handle has been deleted since."""
    return epoch_ms <= max(_time(work, table, EVERYTHING), _time(work, table, _PREFIX + handle))


def mark_gone(work: Work, table: str, epoch_ms: int, handle: str | None = None) -> None:
    """Mark a handle, or everything, as deleted; markers that no message can be older than any more go."""
    key = EVERYTHING if handle is None else _PREFIX + handle
    for old in [old for old in work.keys(table) if old.startswith(_PREFIX) and old != EVERYTHING]:
        if _time(work, table, old) <= (epoch_ms if handle is None else epoch_ms - DAY_MS):
            work.delete(table, old)
    latest = max(epoch_ms, _time(work, table, key))
    work.put(table, key, json.dumps({"epoch_ms": latest}).encode())


def _time(work: Work, table: str, key: str) -> int:
    marker = work.get(table, key)
    return int(json.loads(marker)["epoch_ms"]) if marker else -1
