"""The policy of alerts: who is low knows, an episode makes one alert, and what became of each is told once."""

import datetime

import numpy as np
import pytest

from agents.core import data_watch
from agents.core.alert_policy import Seen, judge, onsets
from agents.core.minutes import band_of, in_band
from schemas.alert import OF_DIRECTION, AlertSettings, AlertState, ErrorChange, LevelKind, RecentAlert, RuleChange
from schemas.arrival import WatchState

LEVEL = [150.0] * 96
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
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


@pytest.mark.parametrize(("urgent", "common"), [("urgent_low", "low"), ("urgent_high", "high")])
def test_a_less_urgent_alert_never_holds_back_the_more_urgent_one(urgent: str, common: str) -> None:
    """Not by the cooldown after its episode has ended either, by release or by the hour."""
    both = {urgent: 0.95, common: 0.95}
    on = AlertSettings(high=RuleChange(enabled=True))
    _, told = run(
        seen(100, **{common: 0.95}), seen(101), *(seen(slot, **both) for slot in range(102, 110)), settings=on
    )
    assert places(told) == [(common, "raised", 100), (urgent, "raised", 102)]
    long = on.model_copy(update={"cooldown_minutes": 240})
    beyond = 65.0 if common == "low" else 200.0
    hour = (seen(101 + step, into(beyond, step), **{common: 0.95}) for step in range(12))
    _, told = run(seen(100, **{common: 0.95}), *hour, seen(113, into(beyond, 12), **both), settings=long)
    assert [each for each in places(told) if each[1] == "raised"] == [(common, "raised", 100), (urgent, "raised", 113)]


def test_the_more_urgent_alert_is_held_back_by_itself_and_holds_back_the_less_urgent_one() -> None:
    dips = [seen(100, urgent_low=0.9), seen(101), *(seen(slot, low=0.9, urgent_low=0.9) for slot in range(102, 107))]
    assert places(run(*dips)[1]) == [("urgent_low", "raised", 100), ("urgent_low", "raised", 106)]
    dips = [seen(100, urgent_low=0.9), seen(101), *(seen(slot, low=0.9) for slot in range(102, 107))]
    assert places(run(*dips)[1]) == [("urgent_low", "raised", 100), ("low", "raised", 106)]


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


@pytest.mark.parametrize("active", ["00:00-00:00", "07:00-07:00"])
def test_a_band_that_begins_when_it_ends_is_all_day(active: str) -> None:
    """There is no other way to write it: no clock shows 24:00."""
    settings = AlertSettings(low=RuleChange(active=active))
    assert all(in_band(band_of(active), minute) for minute in range(1440))
    assert len(run(seen(100, low=0.9, minute=600), settings=settings)[1]) == 1
    assert [each.status for each in watched(with_low(active=active), seen(100, into(65), minute=20))] == ["missed"]


def test_what_is_not_fresh_raises_nothing() -> None:
    assert run(seen(100, low=0.9, fresh=False))[1] == []


def test_an_ignored_alert_is_said_again_three_times_at_most() -> None:
    settings = AlertSettings(repeat_minutes=10)
    _, told = run(*(seen(slot, low=0.9) for slot in range(100, 112)), settings=settings)
    assert places(told) == [("low", "raised", 100), *(("low", "repeated", slot) for slot in (102, 104, 106))]
    assert len({each.alert_id for each in told}) == 1


def test_it_is_said_again_while_it_holds_although_who_is_low_knows() -> None:
    """Also where the probability swings below the rule's: the episode holds above half of it."""
    settings = AlertSettings(repeat_minutes=10)
    lows = [seen(102 + steps, into(62.0, steps), low=0.97) for steps in range(8)]
    _, told = run(seen(100, low=0.9), seen(101, low=0.9), *lows, settings=settings)
    said = [each for each in places(told) if each[1] != "hit"]
    assert said == [("low", "raised", 100), *(("low", "repeated", slot) for slot in (102, 104, 106))]
    _, told = run(seen(100, low=0.9), *(seen(slot, low=0.2) for slot in range(101, 104)), settings=settings)
    assert places(told) == [("low", "raised", 100), ("low", "repeated", 102)]


