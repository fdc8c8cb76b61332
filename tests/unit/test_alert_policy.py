"""The policy of alerts: who is low knows, an episode makes one alert, and what became of each is told once."""

import numpy as np
import pytest

from agents.core.alert_policy import Seen, judge
from schemas.alert import OF_DIRECTION, AlertSettings, AlertState, RecentAlert, RuleChange

LEVEL = [150.0] * 96
NOBODY = (0.0, 0.0, 0.0, 0.0)


def seen(slot: int, past: list[float] | None = None, *, fresh: bool = True, now_ms: int = 0, minute: int = 600,
         measured: list[bool] | None = None, **chances: float) -> Seen:  # fmt: skip
    """A forecast; a chance is of every horizon."""
    of = {kind: (chances.get(kind, 0.0),) * 4 for kinds in OF_DIRECTION.values() for kind in kinds}
    return Seen("ada", slot, now_ms, minute, fresh, np.array(past or LEVEL),
                np.array(measured or [True] * 96), of)  # type: ignore[arg-type]  # fmt: skip


def run(*forecasts: Seen, settings: AlertSettings | None = None) -> tuple[AlertState, list[RecentAlert]]:
    state, told = AlertState(settings=settings or AlertSettings()), []
    for one in forecasts:
        state, new = judge(state, one)
        told += new
    return state, told


def places(told: list[RecentAlert]) -> list[tuple[str, str, int]]:
    return [(each.kind, each.status, each.slot) for each in told]


def test_an_episode_makes_one_alert() -> None:
    _, told = run(*(seen(slot, low=0.9) for slot in range(100, 110)))
    assert places(told) == [("low", "raised", 100)]


def test_a_chance_that_swings_above_half_of_the_rule_is_the_same_episode() -> None:
    _, told = run(*(seen(100 + step, low=0.2 if step % 2 else 0.9) for step in range(11)))
    assert len(told) == 1


def test_after_release_the_cooldown_still_holds() -> None:
    _, told = run(seen(100, low=0.9), seen(101), seen(102, low=0.9), seen(105, low=0.9), seen(106, low=0.9))
    assert places(told) == [("low", "raised", 100), ("low", "raised", 106)]


def test_who_is_low_is_not_told_of_it_nor_for_a_quarter_of_an_hour_after() -> None:
    low = [*LEVEL[:-1], 65.0]
    after = [[*LEVEL[: -1 - steps], 65.0, *[75.0] * steps] for steps in range(5)]
    _, told = run(seen(100, low, low=0.9), *(seen(100 + steps, after[steps], low=0.9) for steps in range(1, 5)))
    assert places(told) == [("low", "raised", 104)]


def test_a_more_urgent_alert_passes_the_quiet_of_its_direction_once() -> None:
    _, told = run(seen(100, low=0.9), seen(101, low=0.9, urgent_low=0.9), seen(102, low=0.9, urgent_low=0.9))
    assert places(told) == [("low", "raised", 100), ("urgent_low", "raised", 101)]
    _, told = run(seen(100, low=0.9, urgent_low=0.9))
    assert places(told) == [("urgent_low", "raised", 100)]


def test_one_direction_does_not_silence_the_other() -> None:
    _, told = run(seen(100, urgent_high=0.9), seen(101, low=0.9))
    assert [each.kind for each in told] == ["urgent_high", "low"]


def test_snoozed_is_quiet_until_then() -> None:
    state = AlertState(snoozed_until_ms={"low": 5_000})
    state, told = judge(state, seen(100, low=0.9, now_ms=4_999))
    assert told == ()
    assert judge(state, seen(101, low=0.9, now_ms=5_000)).told[0].kind == "low"


@pytest.mark.parametrize(("minute", "count"), [(21 * 60 + 59, 0), (22 * 60, 1), (30, 1), (7 * 60, 0)])
def test_a_band_of_the_day_may_cross_midnight(minute: int, count: int) -> None:
    settings = AlertSettings(low=RuleChange(active="22:00-07:00"))
    assert len(run(seen(100, low=0.9, minute=minute), settings=settings)[1]) == count


def test_what_is_not_fresh_raises_nothing() -> None:
    assert run(seen(100, low=0.9, fresh=False))[1] == []


