"""Alerts, in one work with the chart that raises them: so an episode makes one, however often a forecast is delivered.

Judged are live forecasts of the served model. Of now is one whose last point is at most a quarter of an hour old when
its samples arrive; a simulated one has a clock of its own and is of now when it arrives.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents.calc.alert_rows import alerts_of, keep
from agents.core.deletions import is_covered
from agents.core.percent import chance_percent
from agents.work import CLOCKS_DIFFER_MS, Work
from schemas.alert import (
    DIRECTION,
    THRESHOLD_MGDL,
    Alert,
    AlertSettings,
    AlertState,
    LevelKind,
    RecentAlert,
    Snooze,
    level_of,
    threshold_of,
    time_of_slot,
)
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError
from schemas.fan_chart import FanChart
from schemas.grid import MGDL_PER_MMOLL, PAST_POINTS, PRESENT, STEP_MINUTES, STEP_SECONDS, slot_of
from schemas.metrics import ALERTS_TOLD
from schemas.tables import ALERTS_TABLE
from schemas.topics import ALERTS, FORECASTS

if TYPE_CHECKING:
    from agents.core.alert_policy import Seen

_PRESENT_MS = int(PRESENT.total_seconds() * 1000)
_AHEAD_MS = CLOCKS_DIFFER_MS + STEP_SECONDS * 500  # a last point lies on the grid


def consider(work: Work, chart: FanChart, base: FanChart) -> None:
    """Raise, repeat or decide alerts by this chart, and keep what is known of its subject.

    `base` is the chart before its fan was fitted to the subject: what happens is told by that.
    """
    if chart.kind != "live" or not chart.model_serves or chart.p_path is None:
        return
    from agents.core import alert_policy  # numpy: loaded with the step, which has it

    before = alerts_of(work, chart.series_key)
    seen = _seen(chart, work.message.timestamp_ms, _chances(base, before.settings))
    if work.message.topic == FORECASTS["live"].name:  # one order for all of a subject, the same when they come again
        seen = seen._replace(revision=work.message.offset)
    state, told = alert_policy.judge(before, seen)
    if state is before:
        return
    alerts = [_alert(each, chart, seen) for each in told]
    keep(work, chart.series_key, state, chart.began_ms, alerts)
    work.sends_first = work.sends_first or bool(alerts)  # the state says that they were sent
    for each in alerts:
        work.publish(ALERTS, chart.series_key, each)
        work.measure(ALERTS_TOLD, each.kind, each.status)


def change(work: Work, command: CacheCommand) -> str:
    """Settings or a snooze, and whose. Raises `MalformedRecordError` for a command that names no subject or change."""
    if command.series_key is None or (command.action == "snooze" and command.snooze is None):
        raise MalformedRecordError("a change of alerts names the subject as series_key, and what is to change")
    state = alerts_of(work, command.series_key)
    if not state.recent and state.slot is None:  # else it began with the forecasts that were judged
        state = state.model_copy(update={"began_ms": max(0, work.message.timestamp_ms)})
    if command.snooze is not None and command.action == "snooze":
        state = _snoozed(state, command.snooze, max(0, work.message.timestamp_ms))
    else:
        state = _ruled(state, command.alert_settings or AlertSettings())
    work.put(ALERTS_TABLE, command.series_key, state.to_row())
    return command.series_key


def _snoozed(state: AlertState, snooze: Snooze, now_ms: int) -> AlertState:
    """One that is prolonged, or ended, began when it began."""
    direction, until = snooze.direction, state.snoozed_until_ms
    holds = until.get(direction, 0) > now_ms
    begins = state.snoozed_from_ms if holds else state.snoozed_from_ms | {direction: now_ms}
    ends = until | {direction: snooze.until_ms}
    return state.model_copy(update={"snoozed_until_ms": ends, "snoozed_from_ms": begins})


def _ruled(state: AlertState, settings: AlertSettings) -> AlertState:
    """From now on by these settings: of a threshold that is another, no alert holds."""
    before = state.settings
    episodes, ruled = dict(state.episodes), dict(state.ruled)
    for kind in THRESHOLD_MGDL:
        if settings.threshold_of(kind) != before.threshold_of(kind):
            episodes.pop(kind, None)
        if state.slot is not None and (
            settings.preset != before.preset or getattr(settings, kind) != getattr(before, kind)
        ):
            ruled[kind] = state.slot
    return state.model_copy(update={"settings": settings, "episodes": episodes, "ruled": ruled})


def forget(work: Work, subject_id: str, up_to_ms: int, erases: bool) -> None:
    """What was told of a subject goes with its forecasts; how it wants to be told stays, unless all is erased."""
    if erases:
        work.delete(ALERTS_TABLE, subject_id)
        return
    state = alerts_of(work, subject_id)
    if not (state.recent or state.slot is not None) or not is_covered(work, up_to_ms, state.began_ms):
        return
    kept = AlertState(
        settings=state.settings, snoozed_until_ms=state.snoozed_until_ms, snoozed_from_ms=state.snoozed_from_ms
    )
    if kept == AlertState():
        work.delete(ALERTS_TABLE, subject_id)
    else:
        work.put(ALERTS_TABLE, subject_id, kept.model_copy(update={"began_ms": up_to_ms}).to_row())


def _chances(base: FanChart, settings: AlertSettings) -> dict[LevelKind, tuple[float, ...]]:
    """P of crossing each threshold of the settings within 15, 30, 45 and 60 minutes."""
    assert base.p_path is not None  # noqa: S101  looked at before
    chances = dict(zip(THRESHOLD_MGDL, base.p_path.rows(), strict=True))
    for kind, common in THRESHOLD_MGDL.items():
        if (threshold := settings.threshold_of(kind)) != common:
            from agents.core.own_thresholds import chances_above, chances_below
            from agents.core.path_events import path_events

            of_own = chances_below if DIRECTION[kind] == "low" else chances_above
            chances[kind] = of_own(base, threshold, path_events().bank)
    return chances


def _seen(chart: FanChart, now_ms: int, chances: Mapping[LevelKind, Sequence[float]]) -> Seen:
    import numpy as np

    from agents.core.alert_policy import Seen
    from agents.core.fast_fall import QUARTER_STEPS

    measured = np.ones(PAST_POINTS, dtype=bool)
    measured[[place for place in chart.interpolated_points if place < PAST_POINTS]] = False
    age_ms = now_ms - int(chart.issue_time.timestamp() * 1000)
    return Seen(
        subject_id=chart.series_key,
        slot=slot_of(chart.issue_time),
        now_ms=now_ms,
        minute_of_day=chart.issue_time.hour * 60 + chart.issue_time.minute,
        fresh=chart.simulated or -_AHEAD_MS <= age_ms <= _PRESENT_MS,
        past_mgdl=np.array(chart.past_mgdl),
        measured=measured,
        one_sensor=all(place < PAST_POINTS - QUARTER_STEPS for place in chart.changed_points),
        chances=chances,
    )


def _alert(told: RecentAlert, chart: FanChart, seen: Seen) -> Alert:
    issue = time_of_slot(told.slot).astimezone(chart.issue_time.tzinfo)
    onset = None if told.onset_slot is None else time_of_slot(told.onset_slot).astimezone(chart.issue_time.tzinfo)
    ended = None if told.ended_slot is None else time_of_slot(told.ended_slot).astimezone(chart.issue_time.tzinfo)
    own: dict[str, Any] = {"forecast_id": chart.forecast_id, "chart_id": chart.chart_id}
    level, threshold = level_of(told.kind), threshold_of(told)
    if level is not None and told.status in ("raised", "repeated"):
        path = seen.chances[level]
        parts = [path[0], *(late - early for early, late in itertools.pairwise(path))]
        own["first_crossing"] = tuple(round(part, 4) for part in parts)
    elif told.status != "raised":
        own = {}
    return Alert(
        alert_id=told.alert_id, status=told.status, kind=told.kind, subject_id=chart.series_key,
        threshold_mgdl=threshold, probability=told.probability,
        calibrated=None if level is None or told.probability is None else threshold == THRESHOLD_MGDL[level],
        horizon_minutes=told.horizon_minutes or None, glucose_mgdl=told.glucose_mgdl,
        issue_time=issue, onset_time=onset, lead_minutes=told.lead_minutes,
        rate_mgdl_per_minute=told.rate_mgdl_per_minute, ended_time=ended, reason=_reason(told, level, chart),
        simulated=chart.simulated, **own,
    )  # fmt: skip


def _reason(told: RecentAlert, level: LevelKind | None, chart: FanChart) -> str:
    """In words, glucose in both units."""
    threshold = threshold_of(told)
    if level is None or threshold is None:
        return _of_fall(told)
    limit = f"{'below' if DIRECTION[level] == 'low' else 'above'} {_spoken(threshold)}"
    if told.status == "missed":
        return f"glucose went {limit}, and no alert came in the hour before"
    if told.status == "hit":
        return f"glucose went {limit} {told.lead_minutes} min after the alert"
    if told.status == "false":
        return f"glucose did not stay {limit} for 15 min in the hour after the alert"
    if told.status == "unknown":
        return "no readings tell what became of the alert"
    trend = _trend(chart.past_mgdl)
    return (
        f"P({limit} within {told.horizon_minutes} min) is {'' if threshold == THRESHOLD_MGDL[level] else 'about '}"
        f"{chance_percent(told.probability or 0.0)} %; "
        f"{_spoken(told.glucose_mgdl or 0.0)} now and {trend}"
    )


def _of_fall(told: RecentAlert) -> str:
    if told.status == "ended":
        return "glucose does not fall so fast any more, or the hour after the alert is over"
    rate = -(told.rate_mgdl_per_minute or 0.0)
    return (
        f"glucose fell by {rate:.1f} mg/dL ({rate / MGDL_PER_MMOLL:.2f} mmol/L) a minute over 15 min; "
        f"{_spoken(told.glucose_mgdl or 0.0)} now"
    )


def _spoken(glucose_mgdl: float) -> str:
    return f"{glucose_mgdl:.0f} mg/dL ({glucose_mgdl / MGDL_PER_MMOLL:.1f} mmol/L)"


def _trend(past_mgdl: tuple[float, ...]) -> str:
    """Over the last quarter of an hour; steady within 1 mg/dL a minute, as sensors draw their level arrow."""
    rate = (past_mgdl[-1] - past_mgdl[-4]) / (3 * STEP_MINUTES)
    return "falling" if rate < -1.0 else "rising" if rate > 1.0 else "steady"
