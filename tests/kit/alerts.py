"""Alerts of one subject, and webhooks that may want them."""

import datetime
from typing import Any

from schemas.alert import Alert
from streams.notify.webhook_file import Endpoint, new_endpoint, new_secret

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def alert(**changes: Any) -> Alert:
    """Before a low, just raised."""
    fields: dict[str, Any] = {
        "alert_id": "9" * 64, "status": "raised", "kind": "low", "subject_id": "anna", "threshold_mgdl": 70.0,
        "probability": 0.62, "horizon_minutes": 30, "first_crossing": (0.11, 0.51, 0.12, 0.04), "glucose_mgdl": 94.0,
        "issue_time": NOW, "reason": "P(below 70 mg/dL (3.9 mmol/L) within 30 min) is 62 %",
    }  # fmt: skip
    return Alert.model_validate(fields | changes)


def endpoint(name: str = "home", url: str = "https://example.org/hook", **changes: Any) -> Endpoint:
    """A webhook that was added an hour ago."""
    fields: dict[str, Any] = {
        "name": name, "url": url, "events": ["alert", "outcome", "forecast"], "secret": new_secret(),
        "added_at": NOW - datetime.timedelta(hours=1),
    }  # fmt: skip
    return new_endpoint(fields | changes)
