"""The glucose of each subject's last days, from the changelog of the ingest role's table of days.

d/<subject>/<day>    a `schemas.glucose_day.GlucoseDay`
"""

import dataclasses
import datetime
from collections.abc import Iterator

from query_api.projections.orders import Orders
from query_api.projections.projection import Notification
from query_api.store import Store
from schemas.glucose_day import GlucoseDay
from schemas.grid import CENTI, STEP_SECONDS, STEPS_A_DAY
from schemas.tables import day_of, days_prefix
from streams.topology import DAYS_CHANGELOG


class GlucoseDays:
    """The projection and its view. A row that cannot be read is not taken: the one before stays."""

    topic = DAYS_CHANGELOG

    def __init__(self, store: Store) -> None:
        self._store, self._orders = store, Orders(store)

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        day_of(key)
        if value is not None:
            row = GlucoseDay.from_bytes(value)
            if self._orders.erased(key.partition("/")[0], row.began_ms):
                value = None
        self._store.stage(b"d/" + key.encode(), value)
        yield from ()

    def forget(self, subject_id: str, up_to_ms: int) -> None:
        """Stage the end of a subject's days that began up to a Unix time: what came after an order stays."""
        prefix = _prefix(subject_id)
        for key in dict.fromkeys([*(key for key, _ in self._store.scan(prefix)), *self._store.staged(prefix)]):
            row = self._store.get(key)
            if row is not None and GlucoseDay.from_bytes(row).began_ms <= up_to_ms:
                self._store.stage(key, None)

    def history(self, subject_id: str) -> "History | None":
        """All readings that are kept; None where there are none."""
        rows = {day_of(key.decode()): value for key, value in self._store.scan(_prefix(subject_id))}
        days = [(day, GlucoseDay.from_bytes(value)) for day, value in sorted(rows.items())]
        known = [
            (day * STEPS_A_DAY + place, centi / CENTI)
            for day, row in days
            for place, centi in enumerate(row.centi)
            if centi
        ]
        return History(known, days[-1][1].zone_minutes) if known else None


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """Readings as slot since 1970 and mg/dL, in order, at least one; the newest came with this offset from UTC."""

    readings: list[tuple[int, float]]
    zone_minutes: int

    @property
    def first(self) -> int:
        return self.readings[0][0]

    @property
    def newest(self) -> int:
        return self.readings[-1][0]

    @property
    def zone(self) -> datetime.timezone:
        """Of the newest reading."""
        return datetime.timezone(datetime.timedelta(minutes=self.zone_minutes))

    def between(self, first: int, end: int) -> list[tuple[int, float]]:
        """The readings of slots from `first` to before `end`."""
        return [each for each in self.readings if first <= each[0] < end]


def time_of(slot: int) -> datetime.datetime:
    """The time of a slot, in UTC."""
    return datetime.datetime.fromtimestamp(slot * STEP_SECONDS, datetime.UTC)


def _prefix(subject_id: str) -> bytes:
    return b"d/" + days_prefix(subject_id).encode()