def test_it_is_not_said_again_once_it_does_not_hold_nor_while_nobody_wants_to_hear_of_it() -> None:
    settings = AlertSettings(repeat_minutes=10)
    _, told = run(seen(100, low=0.9), seen(101), seen(102, low=0.2), settings=settings)
    assert places(told) == [("low", "raised", 100)]
    held, _ = run(seen(100, low=0.9, minute=30), settings=settings)
    asleep = held.model_copy(update={"snoozed_until_ms": {"low": 1}})
    by_night = held.model_copy(
        update={"settings": AlertSettings(repeat_minutes=10, low=RuleChange(active="00:00-00:35"))}
    )
    for state, minute, repeats in ((held, 40, 1), (asleep, 40, 0), (by_night, 40, 0)):
        assert len(judge(state, seen(102, into(62.0, 0), low=0.97, minute=minute)).told) == repeats
    assert judge(held, seen(102, low=0.9, fresh=False)).told == ()


def test_an_alert_reaches_its_hour_and_is_said_again_then_where_none_can_come_anew() -> None:
    hourly = AlertSettings(repeat_minutes=60)
    steady = [seen(slot, low=0.95) for slot in range(100, 114)]
    assert places(run(*steady, settings=hourly)[1]) == [("low", "raised", 100), ("low", "raised", 112)]
    two_hours = AlertSettings(repeat_minutes=60, cooldown_minutes=120)
    state, told = run(*steady, settings=two_hours)
    assert places(told) == [("low", "raised", 100), ("low", "repeated", 112)]
    assert state.episodes == {}
    lows = [seen(101 + steps, into(62.0, steps), low=0.97) for steps in range(14)]
    said = [each for each in places(run(seen(100, low=0.95), *lows, settings=hourly)[1]) if each[1] != "hit"]
    assert said == [("low", "raised", 100), ("low", "repeated", 112)]
    _, told = run(*steady[:12], seen(113, low=0.95), settings=two_hours)
    assert places(told) == [("low", "raised", 100), ("low", "repeated", 113)]
    _, told = run(*steady[:12], seen(114, low=0.95), settings=two_hours)
    assert [each.status for each in told] == ["raised", "false"]


def test_a_low_that_was_said_again_in_the_hour_before_it_is_not_missed() -> None:
    settings = AlertSettings(repeat_minutes=30, cooldown_minutes=240)
    high = [seen(slot, low=0.95) for slot in range(80, 101)]
    then = [seen(slot, falling(slot, 104)) for slot in range(101, 110)]
    before, _ = run(*(seen(slot) for slot in range(70, 88)), settings=settings)
    told = []
    for one in (*(each for each in high if each.slot >= 88), *then):
        before, new = judge(before, one)
        told += new
    assert places(told) == [
        ("low", "raised", 88), ("low", "repeated", 94), ("low", "repeated", 100), ("low", "false", 88),
    ]  # fmt: skip


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


@pytest.mark.parametrize(("away", "told"), [(12, ["missed"]), (13, []), (96, []), (2000, [])])
def test_no_low_is_missed_of_hours_without_forecasts(away: int, told: list[str]) -> None:
    """After a gap of the sensor, or of readings that come newest first, the first forecast has hours before it of which
    none were made; those that follow have them too."""
    state, _ = run(*(seen(slot) for slot in range(100, 130)))
    first = 129 + away
    onset = first - 3
    state, found = judge(state, seen(first, falling(first, onset)))
    assert [each.status for each in found] == told
    state, found = judge(state, seen(first + 1, falling(first + 1, onset)))
    assert found == ()
    state, _ = judge(AlertState.from_json(state.to_row()), seen(first + 2))
    later = [judge(state, seen(slot, falling(slot, slot - 2))).told for slot in (first + 12, first + 14)]
    assert [[each.status for each in each_told] for each_told in later] == [told, ["missed"]]


def test_a_low_that_a_more_urgent_alert_spoke_of_is_not_missed() -> None:
    _, told = run(*(seen(slot) for slot in range(100, 115)), seen(115, urgent_low=0.9),
                  *(seen(slot, falling(slot, 120)) for slot in range(116, 125)))  # fmt: skip
    assert places(told) == [("urgent_low", "raised", 115)]


def test_interpolated_points_alone_are_no_low() -> None:
    only_ends = [at not in (93, 94, 95) for at in range(96)]
    past = [*LEVEL[:93], 60.0, 60.0, 60.0]
    _, told = run(*(seen(slot) for slot in range(100, 130)), seen(130, past, measured=only_ends))
    assert told == []


