"""The glucose of each subject's last days, from the changelog of the ingest role's table of days.

d/<subject>/<day>    a `schemas.glucose_day.GlucoseDay`
"""

from collections.abc import Iterator, Mapping

from query_api.projections.projection import Notification
from query_api.store import Store
from schemas.glucose_day import GlucoseDay
from schemas.tables import day_of, days_prefix
from streams.topology import DAYS_CHANGELOG


class GlucoseDays:
    """The projection and its view. A row that cannot be read is not taken: the one before stays."""

    topic = DAYS_CHANGELOG

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        day_of(key)
        if value is not None:
            GlucoseDay.from_bytes(value)
        self._store.stage(b"d/" + key.encode(), value)
        yield from ()

    def forget(self, subject_id: str, up_to_ms: int) -> None:
        """Stage the end of a subject's days that began up to a Unix time: what came after an order stays."""
        prefix = _prefix(subject_id)
        for key in dict.fromkeys([*(key for key, _ in self._store.scan(prefix)), *self._store.staged(prefix)]):
            row = self._store.get(key)
            if row is not None and GlucoseDay.from_bytes(row).began_ms <= up_to_ms:
                self._store.stage(key, None)

    def of(self, subject_id: str) -> Mapping[int, GlucoseDay]:
        """By the day since 1970 in UTC, the earliest first."""
        rows = {day_of(key.decode()): value for key, value in self._store.scan(_prefix(subject_id))}
        return {day: GlucoseDay.from_bytes(value) for day, value in sorted(rows.items())}


def _prefix(subject_id: str) -> bytes:
    return b"d/" + days_prefix(subject_id).encode()
