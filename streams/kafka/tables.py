"""Tables in RocksDB that are never ahead of their changelog.

A write goes to the changelog first. Until the broker has confirmed it the new value lives in memory, where every step
of the role sees it; then value and changelog offset reach the disk in one batch. So a worker that dies, or was paused
while another took over, leaves a table that is an exact prefix of the changelog, and recovery only has to continue it.
"""

import heapq
import time
from collections.abc import Iterator
from typing import Any

import rocksdict
from faust.types import TP

from agents.work import check_size
from schemas import topics
from schemas.topics import Topic
from streams.kafka.continuity import OFFSET_KEY, RESERVED_KEYS, REWRITE_KEY, Disk
from streams.kafka.delivery import Confirmation
from streams.topology import Role, app_id


class ConfirmedTable:
    """One table of a role: raw bytes under text keys, a RocksDB a partition, a compacted changelog."""

    def __init__(self, app: Any, table: Any, role: Role, name: str) -> None:
        """`table` is Faust's, which opens, recovers and closes the databases."""
        self.name = name
        self.changelog: Topic = topics.changelog(app_id(role), name)
        self._app = app
        self._table = table
        self._views: dict[int, PartitionView] = {}

    def partition(self, partition: int) -> "PartitionView":
        """The part of the table that messages of this partition may touch."""
        if (view := self._views.get(partition)) is None:
            view = self._views[partition] = PartitionView(self, partition)
        return view

    def forget(self, revoked: set[TP]) -> None:
        """Drop unconfirmed values of partitions that are no longer ours; recovery reads what became of them."""
        for tp in revoked:
            if tp.topic == self.changelog.name:
                self._views.pop(tp.partition, None)

    def check(self, key: str, value: bytes | None) -> None:
        """Raises `MessageTooLargeError` for a row that the changelog would not take."""
        check_size(self.changelog, key.encode(), value, {})

    def database(self, partition: int) -> Any:
        """Faust opens and closes these on rebalances: look it up each time, never keep it."""
        return self._table.data._db_for_partition(partition)

    def disk(self, partition: int) -> Disk:
        """What the partition's database keeps about itself."""
        return Disk(self.database(partition))

    def lost(self, partition: int, reached: int, offset: int) -> None:
        """The changelog has confirmed an offset anew: it has lost its end, and with it rows that are on the disk."""
        self.disk(partition).wipe(time.time(), sources_too=True)
        self._app.fatal(
            f"{self.changelog.name}/{partition} goes on at offset {offset} although {reached} was confirmed before: "
            f"Kafka has lost its end. The table and its sources are read anew"
        )

    async def send(self, partition: int, key: bytes, value: bytes | None) -> Confirmation:
        """Enqueue a changelog record."""
        future: Confirmation = await self._app.producer.send(self.changelog.name, key, value, partition, None, None)
        return future

    def not_stored(self, error: Exception) -> None:
        """End the process before the ack: a table on disk must not lack a row that its offset has passed."""
        self._app.fatal(
            f"the table {self.name} could not be written to the disk: {error}; free some room in GLUCAST_STATE_DIR; "
            "what is missing is read again from Kafka"
        )

    def owned(self) -> list[int]:
        """The partitions that are ours."""
        return [tp.partition for tp in self._app._assignment or () if tp.topic == self.changelog.name]

    def holds(self, view: "PartitionView") -> bool:
        """Whether this view is still the current one of its partition, and the partition ours."""
        return self._views.get(view.partition) is view and TP(self.changelog.name, view.partition) in (
            self._app._assignment or ()
        )


class PartitionView:
    """A table as a step sees it: the values of one partition, unconfirmed ones included."""

    def __init__(self, table: ConfirmedTable, partition: int) -> None:
        self.partition = partition
        self._table = table
        self._unconfirmed: dict[bytes, HeldWrite] = {}

    def get(self, key: str) -> bytes | None:
        """The value under `key`, None where there is none."""
        raw = key.encode()
        if (entry := self._unconfirmed.get(raw)) is not None:
            return entry.value
        value: bytes | None = self._table.database(self.partition).get(raw)
        return value

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in order, of a snapshot: writing while iterating is safe.

        A seek and one step a key, however large the table is.
        """
        raw = prefix.encode()
        changed = {key: entry.value for key, entry in self._unconfirmed.items() if key.startswith(raw)}
        stored = (key for key in self._stored(raw) if key not in changed)
        added = sorted(key for key, value in changed.items() if value is not None)
        return (key.decode() for key in heapq.merge(stored, added))

    def _stored(self, prefix: bytes) -> Iterator[bytes]:
        for key in self._table.database(self.partition).keys(from_key=prefix):
            if not key.startswith(prefix):
                return
            if key not in RESERVED_KEYS:
                yield key

    def hold(self, key: str, value: bytes | None, erases: bool = False) -> "HeldWrite":
        """Put, or delete for None: seen from now on, and to be sent. Of one key the writes are sent in their order.

        `erases`: what the key held before shall be in no file.
        """
        write = HeldWrite(self, self._table, key.encode(), value, erases)
        self._unconfirmed[write.key] = write
        return write

    def confirmed(self, write: "HeldWrite", offset: int) -> None:
        """The broker has the changelog record."""
        if not self._table.holds(self):
            return  # the partition has gone
        try:
            self._store(write, offset)
        except Exception as error:  # the next row that fits would carry the offset past this one
            self._table.not_stored(error)
            return
        if self._unconfirmed.get(write.key) is write:
            del self._unconfirmed[write.key]

    def _store(self, write: "HeldWrite", offset: int) -> None:
        database, reached = self._table.database(self.partition), self._table.disk(self.partition).reached
        if reached is not None and reached >= offset:  # nobody else writes to it while the partition is ours
            self._table.lost(self.partition, reached, offset)
            return
        batch = rocksdict.WriteBatch(raw_mode=True)
        if write.value is None:
            batch.delete(write.key)
        else:
            batch.put(write.key, write.value)
        if write.erases:
            batch.put(REWRITE_KEY, b"%d" % offset)
        batch.put(OFFSET_KEY, b"%d" % offset)
        database.write(batch)


class HeldWrite:
    """A row that steps see already. It lies in its table once it is sent and the broker has confirmed it."""

    __slots__ = ("_table", "_view", "erases", "key", "value")

    def __init__(
        self, view: PartitionView, table: ConfirmedTable, key: bytes, value: bytes | None, erases: bool
    ) -> None:
        self._view, self._table, self.key, self.value, self.erases = view, table, key, value, erases

    async def send(self) -> Confirmation:
        """Enqueue the changelog record. The future is done when the broker has confirmed it."""
        future = await self._table.send(self._view.partition, self.key, self.value)
        future.add_done_callback(self._sent)
        return future

    def _sent(self, sent: Confirmation) -> None:
        if not sent.cancelled() and sent.exception() is None:  # else the delivery ends the process
            self._view.confirmed(self, sent.result().offset)
