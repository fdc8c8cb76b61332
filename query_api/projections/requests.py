"""Requests that ended without a fan chart: told to who waits for them, and not kept."""

from collections.abc import Iterator

from query_api.projections.fan_charts import sample_key
from query_api.projections.projection import Notification
from schemas import topics
from schemas.outcome import RequestOutcome
from schemas.topics import Topic


def demand_key(demand_id: str) -> str:
    """Subscribe to the end of a demand without a chart."""
    return f"demand/{demand_id}"


class Requests:
    """The projection; it has no rows and no views. `failed` counts what no model could infer, since it follows."""

    topic: Topic = topics.REQUEST_OUTCOMES

    def __init__(self) -> None:
        self.failed = 0

    def apply(self, key: str, value: bytes | None) -> Iterator[Notification]:
        outcome = RequestOutcome.from_json(value)
        self.failed += outcome.status == "failed"
        if outcome.handle is not None and outcome.index is not None:
            yield sample_key(outcome.handle, outcome.index), outcome
        if outcome.demand_id is not None:
            yield demand_key(outcome.demand_id), outcome
