"""Fan charts, from the changelogs of the calc role's tables: samples of handles, and the latest of each subject.

c/<place>/<lane>/<model>   a chart of the served model; the place is handle/<handle>/<index> or subject/<id>/<slot>,
                           the lane is the place of its table's lane in the order of priority
t/<place>/<lane>/<model>   a chart of a model on trial: kept, and the answer to no query
l/<subject>                which row is the subject's latest forecast

Each lane's table has a changelog of its own, so for a moment a place may have a row of two lanes: the higher counts.
"""

import dataclasses
import datetime
import hashlib
import itertools
import struct
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property

from query_api.projections.orders import Orders
from query_api.projections.projection import Notification
from query_api.store import Store
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import Head, from_row, head_of
from schemas.lanes import LANES, Lane
from schemas.tables import ChartKey, handle_prefix, subject_prefix
from schemas.topics import Topic
from streams.topology import CHART_CHANGELOGS

_HEADER = struct.Struct(">qq32s")
_ISSUED = struct.Struct(">q")


@dataclasses.dataclass(frozen=True)
class ChartRow:
    """One stored fan chart, as its row of the table; its few ordering fields are known without decoding it."""

    issue_seconds: int
    began_ms: int
    chart_id: str
    row: bytes

    @classmethod
    def unpack(cls, data: bytes) -> "ChartRow":
        issue_seconds, began_ms, digest = _HEADER.unpack_from(data)
        return cls(issue_seconds, began_ms, digest.hex(), data[_HEADER.size :])

    def pack(self) -> bytes:
        return _HEADER.pack(self.issue_seconds, self.began_ms, bytes.fromhex(self.chart_id)) + self.row

    def is_later_than(self, other: "ChartRow") -> bool:
        """Of another time, or of the same one and readings that came later: lanes are read at paces of their own."""
        return (self.issue_seconds, self.began_ms) > (other.issue_seconds, other.began_ms)

    @cached_property
    def digest(self) -> str:
        """Names all that it says: one `chart_id` has another fan where a reset took what it was fitted by."""
        return hashlib.blake2b(self.row, digest_size=16).hexdigest()

    @cached_property
    def chart(self) -> FanChart:
        return from_row(self.row)


def sample_key(handle: str, index: int) -> str:
    """Subscribe to the forecast of a sample."""
    return f"sample/{handle}/{index}"


def subject_key(subject_id: str) -> str:
    """Subscribe to what happens to a subject: forecasts and outcomes of readings."""
    return f"subject/{subject_id}"


class FanChartLog:
    """The projection of one lane's changelog."""

    def __init__(self, store: Store, lane: Lane) -> None:
        self._store, self._lane, self._orders = store, lane, Orders(store)
        self.topic: Topic = CHART_CHANGELOGS[lane]

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        place = ChartKey.parse(key)
        if place is None:
            return
        head = None if value is None else head_of(value)
        if value is None or head is None or self._is_over(place, head):
            self._remove(place)
            if place.kind == "subject":
                _point_anew(self._store, place.owner)
            return
        issue_seconds = int(datetime.datetime.fromisoformat(head.issue_time).timestamp())
        row = ChartRow(issue_seconds, head.began_ms, head.chart_id, value)
        self._remove(place)  # one row of the log, whichever of the two it was before
        if not head.model_serves:
            self._store.stage(self._key("t", place), row.pack())
            return
        self._store.stage(self._key("c", place), row.pack())
        if place.kind == "subject":
            latest = self._store.get(_latest_key(place.owner))
            known = None if latest is None else self._store.get(latest[_ISSUED.size :])
            if known is None or not ChartRow.unpack(known).is_later_than(row):
                self._store.stage(_latest_key(place.owner), _ISSUED.pack(issue_seconds) + self._key("c", place))
            yield subject_key(place.owner), row
        else:
            yield sample_key(place.owner, int(place.position)), row

    def _is_over(self, place: ChartKey, head: Head) -> bool:
        """Whether it is of readings from before an order to forget them, which its writer has not heard yet."""
        return place.kind == "subject" and self._orders.ended(place.owner, head.began_ms)

    def _remove(self, place: ChartKey) -> None:
        self._store.stage(self._key("c", place), None)
        self._store.stage(self._key("t", place), None)

    def _key(self, kind: str, place: ChartKey) -> bytes:
        return _row_key(kind, place, self._lane)