FALL = [150.0] * 50 + [120.0, 96.0, 72.0, 60.0, 58.0, 57.0, 57.0, 58.0, 60.0, 75.0, 90.0, 110.0]
"""Every quarter of an hour: through 70 soon after the reading of 72."""


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("reading", [72.0, 78.0, 71.0, 69.0])
def test_a_low_is_missed_once_however_often_a_sensor_measures(every: int, reading: float) -> None:
    full = np.interp(np.arange(3 * len(FALL) - 2), 3 * np.arange(len(FALL)), [*FALL[:52], reading, *FALL[53:]])
    slots = np.arange(full.size)
    held = np.interp(slots, slots[::every], full[::every])
    measured = [bool(slot % every == 0) for slot in slots]
    taken = [
        seen(300 + slot, list(held[slot - 95 : slot + 1]), measured=measured[slot - 95 : slot + 1])
        for slot in range(96, full.size)
        if measured[slot]
    ]
    assert [(each.kind, each.status) for each in run(*taken)[1]] == [("low", "missed")]


def test_an_alert_is_not_false_while_a_low_of_its_hour_waits_for_its_second_reading() -> None:
    """It began within the hour between two readings; at the first of them below, the hour and ten minutes are over."""
    waits = [*LEVEL[:91], 120.0, 90.0, 69.0, 65.0, 60.0]
    unknown = [at not in (91, 92, 93, 94) for at in range(96)]
    state, told = run(seen(100, low=0.9), seen(109, LEVEL), seen(114, waits, measured=unknown))
    assert places(told) == [("low", "raised", 100)]
    after = judge(state, seen(115, [*waits[1:], 58.0], measured=[*unknown[1:], True]))
    assert places(list(after.told)) == [("low", "hit", 100)]
    after = judge(state, seen(115, [*waits[1:], 80.0], measured=[*unknown[1:], True]))
    assert places(list(after.told)) == [("low", "false", 100)]


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


@pytest.mark.parametrize(
    ("kind", "threshold", "within", "beyond"),
    [
        ("high", 180.0, (180.0, 180.16), (181.0, 181.96)), ("urgent_high", 250.0, (250.0, 250.42), (251.0, 252.22)),
        ("high", 183.76, (183.76, 184.0), (185.0, 185.56)),
    ],
)  # fmt: skip
def test_what_is_shown_as_a_threshold_of_highs_is_not_above_it(
    kind: LevelKind, threshold: float, within: tuple[float, float], beyond: tuple[float, float]
) -> None:
    """In whole mg/dL, or in tenths of mmol/L: 10.0 are 180.16 mg/dL, 13.9 are 250.42, and 10.2 are 183.76."""
    assert [onsets(kind, seen(100, into(glucose)), threshold) for glucose in within] == [(), ()]
    assert [onsets(kind, seen(100, into(glucose)), threshold)[0].slot for glucose in beyond] == [98, 98]


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


def tail(*glucose: float) -> list[float]:
    """A past that was steady until then."""
    return [glucose[0]] * (96 - len(glucose)) + list(glucose)


@pytest.mark.parametrize("taken_back", ["in its slot", "with the next reading"])
def test_a_wrong_reading_that_was_taken_back_silences_nothing(taken_back: str) -> None:
    """Nobody is low who was shown so by mistake: neither the low that comes then nor a fast fall is kept from them."""
    wrong = seen(101, tail(95, 66))._replace(revision=2)
    corrected = [seen(101, tail(95, 92), low=0.1)._replace(revision=3)] * (taken_back == "in its slot")
    falls = [
        seen(102, tail(95, 92, 86), low=0.35), seen(103, tail(95, 92, 86, 81), low=0.6),
        seen(104, tail(95, 92, 86, 81, 75), low=0.9), seen(105, tail(95, 92, 86, 81, 75, 68), low=0.99),
    ]  # fmt: skip
    assert places(run(seen(100, tail(95)), wrong, *corrected, *falls)[1]) == [("low", "raised", 102)]
    row = AlertState.from_json(b'{"slot":101,"since":100,"beyond":{"low":101}}')  # of a version that remembered it
    assert [each.slot for each in judge(row, falls[0]).told] == [102]
    wrong = seen(101, tail(190, 66))._replace(revision=2)
    corrected = [seen(101, tail(190, 175))._replace(revision=3)] * (taken_back == "in its slot")
    falls = [seen(102, tail(190, 175, 160)), seen(103, tail(190, 175, 160, 140))]
    _, told = run(seen(100, tail(190)), wrong, *corrected, *falls)
    assert places(told) == [("falling_fast", "raised", 103)]


