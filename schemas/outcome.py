"""How a forecast request ends when it does not end in a fan chart."""

from typing import Literal

from pydantic import Field

from schemas.record import Record, SmallInteger

RequestStatus = Literal["expired", "unknown_handle", "out_of_range", "failed", "dropped", "implausible", "superseded"]


class RequestOutcome(Record):
    """A request without a fan chart, on ``cgm.request-outcomes``, keyed by `series_key`."""

    request_id: str = Field(description="Id of the request, or of the demand where none was made of it.")
    series_key: str
    status: RequestStatus
    reason: str = Field(description="Why, for a person.")
    subject_id: str | None = None
    handle: str | None = None
    index: SmallInteger | None = None
    demand_id: str | None = None

    @property
    def event_id(self) -> str:
        """A demand ends once for each of its samples."""
        return "/".join(str(part) for part in (self.request_id, self.status, self.index) if part is not None)
