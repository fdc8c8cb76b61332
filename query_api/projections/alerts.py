"""What is known of each subject's alerts, from the changelog of the calc role's table.

a/<subject>   the row of the table
"""

from collections.abc import Iterator

from query_api.projections.orders import Orders
from query_api.projections.projection import Notification
from query_api.store import Store
from schemas.alert import AlertState
from schemas.topics import Topic
from streams.topology import ALERTS_CHANGELOG


def alerts_key(subject_id: str) -> str:
    """Subscribe to what happens to a subject's alerts."""
    return f"alerts/{subject_id}"


class Alerts:
    """The projection and its view."""

    topic: Topic = ALERTS_CHANGELOG

    def __init__(self, store: Store) -> None:
        self._store, self._orders = store, Orders(store)

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        state = AlertState() if value is None else AlertState.from_json(value)
        if value is not None and self._orders.erased(key, state.began_ms):
            self._store.stage(_row(key), None)
            return
        self._store.stage(_row(key), value)
        yield alerts_key(key), state

    def forget(self, subject_id: str, up_to_ms: int) -> None:
        """Stage the end of what is known of a subject's alerts, if it began up to a Unix time."""
        if self.of(subject_id).began_ms <= up_to_ms:
            self._store.stage(_row(subject_id), None)

    def of(self, subject_id: str) -> AlertState:
        """That of a subject nothing is known of is the beginning."""
        value = self._store.get(_row(subject_id))
        return AlertState() if value is None else AlertState.from_json(value)


def _row(subject_id: str) -> bytes:
    return b"a/" + subject_id.encode()
