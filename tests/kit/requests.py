"""Forecast requests for tests."""

from typing import Any

from agents.core import fingerprint
from schemas.forecast import ForecastRequest


def request_of(number: int, **changes: Any) -> ForecastRequest:
    """A valid request whose window no other number has."""
    past = changes.pop("past_centi_mgdl", [10_000 + number % 5000 + step for step in range(96)])
    end_seconds = changes.pop("end_seconds", 1_700_000_000 + 300 * number)
    fields: dict[str, Any] = {
        "request_id": f"{number:064x}",
        "kind": "sample",
        "series_key": f"series-{number % 16}",
        "handle": "a" * 64,
        "index": -number,
        "end_seconds": end_seconds,
        "past_centi_mgdl": past,
        "truth_centi_mgdl": [],
        "input_hash": fingerprint.input_hash(end_seconds, past) if all(isinstance(v, int) for v in past) else "0" * 64,
        "num_samples": 10,
        "seed": 0,
    }
    return ForecastRequest(**fields | changes)


def forecast_id_of(request: ForecastRequest, model_fingerprint: str) -> str:
    return fingerprint.forecast_id(request.input_hash, model_fingerprint, request.num_samples, request.seed)
