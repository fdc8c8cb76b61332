"""How a request ends without a fan chart."""

from schemas.forecast import ForecastWindow
from schemas.outcome import RequestOutcome, RequestStatus


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
