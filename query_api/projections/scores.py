"""How a subject's forecasts did, from the changelog of the calc role's table of scores.

s/<subject>    a `schemas.score_state.ScoreState`
"""

from collections.abc import Iterator

from query_api.projections.projection import Notification
from query_api.store import Store
from schemas.score_state import ScoreState
from streams.topology import SCORES_CHANGELOG


def scores_key(subject_id: str) -> str:
    """Subscribe to what is added to a subject's scores."""
    return f"scores/{subject_id}"


class Scores:
    """The projection and its view. A row that cannot be read is not taken: the one before stays."""

    topic = SCORES_CHANGELOG

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        state = ScoreState.from_bytes(value)
        self._store.stage(_key(key), value)
        yield scores_key(key), state

    def forget(self, subject_id: str) -> None:
        """Stage the end of a subject's scores."""
        self._store.stage(_key(subject_id), None)

    def of(self, subject_id: str) -> ScoreState | None:
        """None where no forecast of the subject was made."""
        row = self._store.get(_key(subject_id))
        return None if row is None else ScoreState.from_bytes(row)


def _key(subject_id: str) -> bytes:
    return b"s/" + subject_id.encode()
