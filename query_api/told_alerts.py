"""What was told of a subject's alerts, as people read it: of the row of the alerts table what concerns them."""

import datetime
import time

from pydantic import BaseModel, Field

from schemas.alert import THRESHOLD_MGDL, AlertKind, AlertState, AlertStatus, Direction, time_of_slot
from schemas.fan_chart import DISCLAIMER


class ToldAlert(BaseModel):
    """An alert and what became of it."""

    alert_id: str
    kind: AlertKind
    status: AlertStatus
    threshold_mgdl: float
    probability: float | None
    horizon_minutes: int
    glucose_mgdl: float
    issue_time: datetime.datetime
    onset_time: datetime.datetime | None
    lead_minutes: int | None


class AlertsAnswer(BaseModel):
    subject_id: str
    holding: list[AlertKind] = Field(description="Alerts whose episode has not ended.")
    snoozed_until: dict[Direction, datetime.datetime]
    recent: list[ToldAlert] = Field(description="The newest first, eight at most.")
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
        recent=[
            ToldAlert(
                **each.model_dump(exclude={"slot", "onset_slot"}),
                threshold_mgdl=THRESHOLD_MGDL[each.kind],
                issue_time=time_of_slot(each.slot),
                onset_time=None if each.onset_slot is None else time_of_slot(each.onset_slot),
            )
            for each in reversed(state.recent)
        ],
        last_judged=None if state.slot is None else time_of_slot(state.slot),
    )