class FanCharts:
    """The views over the rows of all lanes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of_sample(self, handle: str, index: int) -> ChartRow | None:
        """The forecast of a sample."""
        return next(self._scan(f"{handle_prefix(handle)}{index}/"), None)

    def of_handle(self, handle: str) -> dict[int, ChartRow]:
        """The forecasts of a handle that are known, by sample."""
        found: dict[int, ChartRow] = {}
        prefix = f"c/{handle_prefix(handle)}".encode()
        for key, value in self._store.scan(prefix):
            found.setdefault(int(key[len(prefix) :].split(b"/")[0]), ChartRow.unpack(value))
        return found

    def of_key(self, key: str, lane: Lane) -> ChartRow | None:
        """The chart of the served model under a key of a lane's table."""
        place = ChartKey.parse(key)
        value = None if place is None else self._store.get(_row_key("c", place, lane))
        return None if value is None else ChartRow.unpack(value)

    def latest(self, subject_id: str) -> ChartRow | None:
        """The forecast with the newest last known point."""
        pointer = self._store.get(_latest_key(subject_id))
        if pointer is None:
            return None
        value = self._store.get(pointer[_ISSUED.size :])
        return None if value is None else ChartRow.unpack(value)

    def history(self, subject_id: str, first: int | None, last: int | None) -> Sequence[ChartRow]:
        """A subject's stored forecasts whose last known point lies in [first, last] (Unix seconds), oldest first."""
        rows = [
            row
            for row in self._scan(subject_prefix(subject_id))
            if (first is None or row.issue_seconds >= first) and (last is None or row.issue_seconds <= last)
        ]
        return sorted(rows, key=lambda row: row.issue_seconds)

    def everything(self, subject_id: str) -> Sequence[bytes]:
        """The rows of all forecasts that are kept of a subject, of models on trial too."""
        prefix = subject_prefix(subject_id).encode()
        return [ChartRow.unpack(value).row for kind in (b"c/", b"t/") for _, value in self._store.scan(kind + prefix)]

    def forget(self, subject_id: str, up_to_ms: int) -> None:
        """Stage the end of a subject's charts that began up to a Unix time, of models on trial too."""
        for kind in (b"c/", b"t/"):
            for key, value in _rows(self._store, kind + subject_prefix(subject_id).encode()):
                if ChartRow.unpack(value).began_ms <= up_to_ms:
                    self._store.stage(key, None)
        _point_anew(self._store, subject_id)

    def subjects(self, among: Collection[str] | None = None, limit: int = 100) -> list[str]:
        """Subjects with a forecast, the most recent first; where `among` is given, of these alone."""
        known = ((_ISSUED.unpack_from(value)[0], key[2:].decode()) for key, value in self._store.scan(b"l/"))
        found = [(issued, subject_id) for issued, subject_id in known if among is None or subject_id in among]
        there = (subject_id for _, subject_id in sorted(found, reverse=True) if self.latest(subject_id) is not None)
        return list(itertools.islice(there, limit))

    def _scan(self, prefix: str) -> Iterator[ChartRow]:
        return (ChartRow.unpack(value) for _, value in self._store.scan(f"c/{prefix}".encode()))


def _row_key(kind: str, place: ChartKey, lane: Lane) -> bytes:
    return f"{kind}/{place.place}/{LANES.index(lane)}/{place.model}".encode()


def _rows(store: Store, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Rows as the next commit will leave them."""
    for key in dict.fromkeys([*(key for key, _ in store.scan(prefix)), *store.staged(prefix)]):
        if (value := store.get(key)) is not None:
            yield key, value


def _point_anew(store: Store, subject_id: str) -> None:
    """Where the row of a subject's latest forecast has gone: to the latest that is left, or nowhere."""
    pointer = store.get(_latest_key(subject_id))
    if pointer is None or store.get(pointer[_ISSUED.size :]) is not None:
        return
    left = _rows(store, b"c/" + subject_prefix(subject_id).encode())
    latest = max(((ChartRow.unpack(value).issue_seconds, key) for key, value in left), default=None)
    store.stage(_latest_key(subject_id), latest and _ISSUED.pack(latest[0]) + latest[1])


def _latest_key(subject_id: str) -> bytes:
    return b"l/" + subject_id.encode()
