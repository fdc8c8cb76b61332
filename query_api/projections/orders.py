"""When each subject was reset or erased last: rows of the tables may be read behind that, and are of before it.

k/<digest of the subject>   Unix milliseconds of the last order, and of the last that erased; -1: none

An order comes among the outcomes of readings, which are read first. The tables' own writers carry it out later, and
until then their changelogs hold, and go on to add, what began before it. Who was erased has no name here either.
"""

import datetime
import struct
from typing import NamedTuple

from agents.core.fingerprint import subject_digest
from agents.work import CLOCKS_DIFFER_MS
from query_api.store import Store
from schemas.topics import DAY_MS, READINGS, longest_kept_ms

KEPT_MS = longest_kept_ms(READINGS) + DAY_MS
"""No reading from before an order that is older can be left on its topic, to be delivered again and forecast."""
_PRUNED_MS = 3_600_000
_NONE = -1
_ROW = struct.Struct(">qq")
_PREFIX = b"k/"


class _Ordered(NamedTuple):
    any_ms: int
    erased_ms: int


class Orders:
    """The rows and what they say."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pruned = 0

    def note(self, subject_id: str, time: datetime.datetime, arrived_ms: int, erases: bool) -> None:
        """Stage an order; one that comes again changes nothing.

        `arrived_ms`: when its outcome came to Kafka, 0 where nobody says. The order came before that: a time ahead of
        it would hide what is to come.
        """
        up_to_ms = round(time.timestamp() * 1000)
        if arrived_ms:
            up_to_ms = min(up_to_ms, arrived_ms + CLOCKS_DIFFER_MS)
        known = self._of(subject_id)
        now = _Ordered(max(known.any_ms, up_to_ms), max(known.erased_ms, up_to_ms if erases else _NONE))
        self._store.stage(_row(subject_id), _ROW.pack(*now))
        self._prune(up_to_ms)

    def ended(self, subject_id: str, began_ms: int) -> bool:
        """Whether what began then, of the subject's readings and forecasts, is over."""
        return max(0, began_ms) <= self._of(subject_id).any_ms

    def erased(self, subject_id: str, began_ms: int) -> bool:
        """Whether the subject, with all that began by then, has been erased since."""
        return max(0, began_ms) <= self._of(subject_id).erased_ms

    def _of(self, subject_id: str) -> _Ordered:
        row = self._store.get(_row(subject_id))
        return _Ordered(_NONE, _NONE) if row is None else _Ordered(*_ROW.unpack(row))

    def _prune(self, now_ms: int) -> None:
        """Once an hour of the orders' own time: all that can be missed by then."""
        if now_ms // _PRUNED_MS <= self._pruned:
            return
        self._pruned = now_ms // _PRUNED_MS
        for key, row in self._store.scan(_PREFIX):
            if _Ordered(*_ROW.unpack(row)).any_ms < now_ms - KEPT_MS:
                self._store.stage(key, None)


def _row(subject_id: str) -> bytes:
    return _PREFIX + subject_digest(subject_id).encode()
