"""How a subject's forecasts did, from the changelog of the calc role's table of scores.

s/<subject>          a `schemas.score_state.ScoreState` of the served model
s/<subject>/trial    that of the model on trial
"""

from collections.abc import Iterator

from query_api.projections.orders import Orders
from query_api.projections.projection import Notification
from query_api.store import Store
from schemas.score_state import ScoreState
from schemas.tables import trial_key
from streams.topology import SCORES_CHANGELOG


def scores_key(subject_id: str) -> str:
    """Subscribe to what is added to a subject's scores."""
    return f"scores/{subject_id}"


class Scores:
    """The projection and its view. A row that cannot be read is not taken: the one before stays."""

    topic = SCORES_CHANGELOG

    def __init__(self, store: Store) -> None:
        self._store, self._orders = store, Orders(store)

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        state = ScoreState.from_bytes(value)
        if state.forecasts and self._orders.erased(key.partition("/")[0], state.began_ms):
            self._store.stage(_key(key), None)
            return
        self._store.stage(_key(key), value)
        if "/" not in key:  # who follows a subject is told of the served model alone
            yield scores_key(key), state

    def forget(self, subject_id: str, up_to_ms: int) -> None:
        """Stage the end of scores of forecasts that began up to a Unix time: a row behind an order stays."""
        for key in (subject_id, trial_key(subject_id)):
            state = self._at(key)
            if state is None or state.began_ms <= up_to_ms:
                self._store.stage(_key(key), None)

    def of(self, subject_id: str) -> ScoreState | None:
        """None where no forecast of the subject was made."""
        return self._at(subject_id)

    def on_trial(self, subject_id: str) -> ScoreState | None:
        """That of the model on trial; None where there is none."""
        return self._at(trial_key(subject_id))

    def every(self) -> Iterator[tuple[ScoreState, ScoreState | None]]:
        """Of each subject that has forecasts of the served model: that one's, and that of the model on trial."""
        for key, row in self._store.scan(_key("")):
            subject_id = key.removeprefix(_key("")).decode()
            if "/" not in subject_id:
                yield ScoreState.from_bytes(row), self.on_trial(subject_id)

    def _at(self, key: str) -> ScoreState | None:
        row = self._store.get(_key(key))
        return None if row is None else ScoreState.from_bytes(row)


def _key(key: str) -> bytes:
    """By the key of the table."""
    return b"s/" + key.encode()
