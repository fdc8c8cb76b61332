"""Alerts of a subject: what was told, what became of it, a snooze, and the settings."""

import time
from collections.abc import Callable
from typing import Annotated

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from query_api.access import access
from query_api.routers.drawing import InUnit
from query_api.routers.subjects import Subject, Uses
from query_api.told_alerts import AlertsAnswer, alerts_answer
from query_api.units import settings_document, threshold_mgdl
from schemas.alert import AlertSettings, ErrorChange, FallChange, RuleChange, Snoozed, StaleChange
from schemas.errors import UnavailableError
from schemas.grid import HIGHEST_MGDL, MGDL_PER_MMOLL
from schemas.reading import Unit

router = APIRouter(tags=["alerts"])


def _whole(value: object) -> object:
    """383.0 is a whole number in JSON; a text or true is none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _in_mgdl(given: object, name: str, told: Callable[[float], float]) -> object:
    """What was given in mmol/L is there in mg/dL too, as `told`; what is no such number its field refuses."""
    mmoll = given.get(f"{name}_mmoll") if isinstance(given, dict) else None
    if not isinstance(given, dict) or not isinstance(mmoll, int | float) or not 0 < mmoll < HIGHEST_MGDL:
        return given
    if given.get(f"{name}_mgdl") is not None:
        raise ValueError(f"{name}_mgdl and {name}_mmoll are one thing: give one of them")
    return given | {f"{name}_mgdl": told(mmoll)}


class RuleBody(RuleChange):
    """A name that is none is refused: what was mistyped must not be what is ignored."""

    model_config = ConfigDict(strict=True, extra="forbid")

    threshold_mmoll: float | None = Field(
        default=None, ge=2.498, le=20.0, description="The same, where it is in mmol/L."
    )

    _whole_numbers = field_validator("horizon_minutes", mode="before")(_whole)

    @model_validator(mode="before")
    @classmethod
    def _of_one_unit(cls, given: object) -> object:
        return _in_mgdl(given, "threshold", threshold_mgdl)


class FallBody(FallChange):
    model_config = ConfigDict(strict=True, extra="forbid")

    below_mmoll: float | None = Field(
        default=None, ge=4.4405, le=33.304, description="The same, where it is in mmol/L."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_one_unit(cls, given: object) -> object:
        return _in_mgdl(given, "below", lambda mmoll: round(mmoll * MGDL_PER_MMOLL, 2))


class StaleBody(StaleChange):
    model_config = ConfigDict(strict=True, extra="forbid")

    _whole_numbers = field_validator("minutes", mode="before")(_whole)


class ErrorBody(ErrorChange):
    model_config = ConfigDict(strict=True, extra="forbid")

    _whole_numbers = field_validator("readings", mode="before")(_whole)


class SettingsBody(AlertSettings):
    model_config = ConfigDict(strict=True, extra="forbid")

    urgent_low: RuleBody = RuleBody()
    low: RuleBody = RuleBody()
    high: RuleBody = RuleBody()
    urgent_high: RuleBody = RuleBody()
    falling_fast: FallBody = FallBody()
    stale_data: StaleBody = StaleBody()
    sensor_error: ErrorBody = ErrorBody()

    _whole_numbers = field_validator("cooldown_minutes", "repeat_minutes", mode="before")(_whole)


class SnoozeBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    direction: Snoozed = Field(description="low: a fast fall too; data: that no readings come, or errors.")
    minutes: Annotated[int, BeforeValidator(_whole)] = Field(ge=0, le=720, description="From now on; 0 ends a snooze.")


@router.get("/subjects/{subject_id}/alerts")
@access("key", scope="read", whose="path")
async def alerts(uses: Uses, subject_id: Subject) -> AlertsAnswer:
    """The subject's recent alerts, which of them hold, and what is snoozed. Not a medical device."""
    model = uses.read_model
    return alerts_answer(subject_id, model.alerts.of(subject_id), model.fan_charts.latest(subject_id))


@router.post("/subjects/{subject_id}/alerts/snooze")
@access("key", scope="write", whose="path", audit="snooze", raises=(UnavailableError,))
async def snooze(uses: Uses, subject_id: Subject, body: SnoozeBody) -> AlertsAnswer:
    """No alerts of one direction for a while; answers when the worker has confirmed it."""
    until_ms = int(time.time() * 1000) + body.minutes * 60_000
    state = await uses.submit.snooze(subject_id, body.direction, until_ms)
    return alerts_answer(subject_id, state, uses.read_model.fan_charts.latest(subject_id))


@router.get(
    "/subjects/{subject_id}/alerts/settings", response_class=Response, responses={200: {"model": AlertSettings}}
)
@access("key", scope="read", whose="path")
async def settings(uses: Uses, subject_id: Subject, unit: InUnit = "mg/dL") -> Response:
    """The preset, and what differs from it. In mmol/L the names of glucose fields end in `_mmoll`."""
    return _answer(uses.read_model.alerts.of(subject_id).settings, unit)


@router.put(
    "/subjects/{subject_id}/alerts/settings", response_class=Response, responses={200: {"model": AlertSettings}}
)
@access("key", scope="write", whose="path", audit="alert settings", raises=(UnavailableError,))
async def change_settings(uses: Uses, subject_id: Subject, body: SettingsBody, unit: InUnit = "mg/dL") -> Response:
    """From the next forecast on; what is left out is as the preset has it. Answers when the worker has confirmed it.

    Thresholds are taken as `threshold_mgdl` or `threshold_mmoll`, and answered in the `unit` that is asked for.
    """
    wanted = AlertSettings.model_validate(body.model_dump())
    return _answer((await uses.submit.alert_settings(subject_id, wanted)).settings, unit)


def _answer(settings: AlertSettings, unit: Unit) -> Response:
    return Response(orjson.dumps(settings_document(settings, unit)), media_type="application/json")