def test_an_ignored_alert_is_said_again_three_times_at_most() -> None:
    settings = AlertSettings(repeat_minutes=10)
    _, told = run(*(seen(slot, low=0.9) for slot in range(100, 112)), settings=settings)
    assert places(told) == [("low", "raised", 100), *(("low", "repeated", slot) for slot in (102, 104, 106))]
    assert len({each.alert_id for each in told}) == 1


def falling(slot: int, onset: int) -> list[float]:
    """150 mg/dL until 60 from `onset` on."""
    return [60.0 if at >= onset else 150.0 for at in range(slot - 95, slot + 1)]


def test_a_low_within_the_hour_is_a_hit_with_its_lead() -> None:
    _, told = run(seen(100, low=0.9), *(seen(slot, falling(slot, 105)) for slot in range(101, 120)))
    hit = told[1]
    assert places(told) == [("low", "raised", 100), ("low", "hit", 100)]
    assert (hit.alert_id, hit.lead_minutes, hit.onset_slot) == (told[0].alert_id, 25, 105)


def test_no_low_within_the_hour_is_false_and_no_readings_are_unknown() -> None:
    assert places(run(seen(100, low=0.9), seen(113), seen(114), seen(120))[1])[1:] == [("low", "false", 100)]
    assert places(run(seen(100, low=0.9), seen(300))[1])[1:] == [("low", "unknown", 100)]


def test_a_low_that_nobody_was_told_of_is_missed_once() -> None:
    _, told = run(*(seen(slot, falling(slot, 120)) for slot in range(100, 130)))
    assert places(told) == [("low", "missed", 120)]


def test_a_low_that_a_more_urgent_alert_spoke_of_is_not_missed() -> None:
    _, told = run(*(seen(slot) for slot in range(100, 115)), seen(115, urgent_low=0.9),
                  *(seen(slot, falling(slot, 120)) for slot in range(116, 125)))  # fmt: skip
    assert places(told) == [("urgent_low", "raised", 115)]


def test_interpolated_points_alone_are_no_low() -> None:
    only_ends = [at not in (93, 94, 95) for at in range(96)]
    past = [*LEVEL[:93], 60.0, 60.0, 60.0]
    _, told = run(*(seen(slot) for slot in range(100, 130)), seen(130, past, measured=only_ends))
    assert told == []


def test_an_earlier_or_repeated_forecast_changes_nothing() -> None:
    state, _ = run(seen(100, low=0.9), seen(105))
    for slot in (100, 103, 105):
        assert judge(state, seen(slot, low=0.9)) == (state, ())


def with_low(*, threshold: float | None = None, **rule: object) -> AlertSettings:
    return AlertSettings(low=RuleChange.model_validate({"threshold_mgdl": threshold, **rule}))


def into(glucose: float, ago: int = 2) -> list[float]:
    """A past that went down to a glucose so many points ago and stayed."""
    return [*LEVEL[: -ago - 1], *[glucose] * (ago + 1)]


def watched(settings: AlertSettings, last: Seen, before: int = 20) -> list[RecentAlert]:
    """What the last forecast tells, after so many quiet ones."""
    quiet = (seen(last.slot - step, minute=(last.minute_of_day - 5 * step) % 1440) for step in range(before, 0, -1))
    return run(*quiet, last, settings=settings)[1]


def test_somebody_with_a_threshold_of_their_own_is_quiet_below_it_and_told_what_became_of_it() -> None:
    own = with_low(threshold=85)
    _, told = run(seen(100, into(80, 0), low=0.9), settings=own)
    assert told == []
    _, told = run(seen(100, low=0.9), *(seen(100 + step, into(80, step - 2)) for step in range(2, 6)), settings=own)
    assert [(each.status, each.threshold_mgdl) for each in told] == [("raised", 85), ("hit", 85)]
    assert [each.status for each in watched(own, seen(100, into(80)))] == ["missed"]
    assert watched(AlertSettings(), seen(100, into(80))) == []


def test_an_alert_is_decided_by_the_threshold_that_it_spoke_of() -> None:
    state, _ = run(seen(100, low=0.9), settings=with_low(threshold=85))
    state = state.model_copy(update={"settings": AlertSettings()})
    _, told = judge(state, seen(104, into(80)))
    assert [(each.status, each.threshold_mgdl) for each in told] == [("hit", 85)]


