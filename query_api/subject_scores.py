"""The scorecard of a subject, or why nothing is known yet."""

from query_api.scorecard import Scorecard, scorecard
from query_api.services import Services
from schemas.errors import NoForecastError, UnavailableError


def scores_of(uses: Services, subject_id: str) -> Scorecard:
    """How its forecasts did. Raises `NoForecastError` with the reason, `UnavailableError` while behind."""
    state = uses.read_model.scores.of(subject_id)
    if state is None:
        if not uses.follower.caught_up:
            raise UnavailableError("this replica is still reading what Kafka holds; try again")
        raise NoForecastError("no forecast of this subject to score: its first comes after 8 h of readings")
    if not state.scored:
        raise NoForecastError("no target is scored yet: a forecast is scored 30 minutes after the first of its targets")
    return scorecard(subject_id, state, uses.read_model.scores.on_trial(subject_id))
