"""What was told of a subject's alerts, as people read it: of the row of the alerts table what concerns them."""

import datetime
import time
from collections.abc import Mapping

from pydantic import BaseModel, Field

from query_api.projections.fan_charts import ChartRow
from schemas.alert import (
    THRESHOLD_MGDL,
    URGENT_FIRST,
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
from schemas.grid import HORIZON_STEPS

HOLDING = "Alerts that hold now, the most urgent first: whose episode has not ended, and of forecasts not its hour."
HOLDING_UNTIL = (
    "Until when at most those of them hold that forecasts raise, also if no forecast follows; of data they hold until "
    "readings end them."
)


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
    holding: list[AlertKind] = Field(description=HOLDING)
    holding_until: dict[AlertKind, datetime.datetime] = Field(description=HOLDING_UNTIL)
    snoozed_until: dict[Snoozed, datetime.datetime]
    recent: list[ToldAlert] = Field(description="The newest first, twelve at most.")
    last_judged: datetime.datetime | None = Field(description="Last known point of the newest forecast looked at.")
    disclaimer: str = DISCLAIMER


def alerts_answer(subject_id: str, state: AlertState, newest: ChartRow | None = None) -> AlertsAnswer:
    """Of now: a snooze that has ended is none. `newest` is the subject's latest forecast."""
    now_ms = time.time() * 1000
    holds = holding(state, newest)
    return AlertsAnswer(
        subject_id=subject_id,
        holding=list(holds),
        holding_until=known_ends(holds),
        snoozed_until={
            direction: datetime.datetime.fromtimestamp(until / 1000, datetime.UTC)
            for direction, until in state.snoozed_until_ms.items()
            if until > now_ms
        },
        recent=[_told(each) for each in reversed(state.recent)],
        last_judged=None if state.slot is None else time_of_slot(state.slot),
    )


def holding(state: AlertState, newest: ChartRow | None) -> dict[AlertKind, datetime.datetime | None]:
    """Alerts that hold now, the most urgent first, each with when it is over at most; None: when readings end it.

    An episode ends by another forecast. Where none comes, as without a sensor, the hour that an alert of a forecast
    spoke of is over all the same. A simulated subject has a clock of its own, which showed the issue time of its newest
    forecast when that was computed.
    """
    now, off = datetime.datetime.now(datetime.UTC), datetime.timedelta(0)
    found: dict[AlertKind, datetime.datetime | None] = {}
    if state.episodes and newest is not None and newest.chart.simulated:
        off = newest.chart.computed_at - newest.chart.issue_time
    for kind in URGENT_FIRST:
        if (episode := state.episodes.get(kind)) is None:
            continue
        if kind in ("stale_data", "sensor_error"):
            found[kind] = None
        elif (end := time_of_slot(episode.slot + HORIZON_STEPS) + off) > now:
            found[kind] = end
    return found


def known_ends(holds: Mapping[AlertKind, datetime.datetime | None]) -> dict[AlertKind, datetime.datetime]:
    """Of those of them whose end is known."""
    return {kind: end for kind, end in holds.items() if end is not None}


def _told(alert: RecentAlert) -> ToldAlert:
    level, threshold = level_of(alert.kind), threshold_of(alert)
    return ToldAlert(
        **alert.model_dump(exclude={"slot", "onset_slot", "ended_slot", "horizon_minutes", "threshold_mgdl"}),
        threshold_mgdl=threshold,
        calibrated=None if level is None or alert.probability is None else threshold == THRESHOLD_MGDL[level],
        horizon_minutes=alert.horizon_minutes or None,
        issue_time=time_of_slot(alert.slot),
        onset_time=None if alert.onset_slot is None else time_of_slot(alert.onset_slot),
        ended_time=None if alert.ended_slot is None else time_of_slot(alert.ended_slot),
    )
