"""Demands in; a request for each wanted window of a stored series, or an outcome that says why there is none."""

import dataclasses
from typing import Literal, Protocol

from agents.core.sampling import Sampling
from agents.ingest.stored_series import Tail
from agents.work import StepFunction, Work
from schemas.command import ForecastDemand
from schemas.errors import UnknownHandleError
from schemas.grid import HORIZON_STEPS
from schemas.outcome import RequestOutcome
from schemas.tables import SERIES_TABLE as TABLE
from schemas.topics import LANE_TOPICS, REQUEST_OUTCOMES


class RequestSettings(Protocol):
    """What the step needs to know."""

    @property
    def model(self) -> Sampling: ...


def build(settings: RequestSettings) -> StepFunction:
    """The step of ``cgm.forecast-demands``. Raises `MalformedRecordError` for a message that is no demand."""

    async def step(work: Work) -> None:
        demand = ForecastDemand.from_json(work.message.value)
        try:
            stored = Tail.from_bytes(work.get(TABLE, demand.series_key)).find(demand.handle)
        except UnknownHandleError as error:
            for index in demand.indexes:
                _refuse(work, demand, index, "unknown_handle", str(error))
            return
        force = demand.demand_id if demand.force else None
        for index in demand.indexes:
            if not stored.first_index <= index <= HORIZON_STEPS:
                reason = f"index {index} is out of range: valid are {stored.first_index} to {HORIZON_STEPS}"
                _refuse(work, demand, index, "out_of_range", reason)
                continue
            request = dataclasses.replace(
                stored.request(demand.series_key, index, settings.model.num_samples, settings.model.seed, force),
                demand_id=demand.demand_id,
                deadline_ms=demand.deadline_ms,
            )
            work.send(LANE_TOPICS[demand.lane], demand.series_key, request.to_arrow())

    return step


def _refuse(
    work: Work, demand: ForecastDemand, index: int, status: Literal["unknown_handle", "out_of_range"], reason: str
) -> None:
    outcome = RequestOutcome(
        request_id=demand.demand_id,
        series_key=demand.series_key,
        status=status,
        reason=reason,
        handle=demand.handle,
        index=index,
        demand_id=demand.demand_id,
    )
    work.publish(REQUEST_OUTCOMES, demand.series_key, outcome)
