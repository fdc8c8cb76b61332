"""The alert of a fast fall: pure, one forecast at a time, after the alerts of levels.

The rule: over the last quarter of an hour, whose ends were both measured, by one sensor as far as anybody told, glucose
fell by 3 mg/dL a minute or more, it still falls, and it is below 150 mg/dL. Three a minute is what Dexcom's alert "Fall
Rate" calls very rapid (G5 Getting Started, 11.3: 2 is rapid); at that rate 150 mg/dL are below 70 in half an hour. On
AZT1D, Bris-T1D_Open and T1D-UOM it comes 0.3 to 0.5 times a day, and a low begins within the hour after 28 to 37 % of
them; without the level it is 0.6 to 1.1 times a day and 17 to 21 %.

One alert an episode, which ends when the fall is slower than two thirds of the rule, or after an hour. Nothing while or
shortly after glucose is low, while an alert of a low holds or its cooldown does, nor within a cooldown of its own. Who
snoozes lows snoozes it too.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.core.fingerprint import alert_id as id_of
from agents.core.minutes import Minutes, band_of, in_band
from schemas.alert import AlertSettings, AlertState, Episode, Preset, RecentAlert, remembered
from schemas.grid import HORIZON_STEPS, STEP_MINUTES

QUARTER_STEPS = 3
RELEASE = 2 / 3
_DEFAULT_RATE, _DEFAULT_BELOW_MGDL = 3.0, 150.0
_ENABLED: dict[Preset, bool] = {"quiet": False, "balanced": True, "early": True}


class Rule(NamedTuple):
    """Falls of `rate` mg/dL a minute or faster, below `below_mgdl`."""

    enabled: bool
    rate: float
    below_mgdl: float
    band: Minutes | None


class Seen(Protocol):
    """As much of a forecast as is looked at: see `agents.core.alert_policy.Seen`."""

    @property
    def subject_id(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def now_ms(self) -> int: ...
    @property
    def minute_of_day(self) -> int: ...
    @property
    def fresh(self) -> bool: ...
    @property
    def past_mgdl(self) -> NDArray[np.float64]: ...
    @property
    def measured(self) -> NDArray[np.bool_]: ...
    @property
    def one_sensor(self) -> bool: ...


def rule_of(settings: AlertSettings) -> Rule:
    """The preset's rule with the subject's changes."""
    change = settings.falling_fast
    return Rule(
        _ENABLED[settings.preset] if change.enabled is None else change.enabled,
        change.rate_mgdl_per_minute or _DEFAULT_RATE,
        change.below_mgdl or _DEFAULT_BELOW_MGDL,
        band_of(change.active),
    )


def rate_of(seen: Seen) -> float | None:
    """mg/dL a minute over the last quarter of an hour, below 0 where it falls; None where an end is not measured, or
    another sensor begins between them."""
    if not (seen.one_sensor and seen.measured[-1] and seen.measured[-1 - QUARTER_STEPS]):
        return None
    change = float(seen.past_mgdl[-1] - seen.past_mgdl[-1 - QUARTER_STEPS])
    return round(change / (QUARTER_STEPS * STEP_MINUTES), 2)


def judge(state: AlertState, seen: Seen, quiet: bool) -> tuple[AlertState, tuple[RecentAlert, ...]]:
    """What one forecast changes, and the alerts that it raised or ended. `quiet`: who is low knows."""
    rule, rate = rule_of(state.settings), rate_of(seen)
    told: list[RecentAlert] = []
    episode = state.episodes.get("falling_fast")
    if episode is not None:
        late = seen.slot - episode.slot >= HORIZON_STEPS
        again = seen.slot == episode.slot  # a later revision of the forecast that raised it
        if again or (not late and (rate is None or rate <= -RELEASE * rule.rate)):
            return state, ()
        state, ended = ended_of(state, episode, seen.slot)
        told += ended
    if rate is None or not _is_told(state, rule, rate, seen, quiet):
        return state, tuple(told)
    alert = RecentAlert(
        alert_id=id_of(seen.subject_id, "falling_fast", seen.slot), kind="falling_fast", status="raised",
        slot=seen.slot, glucose_mgdl=float(seen.past_mgdl[-1]), rate_mgdl_per_minute=rate,
    )  # fmt: skip
    update = {
        "episodes": {**state.episodes, "falling_fast": Episode(alert_id=alert.alert_id, slot=seen.slot)},
        "recent": remembered((*state.recent, alert)),
        "fell": seen.slot,
    }
    return state.model_copy(update=update), (*told, alert)


def ended_of(state: AlertState, episode: Episode, slot: int) -> tuple[AlertState, list[RecentAlert]]:
    """The state without an episode that ended at a slot, and its alert as it is told; none that is not remembered."""
    told: list[RecentAlert] = []
    recent: list[RecentAlert] = []
    for alert in state.recent:
        ends = alert.alert_id == episode.alert_id and alert.status == "raised"
        recent.append(alert.model_copy(update={"status": "ended", "ended_slot": slot}) if ends else alert)
        told += recent[-1:] * ends
    episodes = {kind: each for kind, each in state.episodes.items() if each.alert_id != episode.alert_id}
    return state.model_copy(update={"episodes": episodes, "recent": tuple(recent)}), told


def _is_told(state: AlertState, rule: Rule, rate: float, seen: Seen, quiet: bool) -> bool:
    if not (rule.enabled and seen.fresh) or quiet or not in_band(rule.band, seen.minute_of_day):
        return False
    if rate > -rule.rate or seen.past_mgdl[-1] >= min(rule.below_mgdl, seen.past_mgdl[-2]):
        return False
    if state.snoozed_until_ms.get("low", 0) > seen.now_ms or {"low", "urgent_low"} & state.episodes.keys():
        return False
    cooldown = state.settings.cooldown_minutes // STEP_MINUTES
    before = (state.raised.get("low"), state.fell)
    return all(slot is None or seen.slot - slot >= cooldown for slot in before)