@pytest.mark.parametrize(
    ("band", "minute", "told"),
    [
        ("22:00-07:00", 12 * 60, []), ("22:00-07:00", 3 * 60, ["missed"]), ("22:00-07:00", 22 * 60 + 30, []),
        ("22:00-07:00", 23 * 60 + 15, ["missed"]), ("22:00-07:00", 7 * 60 + 5, ["missed"]),
        ("22:00-07:00", 7 * 60 + 30, []),
        ("22:00-07:00", 20, ["missed"]),
    ],
)  # fmt: skip
def test_missed_is_what_the_band_asked_for_throughout_the_hour_before(band: str, minute: int, told: list[str]) -> None:
    """The low began ten minutes before the minute of the forecast."""
    found = watched(with_low(active=band), seen(100, into(65), minute=minute))
    assert [each.status for each in found] == told


@pytest.mark.parametrize(
    ("begins", "ends", "told"),
    [(0, 29, ["missed"]), (0, 31, []), (40, 200, []), (91, 200, ["missed"]), (0, 200, []), (0, 0, ["missed"])],
)
def test_missed_counts_a_snooze_by_the_hour_before_the_low(begins: int, ends: int, told: list[str]) -> None:
    """Minutes: the low begins at 90, which is known at 100."""
    state, _ = run(*(seen(slot) for slot in range(80, 100)))
    state = state.model_copy(
        update={"snoozed_from_ms": {"low": begins * 60_000}, "snoozed_until_ms": {"low": ends * 60_000}}
    )
    assert [each.status for each in judge(state, seen(100, into(65), now_ms=100 * 60_000)).told] == told


def test_nothing_was_missed_by_a_rule_that_was_another_in_the_hour_before() -> None:
    state, _ = run(*(seen(slot) for slot in range(70, 100)))
    for ruled, told in ((99, []), (86, []), (85, ["missed"])):
        later = state.model_copy(update={"ruled": {"low": ruled}})
        assert [each.status for each in judge(later, seen(100, into(65))).told] == told


@pytest.mark.parametrize(
    "thresholds", [{"low": 54.0}, {"urgent_low": 70.0}, {"high": 250.0}, {"low": 120.0}, {"urgent_low": 44.0}]
)
def test_thresholds_out_of_order_or_range_are_no_settings(thresholds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        AlertSettings.model_validate({kind: {"threshold_mgdl": each} for kind, each in thresholds.items()})


def test_a_later_revision_of_a_slot_is_judged_and_no_earlier_one() -> None:
    """A sensor of a minute: of its first reading in a slot the trend is read too flat, of its third it is right."""
    first, better = seen(100)._replace(revision=7), seen(100, low=0.9)._replace(revision=8)
    state, told = run(first, better, better, first)
    assert places(told) == [("low", "raised", 100)]
    assert (state.slot, state.revision) == (100, 8)
    for unknown in (None, 6, 7):
        assert run(first, better._replace(revision=unknown))[1] == []
    assert run(seen(100), better)[1] == [], "a row of before knows no revision"


def test_a_later_revision_ends_nothing_and_says_nothing_again() -> None:
    settings = AlertSettings(repeat_minutes=5, cooldown_minutes=15)
    swings = [seen(100, low=chance, urgent_low=chance)._replace(revision=number)
              for number, chance in enumerate([0.9, 0.0, 0.9, 0.0, 0.9])]  # fmt: skip
    state, told = run(*swings, settings=settings)
    assert places(told) == [("urgent_low", "raised", 100)]
    fall = [*LEVEL[:-4], 190.0, 170.0, 155.0, 140.0]
    falls = [seen(100, past)._replace(revision=number) for number, past in enumerate([fall, LEVEL, fall])]
    state, told = run(*falls)
    assert places(told) == [("falling_fast", "raised", 100)]
    assert "falling_fast" in state.episodes


def test_a_low_that_only_a_later_revision_shows_is_missed_once() -> None:
    steady, low = [LEVEL] * 14, [*LEVEL[:-3], 65.0, 64.0, 63.0]
    not_yet = [*LEVEL[:-3], 65.0, 64.0, 71.0]
    before = [seen(100 + step, past) for step, past in enumerate(steady)]
    last = [seen(114, past)._replace(revision=number) for number, past in enumerate([not_yet, low, low])]
    _, told = run(*before, *last, seen(115, [*low[1:], 62.0]))
    assert [each for each in places(told) if each[1] == "missed"] == [("low", "missed", 112)]
