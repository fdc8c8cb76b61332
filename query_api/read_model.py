"""What the query layer knows: fan charts and outcomes, replayed from Kafka into a table on disk.

Every replica builds the whole of it alone, from compacted topics, together with the offsets it has reached, so that
a restart resumes and any replica answers any query. Keys of the table:

    c/<table key>            a fan chart as the calc role keeps it: handle/<handle>/<index>, subject/<id>/<slot>
    u/<upload id>            what became of an upload
    h/<handle>               the uploads that gave this handle and its latest outcome
    l/<subject>              which row is the subject's latest forecast
    r/<subject>              what became of the subject's latest reading
    o/<topic>/<partition>    the next offset to read
    m/cluster, m/touched     whose records these are, and when the last of them arrived
"""

import dataclasses
import datetime
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import orjson

from query_api.news import News
from query_api.store import Store
from schemas import topics
from schemas.errors import MalformedRecordError
from schemas.fan_chart import FanChart
from schemas.grid import HORIZON_STEPS, PAST_POINTS
from schemas.outcome import RequestOutcome
from schemas.reading import ReadingOutcome
from schemas.upload import UploadOutcome
from streams.topology import FAN_CHART_CHANGELOG

FOLLOWED = (FAN_CHART_CHANGELOG, topics.UPLOAD_OUTCOMES, topics.READING_OUTCOMES, topics.REQUEST_OUTCOMES)
_HEADER = struct.Struct(">qq32s")
_POINTER = struct.Struct(">q")
_TOUCHED, _CLUSTER = b"m/touched", b"m/cluster"


@dataclasses.dataclass(frozen=True)
class ChartRow:
    """One stored fan chart. Its few ordering fields are known without parsing the JSON."""

    issue_seconds: int
    epoch_ms: int
    chart_id: str
    json: bytes

    @classmethod
    def unpack(cls, data: bytes) -> "ChartRow":
        issue_seconds, epoch_ms, digest = _HEADER.unpack_from(data)
        return cls(issue_seconds, epoch_ms, digest.hex(), data[_HEADER.size :])

    def pack(self) -> bytes:
        return _HEADER.pack(self.issue_seconds, self.epoch_ms, bytes.fromhex(self.chart_id)) + self.json

    @cached_property
    def chart(self) -> FanChart:
        return FanChart.from_json(self.json)


