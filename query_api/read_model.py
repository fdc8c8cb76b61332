"""What the query layer knows: projections of the followed topics, replayed from Kafka into a table on disk.

Every replica builds the whole of it alone, from compacted topics, together with the offsets it has reached, so that
a restart resumes and any replica answers any query. Besides the rows of each projection the table holds:

    o/<topic>/<partition>    the next offset to read
    m/cluster, m/touched     whose records these are, and when the last of them arrived
    m/layout                 which version of the rows this is
    m/epoch/<topic>/<part.>  the leader epoch of the last batch that was read
    m/rewrite                when something was erased that the files may still hold, in Unix nanoseconds
    v/…, w/…                 the latest events: see `query_api.event_log`
"""

import asyncio
import dataclasses
import struct
import time
from collections.abc import Iterable, Mapping

import structlog

from query_api.event_log import EventLog
from query_api.event_place import tag_of
from query_api.projections.alerts import Alerts
from query_api.projections.fan_charts import ChartRow, FanChartLog, FanCharts
from query_api.projections.glucose_days import GlucoseDays
from query_api.projections.projection import Notification, Projection
from query_api.projections.readings import Readings
from query_api.projections.requests import Requests
from query_api.projections.scores import Scores
from query_api.projections.sources import Sources
from query_api.projections.uploads import StoredHandle, Uploads
from query_api.projections.webhooks import Deliveries, Webhooks
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas.errors import StorageError, UndecodableError
from schemas.lanes import LANES
from streams.kafka.decoding import Undecodable

log = structlog.get_logger("query_api.read_model")

LAYOUT = b"6"
"""Of all rows; a table of another one is built anew."""

_OFFSETS, _EPOCHS = b"o/", b"m/epoch/"
_NUMBER = struct.Struct(">q")
_TOUCHED, _CLUSTER, _LAYOUT, _REWRITE = b"m/touched", b"m/cluster", b"m/layout", b"m/rewrite"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A message of a followed topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time_ms: int = 0
    """When it came to Kafka, in Unix milliseconds; 0: nobody says."""


