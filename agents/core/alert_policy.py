"""When a person is told: a pure state machine over the forecasts of one subject.

A rule fires where P(crossing its threshold within its horizon) reaches its probability. What follows is quiet:

* one alert an episode, which ends when the probability has fallen to half of the rule's (hysteresis), or when the hour
  that the alert spoke of is over;
* nothing new while glucose is beyond the threshold, nor for 15 minutes after: who is low knows. It is what the past of
  this forecast tells: a wrong reading that was taken back since silences nothing;
* who wants it said again hears it as long as the episode holds, low or not, and at the end of its hour, where no new
  alert comes then;
* alerts of one direction share one cooldown, but that a more urgent one is held back by its own kind alone;
* a threshold is that of the settings, and what became of an alert is judged by the threshold that it spoke of;
* nothing while snoozed, nothing outside the rule's band of the day, nothing from a forecast that is not fresh;
* a forecast that is not newer than the last one judged changes nothing, so repeats and their order do not matter. Of
  one slot a later revision is newer: a sensor of a minute has its reading nearest to the slot's time two minutes after
  its first there. It raises what the first did not, and ends nothing that the first raised.

A fast fall is an alert of its own (`agents.core.fast_fall`), judged after the levels: who is told of a low needs no
second alert. What became of an alert of a level is read from the past that later forecasts carry. A low is three points
(15 minutes) below the threshold, at least two of them measured; it counts where it begins within the hour after the
alert, and is known with the later of the third point and the second measured one. It was missed where somebody could
have been told throughout the hour before and was not: forecasts of now, the rule as it is, its band of the day, no
snooze.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.core import fast_fall
from agents.core.fingerprint import alert_id as id_of
from agents.core.minutes import band_of, in_band
from schemas.alert import (
    DIRECTION,
    LATE_STEPS,
    MOST_REPEATS,
    OF_DIRECTION,
    THRESHOLD_MGDL,
    AlertSettings,
    AlertState,
    Direction,
    Episode,
    LevelKind,
    Preset,
    RecentAlert,
    level_of,
    remembered,
)
from schemas.grid import HORIZON_STEPS, STEP_MINUTES, STEP_SECONDS, highest_within

STEP_MS = STEP_SECONDS * 1000
MINUTES_A_DAY = 1440
RELEASE = 0.5
AFTER_STEPS = 3
SUSTAINED, MEASURED = 3, 2
_OUTSIDE = np.zeros(1, dtype=bool)


class Rule(NamedTuple):
    """`band`: minutes of the day from and to, over midnight where it begins after it ends; None all day."""

    enabled: bool
    probability: float
    horizon_minutes: int
    band: tuple[int, int] | None = None


PRESETS: Mapping[Preset, Mapping[LevelKind, Rule]] = {
    "quiet": {
        "urgent_low": Rule(True, 0.30, 45),
        "low": Rule(True, 0.45, 30),
        "high": Rule(False, 0.80, 30),
        "urgent_high": Rule(True, 0.80, 30),
    },
    "balanced": {
        "urgent_low": Rule(True, 0.20, 45),
        "low": Rule(True, 0.28, 30),
        "high": Rule(False, 0.70, 30),
        "urgent_high": Rule(True, 0.70, 30),
    },
    "early": {
        "urgent_low": Rule(True, 0.10, 45),
        "low": Rule(True, 0.15, 30),
        "high": Rule(True, 0.60, 30),
        "urgent_high": Rule(True, 0.50, 30),
    },
}
"""Chosen on the operating curves of AZT1D and Bris-T1D_Open, each held out. On three studies held out in turn the low
alert is false 0.7 to 0.9, 1.3 to 1.7 and 2.2 to 2.7 times a day (`glucast evaluate alerts`)."""


class Seen(NamedTuple):
    """A forecast: past_mgdl and measured (96,), oldest first, ending at `slot`; chances: P of crossing the threshold of
    each kind, as the settings have it, within 15, 30, 45 and 60 minutes.

    `now_ms`: when it arrived; `minute_of_day`: local, of the last point; `fresh`: whether it is of now; `one_sensor`:
    whether the last quarter of an hour is of one, as far as anybody told; `revision`: of several forecasts of a slot
    which came later, None where that is not known: it is judged only where it is its slot's first.
    """

    subject_id: str
    slot: int
    now_ms: int
    minute_of_day: int
    fresh: bool
    past_mgdl: NDArray[np.float64]
    measured: NDArray[np.bool_]
    chances: Mapping[LevelKind, Sequence[float]]
    one_sensor: bool = True
    revision: int | None = None


class Judged(NamedTuple):
    """The state after a forecast, and the alerts that it raised, repeated or decided."""

    state: AlertState
    told: tuple[RecentAlert, ...]


def rule_of(settings: AlertSettings, kind: LevelKind) -> Rule:
    """The preset's rule with the subject's changes."""
    preset, change = PRESETS[settings.preset][kind], getattr(settings, kind)
    return Rule(
        preset.enabled if change.enabled is None else change.enabled,
        change.probability or preset.probability,
        change.horizon_minutes or preset.horizon_minutes,
        band_of(change.active),
    )


def judge(state: AlertState, seen: Seen) -> Judged:
    """What one forecast changes."""
    if not _is_newer(state, seen):
        return Judged(state, ())
    beyond = _last_beyond(state.settings, seen)
    recent, told = _outcomes(state, seen)
    raised: list[RecentAlert] = []
    episodes, last, last_urgent = dict(state.episodes), dict(state.raised), dict(state.raised_urgent)
    for direction, kinds in OF_DIRECTION.items():
        quiet = state.snoozed_until_ms.get(direction, 0) > seen.now_ms
        for kind in kinds:
            rule = rule_of(state.settings, kind)
            chance = seen.chances[kind][rule.horizon_minutes // 15 - 1]
            episode = episodes.get(kind)
            over = beyond.get(kind) != seen.slot and chance <= RELEASE * rule.probability
            if episode is not None and episode.slot < seen.slot and over:
                del episodes[kind]
                episode = None
            if episode is not None and seen.slot - episode.slot >= HORIZON_STEPS:
                del episodes[kind]
            if not (rule.enabled and seen.fresh) or quiet or not in_band(rule.band, seen.minute_of_day):
                continue
            before = (last_urgent if kind == kinds[0] else last).get(direction)
            if (
                kind in episodes
                or chance < rule.probability
                or seen.slot - beyond.get(kind, -AFTER_STEPS - 1) <= AFTER_STEPS
                or (before is not None and seen.slot - before < state.settings.cooldown_minutes // STEP_MINUTES)
                or (kind == kinds[1] and kinds[0] in episodes)
            ):
                if episode is not None and (again := _repeat(episode, kind, state.settings, seen, chance, rule)):
                    if kind in episodes:
                        episodes[kind] = episode.model_copy(update={"repeats": episode.repeats + 1})
                    raised.append(again)
                    recent = [_said_again(each, again) for each in recent]
                continue
            alert = RecentAlert(
                alert_id=id_of(seen.subject_id, kind, seen.slot), kind=kind, status="raised", slot=seen.slot,
                probability=round(float(chance), 4), horizon_minutes=rule.horizon_minutes,
                glucose_mgdl=float(seen.past_mgdl[-1]), threshold_mgdl=_own(state.settings, kind),
            )  # fmt: skip
            episodes[kind] = Episode(alert_id=alert.alert_id, slot=seen.slot)
            last[direction] = seen.slot
            if kind == kinds[0]:
                last_urgent[direction] = seen.slot
            raised.append(alert)
            recent.append(alert)
    levels = state.model_copy(
        update={
            "slot": seen.slot, "revision": seen.revision, "since": _since(state, seen), "late": _late(state, seen),
            "episodes": episodes, "raised": last, "raised_urgent": last_urgent, "recent": remembered(recent),
        }
    )  # fmt: skip
    after, falls = fast_fall.judge(levels, seen, quiet=beyond.get("low", -AFTER_STEPS - 1) >= seen.slot - AFTER_STEPS)
    return Judged(after, (*told, *raised, *falls))


def _is_newer(state: AlertState, seen: Seen) -> bool:
    if state.slot is None or seen.slot != state.slot:
        return state.slot is None or seen.slot > state.slot
    return seen.revision is not None and state.revision is not None and seen.revision > state.revision


def _last_beyond(settings: AlertSettings, seen: Seen) -> dict[LevelKind, int]:
    """The last slot beyond each threshold, where the past has one: it reaches back farther than any quiet after it."""
    found: dict[LevelKind, int] = {}
    for kind in THRESHOLD_MGDL:
        (where,) = _beyond(kind, seen.past_mgdl, settings.threshold_of(kind)).nonzero()
        if where.size:
            found[kind] = _slot(seen, int(where[-1]))
    return found


def _repeat(
    episode: Episode, kind: LevelKind, settings: AlertSettings, seen: Seen, chance: float, rule: Rule
) -> RecentAlert | None:
    """The alert said again, where it is time and what became of it is not decided by its hour being over."""
    every, age = settings.repeat_minutes, seen.slot - episode.slot
    if every is None or episode.repeats >= MOST_REPEATS or age >= HORIZON_STEPS + SUSTAINED - 1:
        return None
    if age * STEP_MINUTES < every * (episode.repeats + 1):
        return None
    return RecentAlert(
        alert_id=episode.alert_id, kind=kind, status="repeated", slot=seen.slot, probability=round(float(chance), 4),
        horizon_minutes=rule.horizon_minutes, glucose_mgdl=float(seen.past_mgdl[-1]),
        threshold_mgdl=_own(settings, kind),
    )  # fmt: skip


def _said_again(alert: RecentAlert, again: RecentAlert) -> RecentAlert:
    same = alert.alert_id == again.alert_id
    return alert.model_copy(update={"repeated": (*alert.repeated, again.slot)[-MOST_REPEATS:]}) if same else alert


def _own(settings: AlertSettings, kind: LevelKind) -> float | None:
    """A threshold that is not the one which all have."""
    threshold = settings.threshold_of(kind)
    return None if threshold == THRESHOLD_MGDL[kind] else threshold


def _outcomes(state: AlertState, seen: Seen) -> tuple[list[RecentAlert], list[RecentAlert]]:
    """The remembered alerts, decided as far as it is known now, and those that were decided now, with missed ones."""
    recent: list[RecentAlert] = []
    told: list[RecentAlert] = []
    for alert in state.recent:
        decided = _decided(alert, seen) if alert.status == "raised" else None
        recent.append(decided or alert)
        if decided is not None:
            told.append(decided)
    missed = list(_missed(state, recent, seen))
    return [*recent, *missed], [*told, *missed]


def _decided(alert: RecentAlert, seen: Seen) -> RecentAlert | None:
    level, age = level_of(alert.kind), seen.slot - alert.slot
    if level is None:
        return None
    threshold = THRESHOLD_MGDL[level] if alert.threshold_mgdl is None else alert.threshold_mgdl
    within = [one for one in onsets(level, seen, threshold) if 0 <= one.slot - alert.slot <= HORIZON_STEPS]
    onset = next((one.slot for one in within if one.known is not None), None)
    if onset is not None:
        lead = (onset - alert.slot) * STEP_MINUTES
        return alert.model_copy(update={"status": "hit", "onset_slot": onset, "lead_minutes": lead})
    if age < HORIZON_STEPS + SUSTAINED - 1 or any(one.goes_on for one in within):
        return None
    return alert.model_copy(update={"status": "false" if age < len(seen.past_mgdl) else "unknown"})


def _since(state: AlertState, seen: Seen) -> int:
    """Since when a subject is watched: anew from a forecast that the hour of the one before does not reach. So it is
    after a gap of the sensor, and where hours of readings come newest first: what lies between was never forecast."""
    if state.since is None or state.slot is None or seen.slot - state.slot > HORIZON_STEPS:
        return seen.slot
    return state.since


def _late(state: AlertState, seen: Seen) -> tuple[int, ...]:
    """Slots whose forecast came too late to tell anybody, as far back as the next one may ask: a low is known at most
    eight steps after it began, with its second reading, and counts by the hour before it."""
    kept = tuple(slot for slot in state.late if slot > seen.slot - LATE_STEPS)
    return kept if seen.fresh or seen.slot == state.slot else (*kept, seen.slot)


def _missed(state: AlertState, recent: Sequence[RecentAlert], seen: Seen) -> Iterator[RecentAlert]:
    """Lows that nobody was told of in the hour before, where somebody would have been: watched, wanted, not snoozed."""
    if state.slot is None:
        return
    since, late = _since(state, seen), _late(state, seen)
    judged = min(state.slot, seen.slot - 1)  # an earlier forecast of this slot may not have known yet
    for kind in THRESHOLD_MGDL:
        rule = rule_of(state.settings, kind)
        if not rule.enabled:
            continue
        watched = max(since, state.ruled.get(kind, -1) + 1)
        missed = {alert.onset_slot for alert in recent if alert.kind == kind and alert.status == "missed"}
        for onset, known, _ in onsets(kind, seen, state.settings.threshold_of(kind)):
            warns = OF_DIRECTION[DIRECTION[kind]][: OF_DIRECTION[DIRECTION[kind]].index(kind) + 1]  # or more urgent
            if known is None or known <= judged or onset in missed or watched > onset - HORIZON_STEPS:
                continue
            if any(_came_before(alert, onset) for alert in recent if alert.kind in warns):
                continue
            if any(onset - HORIZON_STEPS <= slot < onset for slot in late):
                continue
            if _was_snoozed(state, DIRECTION[kind], seen, onset) or not _was_in_band(rule, seen, onset):
                continue
            place = onset - _slot(seen, 0)
            yield RecentAlert(
                alert_id=id_of(seen.subject_id, kind, onset), kind=kind, status="missed", slot=onset,
                onset_slot=onset, glucose_mgdl=float(seen.past_mgdl[place]),
                threshold_mgdl=_own(state.settings, kind),
            )  # fmt: skip


def _came_before(alert: RecentAlert, onset: int) -> bool:
    """Whether an alert was told in the hour before an onset. One that was raised in its slot came with an earlier
    reading than the one that is low: nobody is told who is low."""
    if alert.status != "missed" and alert.slot == onset:
        return True
    return any(0 < onset - slot <= HORIZON_STEPS for slot in (alert.slot, *alert.repeated))


def _was_snoozed(state: AlertState, direction: Direction, seen: Seen, onset: int) -> bool:
    """Whether a snooze held at any time of the hour before an onset, which came as long before this forecast as its
    slot lies before the forecast's; one that came late is counted from its own time. A snooze that began later, of who
    was low and knew it, is none of then."""
    came_ms = (seen.now_ms if seen.fresh else seen.slot * STEP_MS) - (seen.slot - onset) * STEP_MS
    begins, ends = state.snoozed_from_ms.get(direction, 0), state.snoozed_until_ms.get(direction, 0)
    return begins < came_ms and ends > came_ms - HORIZON_STEPS * STEP_MS


def _was_in_band(rule: Rule, seen: Seen, onset: int) -> bool:
    """Whether the rule's band of the day held throughout the hour before an onset."""
    at_onset = seen.minute_of_day - (seen.slot - onset) * STEP_MINUTES
    hour = range(STEP_MINUTES, (HORIZON_STEPS + 1) * STEP_MINUTES, STEP_MINUTES)
    return all(in_band(rule.band, (at_onset - before) % MINUTES_A_DAY) for before in hour)


