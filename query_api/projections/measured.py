"""The readings of the last two days as their senders sent them, judged and not rejected. Never a computed value.

e/<subject>/<half minutes since 1970, moved above 0>   a reading; of two within one half minute the later that came
z/<subject>                                            when the last of them came, in Unix milliseconds

Two days are counted back from the subject's newest reading, and a place is half a minute wide, so that a subject takes
at most 5,760 rows and those of an hour more, whoever sends what how often: sensors measure every minute at most.
"""

import datetime
import struct
from collections.abc import Iterable, Iterator

import orjson

from query_api.store import Store
from schemas.reading import Reading
from schemas.topics import READINGS_SHOWN_DAYS

SHOWN = datetime.timedelta(days=READINGS_SHOWN_DAYS)
PLACE = datetime.timedelta(seconds=30)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_PLACES = SHOWN // PLACE
_PRUNED = datetime.timedelta(hours=1) // PLACE
_ABOVE = 1 << 40
_KEY = struct.Struct(">Q")
_ARRIVED = "arrived_ms"


class Measured:
    """The rows and their view."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, reading: Reading, newest_before: datetime.datetime | None, arrived_ms: int = 0) -> None:
        """Stage a reading, and with the first of an hour let go what is older than two days beside it.

        One that is sent again as it was came when it came first: who asks what is new is not told it once more. And no
        two came at once, nor one before another that was applied before it, whatever the clocks of who judged them say:
        who goes on from the time of the last that was told misses none.
        """
        prefix, place = _prefix(reading.subject_id), _place(reading.time)
        before = place if newest_before is None else _place(newest_before)
        newest = max(place, before)
        if place <= newest - _PLACES:
            return
        known = self._store.get(prefix + _KEY.pack(place))
        if known is None or Reading.from_json(known) != reading:
            self._store.stage(prefix + _KEY.pack(place), _row(reading, self._came(reading.subject_id, arrived_ms)))
        if newest // _PRUNED == before // _PRUNED:
            return
        for key, _ in self._store.scan(prefix):
            if _KEY.unpack(key[len(prefix) :])[0] > newest - _PLACES:
                break
            self._store.stage(key, None)

    def _came(self, subject_id: str, arrived_ms: int) -> int:
        if not arrived_ms:  # nobody says when
            return 0
        row = b"z/" + subject_id.encode()
        last = self._store.get(row)
        came = arrived_ms if last is None else max(arrived_ms, 1 + _KEY.unpack(last)[0])
        self._store.stage(row, _KEY.pack(came))
        return came

    def forget(self, subject_id: str) -> None:
        """Stage the end of all readings of a subject."""
        prefix = _prefix(subject_id)
        self._store.stage(b"z/" + subject_id.encode(), None)
        for key in [*(key for key, _ in self._store.scan(prefix)), *self._store.staged(prefix)]:
            self._store.stage(key, None)

    def newest_first(self, subject_id: str, last: datetime.datetime | None = None) -> Iterator[Reading]:
        """The kept readings of a subject up to a time."""
        return decoded(self.rows(subject_id, last), last)

    def rows(self, subject_id: str, last: datetime.datetime | None = None) -> Iterator[bytes]:
        """The same for `decoded`, which may be called where a long list holds nobody up."""
        prefix = _prefix(subject_id)
        newest = self._newest_place(prefix)
        if newest is None:
            return
        highest = newest if last is None else min(newest, _place(last))
        for key, value in self._store.scan_back(prefix, prefix + _KEY.pack(max(0, highest))):
            if _KEY.unpack(key[len(prefix) :])[0] <= newest - _PLACES:
                return
            yield value

    def _newest_place(self, prefix: bytes) -> int | None:
        found = next(self._store.scan_back(prefix, prefix + _KEY.pack(2 * _ABOVE)), None)
        return None if found is None else int(_KEY.unpack(found[0][len(prefix) :])[0])


def decoded(rows: Iterable[bytes], last: datetime.datetime | None) -> Iterator[Reading]:
    """The readings of rows up to a time: rows know it to half a minute."""
    readings = (Reading.from_json(row) for row in rows)
    return (reading for reading in readings if last is None or reading.time <= last)


def arrivals(rows: Iterable[bytes]) -> dict[datetime.datetime, int]:
    """When the readings of rows came, in Unix milliseconds, by their own time, as far as that is known."""
    found = map(orjson.loads, rows)
    return {datetime.datetime.fromisoformat(row["time"]): row[_ARRIVED] for row in found if _ARRIVED in row}


def _row(reading: Reading, arrived_ms: int) -> bytes:
    """The reading's JSON, and when it came beside its fields: readers of a `Reading` pass over that."""
    if not arrived_ms:
        return reading.to_json()
    return reading.to_json()[:-1] + f',"{_ARRIVED}":{arrived_ms}}}'.encode()


def _prefix(subject_id: str) -> bytes:
    return b"e/" + subject_id.encode() + b"/"


def _place(time: datetime.datetime) -> int:
    return (time - _EPOCH) // PLACE + _ABOVE
