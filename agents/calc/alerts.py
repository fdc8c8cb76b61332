"""Alerts, in one work with the chart that raises them: so an episode makes one, however often a forecast is delivered.

Judged are live forecasts of the served model. Of now is one whose last point is at most a quarter of an hour old when
its samples arrive; a simulated one has a clock of its own and is of now when it arrives.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents.calc.alert_rows import alerts_of, keep
from agents.core.deletions import is_deleted, of_erased
from agents.core.percent import chance_percent
from agents.work import CLOCKS_DIFFER_MS, Work
from schemas.alert import (
    DIRECTION,
    OF_DIRECTION,
    THRESHOLD_MGDL,
    Alert,
    AlertKind,
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
from schemas.tables import ALERTS_TABLE, DELETIONS_TABLE
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
        seen = seen._replace(revision=work.message.first_offset)
    state, told = alert_policy.judge(before, seen)
    if state is before:
        return
    state = state.model_copy(update={"judged_ms": chart.began_ms})
    alerts = [_alert(each, chart, seen) for each in told]
    keep(work, chart.series_key, state, chart.began_ms, alerts)
    work.sends_first = work.sends_first or bool(alerts)  # the state says that they were sent
    for each in alerts:
        work.publish(ALERTS, chart.series_key, each)
        work.measure(ALERTS_TOLD, each.kind, each.status)


def change(work: Work, command: CacheCommand) -> str | None:
    """Settings or a snooze, and whose; None of one that came before what holds, or that an erasure came after.

    Raises `MalformedRecordError` for a command that names no subject or change.
    """
    if command.series_key is None or (command.action == "snooze" and command.snooze is None):
        raise MalformedRecordError("a change of alerts names the subject as series_key, and what is to change")
    message, came_ms = work.message, max(0, work.message.came_ms)
    state = alerts_of(work, command.series_key)
    snooze = command.snooze if command.action == "snooze" else None
    last_ms = state.settings_ms if snooze is None else state.snoozed_ms.get(snooze.direction, 0)
    if message.first is None:  # such come in their order, whatever the clocks of two brokers say
        last_ms -= CLOCKS_DIFFER_MS
    if came_ms < last_ms:
        return None
    whose = of_erased(command.series_key)
    if message.first is not None and is_deleted(work, DELETIONS_TABLE, whose, came_ms):
        return None  # erased since
    if not state.recent and state.slot is None:  # else it began with the forecasts that were judged
        state = state.model_copy(update={"began_ms": max(came_ms, state.began_ms)})
    if snooze is not None:
        state = _snoozed(state, snooze, came_ms)
    else:
        state = _ruled(state, command.alert_settings or AlertSettings(), came_ms)
    work.put(ALERTS_TABLE, command.series_key, state.to_row())
    return command.series_key


def _snoozed(state: AlertState, snooze: Snooze, now_ms: int) -> AlertState:
    """One that is prolonged, or ended, began when it began."""
    direction, until = snooze.direction, state.snoozed_until_ms
    holds = until.get(direction, 0) > now_ms
    begins = state.snoozed_from_ms if holds else state.snoozed_from_ms | {direction: now_ms}
    ends, ordered = until | {direction: snooze.until_ms}, state.snoozed_ms | {direction: now_ms}
    return state.model_copy(update={"snoozed_until_ms": ends, "snoozed_from_ms": begins, "snoozed_ms": ordered})


def _ruled(state: AlertState, settings: AlertSettings, now_ms: int) -> AlertState:
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
    ruled_by = {"settings": settings, "settings_ms": now_ms}
    return state.model_copy(update={**ruled_by, "episodes": episodes, "ruled": ruled})


def forget(work: Work, subject_id: str, up_to_ms: int, erases: bool) -> None:
    """What was told of a subject goes with its forecasts; how it wants to be told stays, unless all is erased.

    What began after `up_to_ms` stays in any case: the command may be read behind it, or again.
    """
    before = alerts_of(work, subject_id)
    kept = _told_since(before, up_to_ms)
    if erases:
        kept = _wanted_since(kept, up_to_ms)
    if kept == before and not erases:
        return
    if kept.model_copy(update={"began_ms": 0, "settings_ms": 0, "snoozed_ms": {}}) == AlertState():
        work.delete(ALERTS_TABLE, subject_id)
    elif kept != before:
        work.put(ALERTS_TABLE, subject_id, kept.to_row())


def _told_since(state: AlertState, up_to_ms: int) -> AlertState:
    """Without what was told and judged by what began up to then: of alerts each, of forecasts all if the last did."""
    recent = tuple(each for each in state.recent if (each.began_ms or state.began_ms) > up_to_ms)
    is_judged = state.slot is not None and (state.judged_ms or state.began_ms) > up_to_ms
    if recent == state.recent and (is_judged or state.slot is None):
        return state
    names = {each.alert_id for each in recent}
    told: dict[str, Any] = {
        "recent": recent,
        "episodes": {kind: each for kind, each in state.episodes.items() if each.alert_id in names},
    }
    if is_judged:
        return state.model_copy(update={**told, **_cooldowns(state, recent), "since": state.slot})
    began_ms = max([up_to_ms, state.settings_ms, *state.snoozed_ms.values(), *(each.began_ms for each in recent)])
    return AlertState(
        settings=state.settings, settings_ms=state.settings_ms, snoozed_until_ms=state.snoozed_until_ms,
        snoozed_from_ms=state.snoozed_from_ms, snoozed_ms=state.snoozed_ms,
    ).model_copy(update={**told, "began_ms": began_ms})  # fmt: skip


def _cooldowns(state: AlertState, recent: Sequence[RecentAlert]) -> dict[str, Any]:
    """Those of alerts that are left: who was told of nothing is held back by nothing."""

    def left(slot: int | None, *kinds: AlertKind) -> bool:
        return any(each.slot == slot and each.kind in kinds for each in recent)

    raised, urgent = (
        {direction: slot for direction, slot in last.items() if left(slot, *OF_DIRECTION[direction])}
        for last in (state.raised, state.raised_urgent)
    )
    return {"raised": raised, "raised_urgent": urgent, "fell": state.fell if left(state.fell, "falling_fast") else None}


def _wanted_since(state: AlertState, up_to_ms: int) -> AlertState:
    """Without the settings and snoozes that were ordered up to then; of a row that does not say when, all were."""
    later = {direction for direction, ordered_ms in state.snoozed_ms.items() if ordered_ms > up_to_ms}
    update: dict[str, Any] = {
        name: {direction: ms for direction, ms in getattr(state, name).items() if direction in later}
        for name in ("snoozed_until_ms", "snoozed_from_ms", "snoozed_ms")
    }
    if state.settings_ms <= up_to_ms:
        update |= {"settings": AlertSettings(), "settings_ms": 0}
    return state.model_copy(update=update)


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
    for place in chart.interpolated_points:
        if place < PAST_POINTS:
            measured[place] = False
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
        rate_mgdl_per_minute=told.rate_mgdl_per_minute, ended_time=ended, began_ms=max(chart.began_ms, told.began_ms),
        reason=_reason(told, level, chart), simulated=chart.simulated, **own,
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