@dataclasses.dataclass(frozen=True, slots=True)
class StoredHandle:
    """A unified series that forecasts can be asked for, and the uploads that gave it."""

    outcome: UploadOutcome
    upload_ids: tuple[str, ...]

    @property
    def handle(self) -> str:
        return self.outcome.handle or ""

    @property
    def series_key(self) -> str:
        return self.outcome.series_key or ""

    @property
    def indexes(self) -> range:
        """Valid samples: -(N-1) to 0 with their truth, 1 to 12 towards the real forecast."""
        return range(PAST_POINTS + HORIZON_STEPS - self.outcome.points, HORIZON_STEPS + 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A message of a followed topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class ReadModel:
    """The table and its views. Used from one event loop; `apply` is called by the follower alone."""

    def __init__(self, store: Store, news: News) -> None:
        self._store = store
        self.news = news
        self.skipped = 0
        self._appliers: Mapping[str, Callable[[str, bytes | None], None]] = {
            FAN_CHART_CHANGELOG.name: self._apply_chart,
            topics.UPLOAD_OUTCOMES.name: self._apply_upload,
            topics.READING_OUTCOMES.name: self._apply_reading,
            topics.REQUEST_OUTCOMES.name: self._apply_request,
        }
        self._told: list[tuple[str, object]] = []

    # writing

    def apply(self, entries: Iterable[Entry], positions: Mapping[tuple[str, int], int]) -> None:
        """Apply messages and the offsets after them in one write, then wake who waits for them.

        A message that is not its topic's record is skipped and counted: the topic's own writer is at fault, and
        nothing a query could say would be better than what is known already.
        """
        for entry in entries:
            try:
                self._appliers[entry.topic]((entry.key or b"").decode(), entry.value)
            except (MalformedRecordError, ValueError, KeyError, TypeError):
                self.skipped += 1
        for (topic, partition), offset in positions.items():
            self._store.stage(_position_key(topic, partition), _POINTER.pack(offset))
        self._store.stage(_TOUCHED, _POINTER.pack(int(time.time())))
        self._store.commit()
        told, self._told = self._told, []
        for key, item in told:
            self.news.tell(key, item)

    def positions(self) -> dict[tuple[str, int], int]:
        """The next offset of each partition read so far."""
        found = {}
        for key, value in self._store.scan(b"o/"):
            topic, _, partition = key[2:].decode().rpartition("/")
            found[topic, int(partition)] = int(_POINTER.unpack(value)[0])
        return found

    def belongs_to(self, cluster: str) -> bool:
        """Whether the table was built from this cluster; an empty one is claimed for it."""
        known = self._store.get(_CLUSTER)
        if known is None:
            self._store.stage(_CLUSTER, cluster.encode())
            self._store.commit()
        return known is None or known == cluster.encode()

    def touched_seconds(self) -> int:
        """Unix time of the last change; 0 for an empty table."""
        value = self._store.get(_TOUCHED)
        return 0 if value is None else int(_POINTER.unpack(value)[0])

    def wipe(self) -> None:
        """Forget everything, to be read again from the beginning."""
        self._store.wipe()

    def close(self) -> None:
        self._store.close()

    def _apply_chart(self, key: str, value: bytes | None) -> None:
        place = key.split("/")
        if place[0] not in ("handle", "subject"):
            return
        if value is None:
            self._store.stage(_chart_key(key), None)
            return
        fields = orjson.loads(value)
        issue_seconds = int(datetime.datetime.fromisoformat(fields["issue_time"]).timestamp())
        row = ChartRow(issue_seconds, int(fields.get("epoch_ms", 0)), fields["chart_id"], value)
        self._store.stage(_chart_key(key), row.pack())
        if place[0] == "subject":
            pointer = self._store.get(_latest_key(place[1]))
            if pointer is None or _POINTER.unpack_from(pointer)[0] <= issue_seconds:
                self._store.stage(_latest_key(place[1]), _POINTER.pack(issue_seconds) + key.encode())
        self._told.append(((f"chart/{place[1]}/{place[2]}" if place[0] == "handle" else f"subject/{place[1]}"), row))

    def _apply_upload(self, key: str, value: bytes | None) -> None:
        before = self.upload(key)
        after = None if value is None else UploadOutcome.from_json(value)
        self._store.stage(_upload_key(key), value)
        if before and before.handle and (after is None or after.handle != before.handle):
            self._forget_upload(before.handle, key)
        if after and after.status == "accepted" and after.handle:
            known = self.handle(after.handle)
            upload_ids = tuple(dict.fromkeys((*(known.upload_ids if known else ()), key)))
            self._store.stage(_handle_key(after.handle), _pack_handle(StoredHandle(after, upload_ids)))
        if after:
            self._told.append((f"upload/{key}", after))

    def _forget_upload(self, handle: str, upload_id: str) -> None:
        known = self.handle(handle)
        rest = tuple(item for item in known.upload_ids if item != upload_id) if known else ()
        if known and rest:
            self._store.stage(_handle_key(handle), _pack_handle(StoredHandle(known.outcome, rest)))
            return
        self._store.stage(_handle_key(handle), None)
        self._told.append((f"handle/{handle}", None))

    def _apply_reading(self, key: str, value: bytes | None) -> None:
        outcome = ReadingOutcome.from_json(value)
        about_window = outcome.status in ("forecast_requested", "no_forecast")
        if about_window or self._store.get(_reason_key(outcome.subject_id)) is None:
            self._store.stage(_reason_key(outcome.subject_id), value)
        self._told.append((f"subject/{outcome.subject_id}", outcome))

    def _apply_request(self, key: str, value: bytes | None) -> None:
        outcome = RequestOutcome.from_json(value)
        if outcome.handle is not None:
            self._told.append((f"chart/{outcome.handle}/{outcome.index}", outcome))
        if outcome.demand_id is not None:
            self._told.append((f"demand/{outcome.demand_id}", outcome))

    # views

    def upload(self, upload_id: str) -> UploadOutcome | None:
        value = self._store.get(_upload_key(upload_id))
        return None if value is None else UploadOutcome.from_json(value)

    def handle(self, handle: str) -> StoredHandle | None:
        value = self._store.get(_handle_key(handle))
        return None if value is None else _unpack_handle(value)

    def handles(self) -> list[StoredHandle]:
        """All handles, the oldest first."""
        found = [_unpack_handle(value) for _, value in self._store.scan(b"h/")]
        return sorted(found, key=lambda stored: (stored.outcome.epoch_ms, stored.handle))

    def handle_count(self) -> int:
        return sum(1 for _ in self._store.scan(b"h/"))

    def chart(self, stored: StoredHandle, index: int) -> ChartRow | None:
        """The forecast of a sample: its own row, or that of the longer series that serves this one."""
        for holder in (stored.handle, stored.outcome.served_by):
            value = self._store.get(_chart_key(f"handle/{holder}/{index}")) if holder else None
            if value is not None:
                return ChartRow.unpack(value)
        return None

    def charts(self, stored: StoredHandle) -> dict[int, ChartRow]:
        """All forecasts of a handle that are known, by sample."""
        found = {index: self.chart(stored, index) for index in stored.indexes}
        return {index: row for index, row in found.items() if row is not None}

    def latest(self, subject_id: str) -> ChartRow | None:
        """The forecast with the newest last known point."""
        pointer = self._store.get(_latest_key(subject_id))
        if pointer is None:
            return None
        value = self._store.get(_chart_key(pointer[_POINTER.size :].decode()))
        if value is not None:
            return ChartRow.unpack(value)
        rows = self.history(subject_id, None, None)
        return rows[-1] if rows else None

    def history(self, subject_id: str, first: int | None, last: int | None) -> Sequence[ChartRow]:
        """A subject's stored forecasts whose last known point lies in [first, last] (Unix seconds), oldest first."""
        rows = []
        for _, value in self._store.scan(_chart_key(f"subject/{subject_id}/")):
            issue_seconds = _HEADER.unpack_from(value)[0]
            if (first is None or issue_seconds >= first) and (last is None or issue_seconds <= last):
                rows.append(ChartRow.unpack(value))
        return sorted(rows, key=lambda row: row.issue_seconds)

    def reason(self, subject_id: str) -> ReadingOutcome | None:
        """What became of the subject's latest reading."""
        value = self._store.get(_reason_key(subject_id))
        return None if value is None else ReadingOutcome.from_json(value)

    def subjects(self, limit: int = 100) -> list[str]:
        """Subjects with a forecast, the most recent first."""
        found = [(_POINTER.unpack_from(value)[0], key[2:].decode()) for key, value in self._store.scan(b"l/")]
        return [subject_id for _, subject_id in sorted(found, reverse=True)[:limit]]


def _chart_key(table_key: str) -> bytes:
    return b"c/" + table_key.encode()


def _upload_key(upload_id: str) -> bytes:
    return b"u/" + upload_id.encode()


def _handle_key(handle: str) -> bytes:
    return b"h/" + handle.encode()


def _latest_key(subject_id: str) -> bytes:
    return b"l/" + subject_id.encode()


def _reason_key(subject_id: str) -> bytes:
    return b"r/" + subject_id.encode()


def _position_key(topic: str, partition: int) -> bytes:
    return f"o/{topic}/{partition}".encode()


def _pack_handle(stored: StoredHandle) -> bytes:
    return orjson.dumps({"upload_ids": stored.upload_ids, "outcome": orjson.Fragment(stored.outcome.to_json())})


def _unpack_handle(value: bytes) -> StoredHandle:
    fields = orjson.loads(value)
    return StoredHandle(UploadOutcome.model_validate(fields["outcome"]), tuple(fields["upload_ids"]))