def test_a_reading_that_is_low_after_all_is_known_from_then_on() -> None:
    """A correction may say that somebody was low, too; and what was low before is told of by the past."""
    first, low = seen(101, tail(95, 92))._replace(revision=1), seen(101, tail(95, 66))._replace(revision=2)
    assert run(first, low, seen(102, tail(95, 66, 72), low=0.9))[1] == []


BATCH = 144
"""The slot at which a phone that was away uploads what it has: the forecasts of more than 15 minutes ago come late."""


@pytest.mark.parametrize(
    ("away", "onset", "told"),
    [
        (120, 136, []),  # nobody could have been told
        (120, 126, []),  # only in a part of the hour before
        (128, 128, ["missed"]),  # it went away when the low began: the hour before was forecast in time
        (139, 139, ["missed"]),  # known with a forecast that is of now again
        (120, 154, ["missed"]),  # the last that came late is over an hour ago
        (120, 152, []),
    ],
)
def test_nothing_is_missed_of_what_was_forecast_too_late_to_tell(away: int, onset: int, told: list[str]) -> None:
    lives = [
        seen(slot, falling(slot, onset), fresh=slot < away or slot > BATCH - 4,
             now_ms=max(slot, BATCH * (slot >= away)) * 300_000)
        for slot in range(90, 160)
    ]  # fmt: skip
    state, _ = run(*lives[:30])
    found = []
    for one in lives[30:]:
        state, new = judge(AlertState.from_json(state.to_row()), one)
        found += [each.status for each in new]
    assert found == told
    assert len(state.late) <= 24


def test_errors_that_come_and_go_leave_no_alert_of_a_low_undecided_nor_the_low_missed() -> None:
    state, _ = run(*(seen(slot) for slot in range(80, 100)), seen(100, low=0.9))
    watch = WatchState()
    state = state.model_copy(update={"settings": AlertSettings(sensor_error=ErrorChange(readings=1))})
    for minute in range(0, 40, 2):
        time = EPOCH + datetime.timedelta(minutes=500 + minute)
        watch, state, raised = data_watch.failed(watch, state, "ada", time, 0)
        watch, state, ended = data_watch.read(watch, state, time + datetime.timedelta(minutes=1))
        assert [each.status for each in (*raised, *ended)] == ["raised", "ended"]
    _, told = judge(state, seen(110, falling(110, 108)))
    assert [(each.kind, each.status) for each in told] == [("low", "hit")]


def test_a_low_that_begins_in_the_slot_of_its_alert_is_a_hit_and_not_missed() -> None:
    """A sensor of a minute: an alert at 72 mg/dL, and the slot's last reading is low."""
    before = [seen(slot) for slot in range(90, 110)]
    raised = seen(110, tail(150, 72), low=0.9)._replace(revision=1)
    low = [
        seen(110, tail(150, 68), low=0.9)._replace(revision=2),
        *(seen(slot, falling(slot, 110)) for slot in range(111, 126)),
    ]
    _, told = run(*before, raised, *low)
    assert places(told) == [("low", "raised", 110), ("low", "hit", 110)]
    assert (told[1].onset_slot, told[1].lead_minutes) == (110, 0)
    _, told = run(*before, *low)
    assert places(told) == [("low", "missed", 110)]


def test_a_later_revision_that_comes_late_makes_no_slot_late() -> None:
    quiet = [seen(slot)._replace(revision=slot) for slot in range(90, 120)]
    again = seen(119, fresh=False)._replace(revision=120)
    assert [each.status for each in run(*quiet, again, seen(122, falling(122, 120)))[1]] == ["missed"]


@pytest.mark.parametrize(("begins", "ends", "told"), [(110, 200, ["missed"]), (0, 91, []), (0, 70, ["missed"])])
def test_a_snooze_is_of_the_hour_before_a_low_that_is_known_late_too(begins: int, ends: int, told: list[str]) -> None:
    """In slots: the low began at 100, and its readings came at 120; the phone was away from 100 on."""
    state, _ = run(*(seen(slot, now_ms=slot * 300_000) for slot in range(80, 100)))
    state = state.model_copy(
        update={"snoozed_from_ms": {"low": begins * 300_000}, "snoozed_until_ms": {"low": ends * 300_000}}
    )
    found = []
    for slot in (100, 101, 102):
        state, new = judge(state, seen(slot, falling(slot, 100), fresh=False, now_ms=120 * 300_000))
        found += [each.status for each in new]
    assert found == told