class Onset(NamedTuple):
    """Where a time beyond a threshold begins; `known`: the slot with which it was a sustained one, None where it is not
    so far; `goes_on`: whether the last point of the past belongs to it."""

    slot: int
    known: int | None
    goes_on: bool


def onsets(kind: LevelKind, seen: Seen, threshold_mgdl: float) -> tuple[Onset, ...]:
    """The times beyond a threshold that the past tells of; the first point of the past begins none, because what was
    before it is not known."""
    beyond = _beyond(kind, seen.past_mgdl, threshold_mgdl)
    if not beyond.any():
        return ()
    padded = np.concatenate([_OUTSIDE, beyond, _OUTSIDE])
    edges = (padded[1:] != padded[:-1]).nonzero()[0].tolist()
    found = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if begin == 0:
            continue
        measured = seen.measured[begin:end].nonzero()[0].tolist()
        sustained = end - begin >= SUSTAINED and len(measured) >= MEASURED
        known = begin + max(SUSTAINED - 1, measured[MEASURED - 1]) if sustained else None
        found.append(Onset(_slot(seen, begin), None if known is None else _slot(seen, known), end == len(beyond)))
    return tuple(found)


def _beyond(kind: LevelKind, glucose_mgdl: NDArray[np.float64], threshold_mgdl: float) -> NDArray[np.bool_]:
    is_low = DIRECTION[kind] == "low"
    return glucose_mgdl < threshold_mgdl if is_low else glucose_mgdl > highest_within(threshold_mgdl)


def _slot(seen: Seen, place: int) -> int:
    return seen.slot - len(seen.past_mgdl) + 1 + place