class ReadModel:
    """The table and its projections. Used from one event loop; `apply` is called by the follower alone."""

    def __init__(self, store: Store, subscriptions: Subscriptions) -> None:
        self._store = store
        self.subscriptions = subscriptions
        self.events = EventLog(store)
        self.skipped = 0
        self.fan_charts = FanCharts(store)
        self.uploads = Uploads(store)
        self.scores = Scores(store)
        self.alerts = Alerts(store)
        self.days = GlucoseDays(store)
        self.sources = Sources(store)
        self.readings = Readings(store, self.fan_charts.forget, self._forget)
        self.requests = Requests()
        self.webhooks, self.deliveries = Webhooks(store), Deliveries(store)
        projections: tuple[Projection, ...] = (
            *(FanChartLog(store, lane) for lane in LANES), self.uploads, self.readings, self.scores, self.alerts,
            self.webhooks, self.deliveries,
            self.days, self.sources,
            self.requests,
        )  # fmt: skip
        self._projections = {projection.topic.name: projection for projection in projections}

    def _forget(self, subject_id: str, up_to_ms: int) -> None:
        """Stage the end of what is held of a subject beside its readings and charts."""
        self.scores.forget(subject_id, up_to_ms)
        self.alerts.forget(subject_id, up_to_ms)
        self.deliveries.forget(subject_id, up_to_ms)
        self.days.forget(subject_id, up_to_ms)
        self.sources.forget(subject_id, up_to_ms)
        self._wish_rewritten()

    def _wish_rewritten(self) -> None:
        self._store.stage(_REWRITE, _NUMBER.pack(time.time_ns()))

    def erased_seconds_ago(self) -> float | None:
        """Since something was erased that files of the table may still hold; None: they hold nothing of the kind."""
        wish = self._store.get(_REWRITE)
        return None if wish is None else (time.time_ns() - int(_NUMBER.unpack(wish)[0])) / 1e9

    async def rewrite(self) -> None:
        """Write the files anew, beside everything else, so that they hold nothing of what was erased before.

        Raises an `Exception` where the disk does not take it; then it is still to be done.
        """
        wish = self._store.get(_REWRITE)
        await asyncio.to_thread(self._store.rewrite)
        if self._store.get(_REWRITE) == wish:  # else more was erased meanwhile
            self._store.stage(_REWRITE, None)
            self._store.commit()
            await asyncio.to_thread(self._store.settle)

    @property
    def followed(self) -> tuple[str, ...]:
        """The topics that have a projection."""
        return tuple(self._projections)

    def apply(
        self,
        entries: Iterable[Entry],
        positions: Mapping[tuple[str, int], int],
        epochs: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        """Apply messages and the offsets after them in one write, then wake who waits for them.

        `epochs`: of partitions whose messages are of a new leader epoch from here on.

        A message that cannot be applied is skipped and counted, whatever is wrong with it: the topic's own writer is at
        fault, nothing a query could say would be better than what is known already, and the next one has to be read.
        """
        told: list[Notification] = []
        for entry in entries:
            try:
                if isinstance(entry.value, Undecodable):
                    raise UndecodableError(str(entry.value))
                with self._store.entry():
                    key = (entry.key or b"").decode()
                    self.readings.arrived_ms = entry.time_ms
                    notifications = list(self._projections[entry.topic].apply(key, entry.value))
                    if entry.value is None and entry.topic == self.uploads.topic.name:
                        self._wish_rewritten()
                    self.events.stage(entry.topic, entry.partition, entry.offset, key, entry.value, notifications)
            except Exception as error:
                self.skipped += 1
                log.warning("a message could not be applied", error=type(error).__name__, topic=entry.topic,
                            partition=entry.partition, offset=entry.offset)  # fmt: skip
            else:
                told += notifications
        for (topic, partition), offset in positions.items():
            self._store.stage(_key(_OFFSETS, topic, partition), _NUMBER.pack(offset))
        for (topic, partition), epoch in (epochs or {}).items():
            self._store.stage(_key(_EPOCHS, topic, partition), _NUMBER.pack(epoch))
        self._store.stage(_TOUCHED, _NUMBER.pack(int(time.time())))
        self.events.flush()
        try:
            self._store.commit()
        except StorageError:
            self.events.discard()
            self.deliveries.discard()
            raise
        self.events.publish()
        for key, item in told:
            self.subscriptions.notify(key, item)

    def epochs(self) -> dict[tuple[str, int], int]:
        """The leader epoch up to which each partition was read, where its broker counts them."""
        return self._numbers(_EPOCHS)

    def positions(self) -> dict[tuple[str, int], int]:
        """The next offset of each partition read so far."""
        return self._numbers(_OFFSETS)

    def _numbers(self, prefix: bytes) -> dict[tuple[str, int], int]:
        found = {}
        for key, value in self._store.scan(prefix):
            topic, _, partition = key[len(prefix) :].decode().rpartition("/")
            found[topic, int(partition)] = int(_NUMBER.unpack(value)[0])
        return found

    def belongs_to(self, cluster: str) -> bool:
        """Whether the table was built from this cluster, by this layout; an empty one is claimed for it."""
        known = self._store.get(_CLUSTER)
        if known is None:
            self._store.stage(_CLUSTER, cluster.encode())
            self._store.stage(_LAYOUT, LAYOUT)
            self._store.commit()
            return True
        return known == cluster.encode() and self._store.get(_LAYOUT) == LAYOUT

    @property
    def event_tag(self) -> str:
        """Of the cluster whose records these are: how the ids of its events begin."""
        return tag_of((self._store.get(_CLUSTER) or b"").decode())

    def touched_seconds(self) -> int:
        """Unix time of the last change; 0 for an empty table."""
        value = self._store.get(_TOUCHED)
        return 0 if value is None else int(_NUMBER.unpack(value)[0])

    def wipe(self) -> None:
        """Forget everything, to be read again from the beginning."""
        self._store.wipe()
        self.events.clear()
        self.deliveries.discard()

    def close(self) -> None:
        self._store.close()

    def sample(self, stored: StoredHandle, index: int) -> ChartRow | None:
        """The forecast of a sample: its own row, or that of the longer series that serves this one."""
        for holder in (stored.handle, stored.outcome.served_by):
            if holder and (row := self.fan_charts.of_sample(holder, index)) is not None:
                return row
        return None

    def samples(self, stored: StoredHandle) -> dict[int, ChartRow]:
        """All forecasts of a handle that are known, by sample."""
        serving = stored.outcome.served_by
        found = (self.fan_charts.of_handle(serving) if serving else {}) | self.fan_charts.of_handle(stored.handle)
        return {index: row for index, row in sorted(found.items()) if index in stored.indexes}


def _key(prefix: bytes, topic: str, partition: int) -> bytes:
    return prefix + f"{topic}/{partition}".encode()
