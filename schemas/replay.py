"""What a replay is answered with: forecasts made again, for whoever compares them, and for nobody who looks one up."""

from typing import Literal

from pydantic import Field

from schemas.fan_chart import FanChart
from schemas.outcome import RequestStatus
from schemas.record import Name, Record, SubjectId


class ReplayedForecast(Record):
    """One request that was put through inference and calc again, on ``cgm.replays``, keyed by `series_key`.

    Repeats carry the same `replay_id` and `request_id`. The chart is the model's own: the fan of no person, stored
    nowhere, scored by nothing and told to nobody.
    """

    record_version: Literal[1] = 1
    replay_id: Name = Field(description="Of the run of `glucast replay` that asked.")
    request_id: str = Field(description="Of the request, as it was made first.")
    series_key: SubjectId
    status: Literal["charted"] | RequestStatus
    reason: str | None = Field(default=None, description="Why there is no chart, for a person.")
    chart: FanChart | None = None
