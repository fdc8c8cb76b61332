"""What became of the latest reading of each subject: why there is no forecast yet.

r/<subject>   the outcome
"""

from collections.abc import Iterator

from query_api.projections.fan_charts import subject_key
from query_api.projections.projection import Notification
from query_api.store import Store
from schemas import topics
from schemas.reading import ReadingOutcome
from schemas.topics import Topic


class Readings:
    """The projection and its views."""

    topic: Topic = topics.READING_OUTCOMES

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        outcome = ReadingOutcome.from_json(value)
        about_window = outcome.status in ("forecast_requested", "no_forecast")
        if about_window or self._store.get(_row(outcome.subject_id)) is None:
            self._store.stage(_row(outcome.subject_id), value)
        yield subject_key(outcome.subject_id), outcome

    def latest(self, subject_id: str) -> ReadingOutcome | None:
        """What became of the subject's latest reading."""
        value = self._store.get(_row(subject_id))
        return None if value is None else ReadingOutcome.from_json(value)


def _row(subject_id: str) -> bytes:
    return b"r/" + subject_id.encode()
