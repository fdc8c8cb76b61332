"""From a message of a lane to an entry of the batcher: decoded, checked, and named by its computation."""

import re
from collections.abc import Hashable
from typing import TypeVar

from agents.core import fingerprint
from agents.core.local_time import utc_seconds
from agents.core.plausibility import implausible_change
from agents.inference.batcher import Entry
from schemas.errors import ImplausibleError, MalformedRecordError
from schemas.forecast import ForecastRequest
from schemas.grid import (
    CENTI,
    HIGHEST_MGDL,
    HORIZON_STEPS,
    LOWEST_MGDL,
    MOST_INTERPOLATED,
    PAST_POINTS,
    STEP_SECONDS,
    WINDOW_POINTS,
)
from schemas.lanes import Lane

LONGEST_NAME = 512
HANDLE = re.compile("[0-9a-f]{64}")
MOST_SAMPLES = 200
LATEST_SECONDS = 253_402_300_799
"""The end of the year 9999, the last that a date can name."""

Origin = TypeVar("Origin", bound=Hashable)


def read_request(value: bytes | None) -> ForecastRequest:
    """Decode a message of a lane.

    Raises `MalformedRecordError` for what is no request, and for one that not even an outcome could answer, because it
    does not say whose it is: such a message is a dead letter.
    """
    request = ForecastRequest.from_arrow(value)
    names = (request.request_id, request.series_key, request.subject_id or "-", request.demand_id or "-")
    if not all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in names):
        raise MalformedRecordError("not a valid forecast-request: its ids are missing or too long")
    if request.handle is not None and not HANDLE.fullmatch(request.handle):
        raise MalformedRecordError("not a valid forecast-request: handle is no SHA-256 digest")
    return request


def check_request(request: ForecastRequest) -> None:
    """Raises `ImplausibleError`, in words for whoever asked, for a request that no model can answer."""
    past = request.past_centi_mgdl
    if past is None or len(past) != PAST_POINTS or any(value is None for value in past):
        raise ImplausibleError(f"a window has {PAST_POINTS} known points, this one has not")
    low, high = (round(bound * CENTI) for bound in (LOWEST_MGDL, HIGHEST_MGDL))
    if not all(low <= value <= high for value in past):
        raise ImplausibleError(f"glucose of a window must lie in {LOWEST_MGDL:.0f}..{HIGHEST_MGDL:.0f} mg/dL")
    if request.truth_centi_mgdl is None or len(request.truth_centi_mgdl) > HORIZON_STEPS:
        raise ImplausibleError(f"at most {HORIZON_STEPS} points may follow a window")
    if not 2 <= (request.num_samples or 0) <= MOST_SAMPLES:
        raise ImplausibleError(f"num_samples must lie in 2..{MOST_SAMPLES}")
    if request.seed is None or not -LATEST_SECONDS <= (request.end_seconds or 0) <= LATEST_SECONDS:
        raise ImplausibleError("the window's time or the seed is missing or out of range")
    _check_interpolated(request.interpolated_points)
    if type(request.revision) is not int or not isinstance(request.deadline_ms, int | None):
        raise ImplausibleError("revision and deadline_ms are whole numbers")
    utc_seconds(request.end_seconds, request.timezone)
    if reason := implausible_change(past):
        raise ImplausibleError(reason)
    if request.input_hash != fingerprint.input_hash(request.end_seconds, past):
        raise ImplausibleError("input_hash is not the hash of the window")


def _check_interpolated(places: list[int] | None) -> None:
    if places is None or not all(type(place) is int and 0 <= place < WINDOW_POINTS for place in places):
        raise ImplausibleError(f"interpolated points have places from 0 to {WINDOW_POINTS - 1}")
    past = sum(place < PAST_POINTS for place in set(places))
    if past > MOST_INTERPOLATED:
        raise ImplausibleError(
            f"{past} of the last {PAST_POINTS} points are interpolated, {MOST_INTERPOLATED} may be: a forecast needs a "
            "reading every quarter of an hour"
        )


def entry_of(request: ForecastRequest, lane: Lane, origin: Origin, model_fingerprint: str, now: float) -> Entry[Origin]:
    """The batcher's entry of a checked request, for the model of this worker."""
    forecast_id = fingerprint.forecast_id(request.input_hash, model_fingerprint, request.num_samples, request.seed)
    slot = utc_seconds(request.end_seconds, request.timezone) // STEP_SECONDS if request.kind == "live" else None
    return Entry(request, forecast_id, lane, origin, now, slot)
