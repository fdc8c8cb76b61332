"""How a request ends without a fan chart."""

from agents.work import Work
from schemas.forecast import ForecastWindow
from schemas.outcome import RequestOutcome, RequestStatus
from schemas.replay import ReplayedForecast
from schemas.topics import REPLAYS, REQUEST_OUTCOMES


def end(work: Work, window: ForecastWindow, status: RequestStatus, reason: str) -> None:
    """Tell who waits for the forecast of this window why there is none; a replay tells nobody else."""
    if window.replay_id is not None:
        replayed = ReplayedForecast(
            replay_id=window.replay_id,
            request_id=window.request_id,
            series_key=window.series_key,
            status=status,
            reason=reason,
        )
        work.send(REPLAYS, window.series_key, replayed.to_json())
        return
    work.publish(REQUEST_OUTCOMES, window.series_key, ended(window, status, reason))


def ended(window: ForecastWindow, status: RequestStatus, reason: str) -> RequestOutcome:
    """The outcome of the request for this window, which names whose it is and who waits for it."""
    return RequestOutcome(
        request_id=window.request_id,
        series_key=window.series_key,
        status=status,
        reason=reason,
        subject_id=window.subject_id,
        handle=window.handle,
        index=window.index,
        demand_id=window.demand_id,
    )
