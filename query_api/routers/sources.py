"""Where a subject's readings come from: which device is preferred where several report, and when sensors started."""

import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from query_api.access import access
from query_api.routers.subjects import Subject, Uses
from schemas.errors import RejectedError, UnavailableError
from schemas.record import FIRST_YEAR, LAST_YEAR
from schemas.sources import SourcePolicy, SourceState

router = APIRouter(tags=["sources"])


def _whole(value: object) -> object:
    """15.0 is a whole number in JSON; a text or true is none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class PolicyBody(SourcePolicy):
    """A name that is none is refused: what was mistyped must not be what is ignored."""

    model_config = ConfigDict(strict=True, extra="forbid")

    wait_minutes: Annotated[int, BeforeValidator(_whole)] = Field(
        default=15,
        ge=5,
        le=240,
        description="Readings of other devices count once the preferred one is silent for longer, by 2.5 minutes.",
    )


def _text(value: object) -> object:
    """A number would be taken for seconds since 1970, or for milliseconds, by its size."""
    if not isinstance(value, str):
        raise ValueError("a date and time as RFC 3339 has it, like 2026-01-01T08:00:00+01:00")
    return value


class StartBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    time: Annotated[AwareDatetime, BeforeValidator(_text)] = Field(
        description="When the sensor was started, with its offset from UTC."
    )


class SourcesAnswer(BaseModel):
    subject_id: str
    preferred_device: str | None
    wait_minutes: int
    devices: list[str] = Field(description="The latest that spoke, as their readings name them.")
    sensor_starts: list[datetime.datetime] = Field(description="The latest that were told, oldest first.")


class StartAnswer(BaseModel):
    message: str


@router.get("/subjects/{subject_id}/sources")
@access("key", scope="read", whose="path")
async def sources(uses: Uses, subject_id: Subject) -> SourcesAnswer:
    """The devices that report for the subject, which of them is preferred, and when its sensors were started."""
    return _answer(subject_id, uses.read_model.sources.of(subject_id))


@router.put("/subjects/{subject_id}/sources")
@access("key", scope="write", whose="path", audit="sources", raises=(UnavailableError,))
async def change_sources(uses: Uses, subject_id: Subject, body: PolicyBody) -> SourcesAnswer:
    """For readings from now on; answers when the worker has confirmed it. Without a device all count, as at first."""
    wanted = SourcePolicy.model_validate(body.model_dump())
    return _answer(subject_id, await uses.submit.source_policy(subject_id, wanted))


@router.post("/subjects/{subject_id}/sensor-starts", status_code=202)
@access("key", scope="write", whose="path", raises=(RejectedError, UnavailableError))
async def start_sensor(uses: Uses, subject_id: Subject, body: StartBody) -> StartAnswer:
    """Tell that a sensor was started: readings of two hours after it are flagged, and a jump there is no fast fall."""
    if not FIRST_YEAR <= body.time.year <= LAST_YEAR:
        raise RejectedError(f"a sensor starts in the years from {FIRST_YEAR} to {LAST_YEAR}: check the clock")
    await uses.submit.sensor_starts(subject_id, [body.time])
    return StartAnswer(message="Kafka has the start; it counts for readings that come from now on")


def _answer(subject_id: str, state: SourceState) -> SourcesAnswer:
    return SourcesAnswer(
        subject_id=subject_id,
        preferred_device=state.policy.preferred_device,
        wait_minutes=state.policy.wait_minutes,
        devices=list(state.devices),
        sensor_starts=sorted(each.time for each in state.starts),
    )
