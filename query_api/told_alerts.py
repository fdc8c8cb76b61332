"""What was told of a subject's alerts, as people read it: of the row of the alerts table what concerns them."""

import datetime
import time

from pydantic import BaseModel, Field

from schemas.alert import (
    THRESHOLD_MGDL,
    AlertKind,
    AlertState,
    AlertStatus,
    RecentAlert,
    Snoozed,
    level_of,
    threshold_of,
    time_of_slot,
)
from schemas.fan_chart import DISCLAIMER


class ToldAlert(BaseModel):
    """An alert and what became of it."""

    alert_id: str
    kind: AlertKind
    status: AlertStatus
    threshold_mgdl: float | None
    probability: float | None
    calibrated: bool | None = Field(
        description="Of a probability: false at a threshold of one's own, where it is not fitted to what happened."
    )
    horizon_minutes: int | None
    glucose_mgdl: float | None
    issue_time: datetime.datetime
    onset_time: datetime.datetime | None
    lead_minutes: int | None
    rate_mgdl_per_minute: float | None = Field(description="Of falling_fast, below 0.")
    ended_time: datetime.datetime | None
    first_crossing: tuple[float, ...] = Field(
        description="P that the first crossing falls into each quarter of the hour, when it was raised; empty of kinds "
        "without a level."
    )
    reason: str = Field(description="Why it was raised, or that it was missed, in words, glucose in both units.")


class AlertsAnswer(BaseModel):
    subject_id: str
    holding: list[AlertKind] = Field(description="Alerts whose episode has not ended.")
    snoozed_until: dict[Snoozed, datetime.datetime]
    recent: list[ToldAlert] = Field(description="The newest first, twelve at most.")
    last_judged: datetime.datetime | None = Field(description="Last known point of the newest forecast looked at.")
    disclaimer: str = DISCLAIMER


def alerts_answer(subject_id: str, state: AlertState) -> AlertsAnswer:
    """Of now: a snooze that has ended is none."""
    now_ms = time.time() * 1000
    return AlertsAnswer(
        subject_id=subject_id,
        holding=list(state.episodes),
        snoozed_until={
            direction: datetime.datetime.fromtimestamp(until / 1000, datetime.UTC)
            for direction, until in state.snoozed_until_ms.items()
            if until > now_ms
        },
        recent=[_told(each) for each in reversed(state.recent)],
        last_judged=None if state.slot is None else time_of_slot(state.slot),
    )


def _told(alert: RecentAlert) -> ToldAlert:
    level, threshold = level_of(alert.kind), threshold_of(alert)
    return ToldAlert(
        **alert.model_dump(exclude={"slot", "onset_slot", "ended_slot", "horizon_minutes", "threshold_mgdl"}),
        threshold_mgdl=threshold,
        calibrated=None if level is None or alert.probability is None else threshold == THRESHOLD_MGDL[level],
        horizon_minutes=None if level is None else alert.horizon_minutes,
        issue_time=time_of_slot(alert.slot),
        onset_time=None if alert.onset_slot is None else time_of_slot(alert.onset_slot),
        ended_time=None if alert.ended_slot is None else time_of_slot(alert.ended_slot),
    )
