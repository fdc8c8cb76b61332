"""What became of uploads, and the handles that they gave.

u/<upload id>   what became of an upload
h/<handle>      the uploads that gave this handle and its latest outcome
"""

import dataclasses
import functools
from collections.abc import Iterator

import orjson

from query_api.holders import EVERYBODY, Holder
from query_api.projections.projection import Notification
from query_api.store import Store
from schemas import topics
from schemas.grid import HORIZON_STEPS, WINDOW_POINTS
from schemas.topics import Topic
from schemas.upload import UploadOutcome

ROWS_AT_HAND = 256
"""Decoded rows that are kept: of handles that are asked for again and again, decoding is a tenth of an answer."""


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
        return range(WINDOW_POINTS - self.outcome.points, HORIZON_STEPS + 1)

    def pack(self) -> bytes:
        return orjson.dumps({"upload_ids": self.upload_ids, "outcome": orjson.Fragment(self.outcome.to_json())})

    @classmethod
    def unpack(cls, value: bytes) -> "StoredHandle":
        fields = orjson.loads(value)
        return cls(UploadOutcome.model_validate(fields["outcome"]), tuple(fields["upload_ids"]))


def upload_key(upload_id: str) -> str:
    """Subscribe to what becomes of an upload."""
    return f"upload/{upload_id}"


def handle_key(handle: str) -> str:
    """Subscribe to the end of a handle: None arrives when nothing is stored under it any more."""
    return f"handle/{handle}"


class Uploads:
    """The projection and its views."""

    topic: Topic = topics.UPLOAD_OUTCOMES

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        before = self.upload(key)
        after = None if value is None else UploadOutcome.from_json(value)
        self._store.stage(_upload_row(key), value)
        if before and before.handle and (after is None or after.handle != before.handle):
            yield from self._forget(before.handle, key)
        if after and after.status == "accepted" and after.handle:
            known = self.handle(after.handle)
            upload_ids = tuple(dict.fromkeys((*(known.upload_ids if known else ()), key)))
            # Its uploads lie in several partitions, which are read in any order.
            newest = known.outcome if known and known.outcome.began_ms > after.began_ms else after
            self._store.stage(_handle_row(after.handle), StoredHandle(newest, upload_ids).pack())
        if after:
            yield upload_key(key), after

    def _forget(self, handle: str, upload_id: str) -> Iterator[Notification]:
        known = self.handle(handle)
        rest = tuple(item for item in known.upload_ids if item != upload_id) if known else ()
        if known and rest:
            self._store.stage(_handle_row(handle), StoredHandle(known.outcome, rest).pack())
            return
        self._store.stage(_handle_row(handle), None)
        yield handle_key(handle), None

    def upload(self, upload_id: str) -> UploadOutcome | None:
        value = self._store.get(_upload_row(upload_id))
        return None if value is None else _outcome(value)

    def handle(self, handle: str) -> StoredHandle | None:
        value = self._store.get(_handle_row(handle))
        return None if value is None else _stored_handle(value)

    def held(self, handle: str, holder: Holder) -> StoredHandle | None:
        """The same where it is theirs."""
        found = self.handle(handle)
        return found if found is not None and holder.holds(found.outcome.owner) else None

    def handles(self, holder: Holder = EVERYBODY) -> list[StoredHandle]:
        """All handles that they hold, the oldest first."""
        every = (StoredHandle.unpack(value) for _, value in self._store.scan(b"h/"))
        found = [stored for stored in every if holder.holds(stored.outcome.owner)]
        return sorted(found, key=lambda stored: (stored.outcome.began_ms, stored.handle))

    def handle_count(self) -> int:
        return sum(1 for _ in self._store.scan(b"h/"))


@functools.lru_cache(ROWS_AT_HAND)
def _outcome(value: bytes) -> UploadOutcome:
    return UploadOutcome.from_json(value)


@functools.lru_cache(ROWS_AT_HAND)
def _stored_handle(value: bytes) -> StoredHandle:
    return StoredHandle.unpack(value)


def _upload_row(upload_id: str) -> bytes:
    return b"u/" + upload_id.encode()


def _handle_row(handle: str) -> bytes:
    return b"h/" + handle.encode()
