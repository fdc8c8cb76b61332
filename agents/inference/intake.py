"""From a message of a lane to an entry of the batcher: decoded, checked, and named by its computation."""

from collections.abc import Hashable
from typing import TypeVar

from agents.core import fingerprint
from agents.core.local_time import utc_seconds
from agents.core.plausibility import implausible_change
from agents.core.record_checks import check_hours, check_names, check_window
from agents.inference.batcher import Entry
from schemas.errors import ImplausibleError
from schemas.forecast import ForecastRequest
from schemas.grid import STEP_SECONDS
from schemas.lanes import Lane

Origin = TypeVar("Origin", bound=Hashable)


def read_request(value: bytes | None) -> ForecastRequest:
    """Decode a message of a lane.

    Raises `MalformedRecordError` for what is no request, and for one that not even an outcome could answer, because it
    does not say whose it is: such a message is a dead letter.
    """
    request = ForecastRequest.from_arrow(value)
    check_names(request)
    return request


def check_request(request: ForecastRequest) -> None:
    """Raises `ImplausibleError`, in words for whoever asked, for a request that no model can answer."""
    check_window(request)
    if request.force is None:
        raise ImplausibleError("whether to force the computation is missing")
    if not isinstance(request.deadline_ms, int | None):
        raise ImplausibleError("deadline_ms is a whole number")
    utc_seconds(request.end_seconds, request.timezone)
    if reason := implausible_change(request.past_centi_mgdl):
        raise ImplausibleError(reason)
    check_hours(request)
    if request.input_hash != fingerprint.input_hash(
        request.end_seconds, request.past_centi_mgdl, request.hours_centi_mgdl
    ):
        raise ImplausibleError("input_hash is not the hash of the window")


def asks(request: ForecastRequest, model_fingerprint: str, serves: bool) -> bool:
    """Whether a request is one for this model: of a replay only one asks, which it names, or that which serves."""
    if request.replay_id is None:
        return True
    return model_fingerprint.startswith(request.replay_model) if request.replay_model else serves


def entry_of(request: ForecastRequest, lane: Lane, origin: Origin, model_fingerprint: str, now: float) -> Entry[Origin]:
    """The batcher's entry of a checked request, for the model of this worker."""
    forecast_id = fingerprint.forecast_id(request.input_hash, model_fingerprint, request.num_samples, request.seed)
    slot = utc_seconds(request.end_seconds, request.timezone) // STEP_SECONDS
    if request.kind != "live" or request.replay_id is not None:  # a replay takes nobody's place
        return Entry(request, forecast_id, lane, origin, now)
    return Entry(request, forecast_id, lane, origin, now, slot)
