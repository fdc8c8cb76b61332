"""Where each subject's readings come from, from the changelog of the ingest role's table of sources.

q/<subject>   the row of the table
"""

from collections.abc import Iterator

from query_api.projections.orders import Orders
from query_api.projections.projection import Notification
from query_api.store import Store
from schemas.sources import SourceState
from schemas.topics import Topic
from streams.topology import SOURCES_CHANGELOG


def sources_key(subject_id: str) -> str:
    """Subscribe to what changes in a subject's sources."""
    return f"sources/{subject_id}"


class Sources:
    """The projection and its view. A row that cannot be read is not taken: the one before stays."""

    topic: Topic = SOURCES_CHANGELOG

    def __init__(self, store: Store) -> None:
        self._store, self._orders = store, Orders(store)

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        state = SourceState() if value is None else SourceState.from_json(value)
        if value is not None and self._orders.erased(key, state.began_ms):
            self._store.stage(_row(key), None)
            return
        self._store.stage(_row(key), value)
        yield sources_key(key), state

    def forget(self, subject_id: str, up_to_ms: int) -> None:
        """Stage the end of what began up to a Unix time: what came after an order stays."""
        if self.of(subject_id).began_ms <= up_to_ms:
            self._store.stage(_row(subject_id), None)

    def of(self, subject_id: str) -> SourceState:
        """That of a subject nothing is known of is the beginning."""
        value = self._store.get(_row(subject_id))
        return SourceState() if value is None else SourceState.from_json(value)


def _row(subject_id: str) -> bytes:
    return b"q/" + subject_id.encode()
