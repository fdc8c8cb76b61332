"""What became of the latest readings of each subject: why there is no forecast yet, or none any more.

r/<subject>   the outcome of the reading that came last, or of a reset after it; none of a subject that was erased
n/<subject>   of those that were accepted since and count, the outcome of the newest by its own time
e/…           the readings themselves: see `query_api.projections.measured`
g/…           those that took back what was forecast of: see `query_api.projections.corrections`
"""

import datetime
from collections.abc import Callable, Collection, Iterator

from query_api.projections.corrections import Corrections
from query_api.projections.fan_charts import subject_key
from query_api.projections.measured import Measured
from query_api.projections.orders import Orders
from query_api.projections.projection import Notification
from query_api.store import Store
from schemas import topics
from schemas.reading import OTHER_DEVICE, ReadingOutcome
from schemas.topics import Topic

Forget = Callable[[str, int], None]
"""Of a subject, what began up to a Unix time in milliseconds."""
_NEVER = datetime.datetime.min.replace(tzinfo=datetime.UTC)


class Readings:
    """The projection and its views."""

    topic: Topic = topics.READING_OUTCOMES

    def __init__(self, store: Store, forget_charts: Forget, forget_rest: Forget) -> None:
        """What stages the end of a subject's charts, and of what else the table holds of it."""
        self._store = store
        self._forget_charts, self._forget_rest = forget_charts, forget_rest
        self._orders = Orders(store)
        self.measured, self.corrections = Measured(store), Corrections(store)
        self.arrived_ms = 0
        """When the record came that is applied, which its value does not tell."""

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        outcome = ReadingOutcome.from_json(value)
        if outcome.status == "erased" or outcome.code == "erased":
            if outcome.status == "erased":
                self._store.stage(_row(outcome.subject_id), None)
                self._forget(outcome)
            yield subject_key(outcome.subject_id), outcome
            return
        if outcome.status == "reset":
            self._forget(outcome)
        about_window = outcome.status in ("forecast_requested", "no_forecast")
        if about_window or outcome.status == "reset" or self._store.get(_row(outcome.subject_id)) is None:
            self._store.stage(_row(outcome.subject_id), value)
        newest = self.newest(outcome.subject_id)
        if outcome.reading is not None:
            self.measured.keep(outcome.reading, newest.time if newest else None, self.arrived_ms)
        self.corrections.note(outcome)
        counts = about_window and outcome.code != OTHER_DEVICE  # else the preferred device's forecast goes on to hold
        if counts and outcome.time and not (newest and newest.time and newest.time > outcome.time):
            self._store.stage(_newest_row(outcome.subject_id), value)
        yield subject_key(outcome.subject_id), outcome

    def _forget(self, order: ReadingOutcome) -> None:
        """Charts do not wait for their own tombstones: nobody sees one once somebody has heard that they are gone."""
        self._store.stage(_newest_row(order.subject_id), None)
        self.measured.forget(order.subject_id)
        self.corrections.forget(order.subject_id)
        if order.time is None:
            return
        erases, up_to_ms = order.status == "erased", round(order.time.timestamp() * 1000)
        self._orders.note(order.subject_id, order.time, self.arrived_ms, erases)
        self._forget_charts(order.subject_id, up_to_ms)
        if erases:
            self._forget_rest(order.subject_id, up_to_ms)

    def latest(self, subject_id: str) -> ReadingOutcome | None:
        """What became of the subject's reading that came last."""
        return self._outcome(_row(subject_id))

    def newest(self, subject_id: str) -> ReadingOutcome | None:
        """What became of the accepted reading with the newest time."""
        return self._outcome(_newest_row(subject_id))

    def subjects(self, among: Collection[str] | None = None, limit: int = 100) -> tuple[list[str], int]:
        """Subjects of whom a reading has come, and how many more there are; where `among` is given, of these alone.

        In the order of their names, but where not all find room those whose reading is the newest.
        """
        if among is not None:
            known = [each for each in among if self._store.get(_row(each)) is not None]
        else:
            known = [key[2:].decode() for key, _ in self._store.scan(b"r/")]
        if len(known) > limit:
            known.sort(key=self._newest_time, reverse=True)
        return known[:limit], max(0, len(known) - limit)

    def _newest_time(self, subject_id: str) -> datetime.datetime:
        newest = self.newest(subject_id)
        return _NEVER if newest is None or newest.time is None else newest.time

    def _outcome(self, row: bytes) -> ReadingOutcome | None:
        value = self._store.get(row)
        return None if value is None else ReadingOutcome.from_json(value)


def _row(subject_id: str) -> bytes:
    return b"r/" + subject_id.encode()


def _newest_row(subject_id: str) -> bytes:
    return b"n/" + subject_id.encode()
