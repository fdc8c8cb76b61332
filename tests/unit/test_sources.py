"""Several devices of one person: who speaks, where they disagree, and where another sensor begins."""

import datetime
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core import sources
from agents.core.rolling_window import RollingWindow, Verdict, place
from agents.core.sources import Policy, source_of

START = datetime.datetime(2026, 3, 1, 6, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
MINUTE = datetime.timedelta(minutes=1)
LATE_SLOTS = 24
ARM = Policy(source_of("arm"), 15)
FIRST = place(START, 100.0, 0)[0]

Sent = tuple[float, str | None, float]
"""Minutes from START, device and mg/dL."""


def at(minutes: float) -> int:
    """Unix microseconds."""
    return round((START + minutes * MINUTE).timestamp()) * 1_000_000


class Person:
    """A window that takes what was sent, and is packed in between."""

    def __init__(self, policy: Policy = sources.ANYBODY, sessions: tuple[int, ...] = ()) -> None:
        self.row: bytes | None = None
        self.policy, self.sessions = policy, sessions

    def take(self, offset: int, sent: Sent, committed: int = 0, *, kept: bool = True) -> Verdict:
        minutes, device, glucose = sent
        window = RollingWindow.from_bytes(self.row, LATE_SLOTS)
        window.policy, window.sessions = self.policy, self.sessions
        verdict, changed = window.accept(*place(START + minutes * MINUTE, glucose, offset, device), committed)
        if changed and kept:
            self.row = window.to_bytes()
        return verdict

    def day(self, sent: list[Sent]) -> list[Verdict]:
        return [self.take(offset, each) for offset, each in enumerate(sent)]

    @property
    def window(self) -> RollingWindow:
        return RollingWindow.from_bytes(self.row, LATE_SLOTS)

    def heard(self) -> dict[int, float]:
        found = sources.heard(self.window.slots, self.policy)
        return {(slot - FIRST) * 5: held.centi / 100 for slot, held in sorted(found.items())}


def steady(device: str | None, minutes: range, glucose: float = 120.0) -> list[Sent]:
    return [(minute, device, glucose) for minute in minutes]


def test_the_preferred_device_has_its_slot_whoever_came_first_and_lies_nearer() -> None:
    for sent in ([(1, "arm", 120.0), (0, "leg", 130.0)], [(0, "leg", 130.0), (1, "arm", 120.0)]):
        person = Person(ARM)
        person.day(sent)
        assert person.heard() == {0: 120.0}
    person = Person(ARM)
    refused = person.day([(1, "arm", 120.0), (0, "leg", 130.0)])[1]
    assert (refused.status, refused.code, refused.kept) == ("no_forecast", "other_device", False)


def test_of_devices_that_nobody_prefers_the_nearest_counts() -> None:
    person = Person()
    person.day([(1, "arm", 120.0), (0, "leg", 130.0)])
    assert person.heard() == {0: 130.0}


def test_another_device_is_heard_once_the_preferred_one_is_silent_for_longer_than_the_wait() -> None:
    person = Person(ARM)
    person.day(steady("arm", range(0, 480, 5)))
    offset = 96
    verdicts = []
    for minute in range(480, 515, 5):
        verdicts.append(person.take(offset, (minute, "leg", 125.0)))
        offset += 1
    codes = [verdict.code for verdict in verdicts]
    assert codes == ["other_device"] * 3 + [None] * 4
    assert [verdict.expected for verdict in verdicts[:3]] == [FIRST + 99] * 3
    (issue,) = verdicts[3].issues
    assert issue.slot == FIRST + 99
    assert issue.past_centi[-5:] == [12000, 12500, 12500, 12500, 12500]
    assert not issue.interpolated_points
    back = person.take(offset, (515, "arm", 120.0))
    assert back.status == "forecast_requested"
    assert person.take(offset + 1, (520, "leg", 125.0)).code == "other_device"


def test_the_wait_is_of_the_readings_own_times_and_half_a_step_more_wherever_in_their_slots_they_lie() -> None:
    for shift in (-149, 0, 149):
        last = 475 + shift / 60
        before = Person(ARM)
        before.day([(5 * step + shift / 60, "arm", 110.0) for step in range(96)])
        for silent, is_heard in ((17.5, False), (17.6, True), (19.9, True), (20.1, True)):
            person = Person(ARM)
            person.row = before.row
            sent = [(last + silent - ago, "leg", 90.0) for ago in (10, 5, 0)]
            *first, then = (person.take(96 + number, each) for number, each in enumerate(sent))
            assert {verdict.code for verdict in first} == {"other_device"}
            assert "is heard after 17 min 30 s without it" in (first[-1].reason or "")
            assert (then.code != "other_device") == is_heard, (shift, silent)
            if silent > 19:
                assert {verdict.expected for verdict in first} == {place(START + sent[-1][0] * MINUTE, 90.0, 0)[0]}


def test_a_reading_that_ends_what_was_heard_of_another_device_takes_its_forecasts_back() -> None:
    """It is nearer to its five minutes than the one that was heard, and came too soon to be heard itself."""
    person = Person(ARM)
    arm = [(5 * step + 149 / 60, "arm", 100.0) for step in range(-96, 1)]
    *_, heard = person.day([*arm, *steady("leg", range(5, 20, 5)), (22, "leg", 120.0)])
    assert [issue.slot - FIRST for issue in heard.issues] == [4]
    late = person.take(101, (19.5, "leg", 120.0))
    assert (late.status, late.code, late.issues) == ("no_forecast", "other_device", [])
    assert [issue.slot - FIRST for issue in late.withheld] == [1, 2, 3, 4]
    assert max(person.heard()) == 0


def test_a_sensor_of_a_quarter_of_an_hour_that_is_seconds_late_is_heard_alone() -> None:
    for jitter in (0, 2, 20):
        chance = random.Random(1)
        arm = [(15 * step + 2.5 + chance.gauss(0, jitter) / 60, "arm", 100.0) for step in range(40)]
        leg = steady("leg", range(1, 600, 5), 160.0)
        verdicts = Person(ARM).day(sorted(arm + leg))
        issues = [issue for verdict in verdicts for issue in verdict.issues]
        assert len(issues) >= 6
        assert {centi for issue in issues if issue.slot > FIRST + 97 for centi in issue.past_centi} == {10000}


def test_a_device_that_never_spoke_keeps_nobody_quiet() -> None:
    person = Person(ARM)
    assert person.day(steady("leg", range(0, 480, 5)))[-1].status == "forecast_requested"


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), wait=st.sampled_from([5, 15, 60]), shuffle=st.randoms(use_true_random=False))
def test_who_is_heard_does_not_depend_on_the_order_of_arrival(seed: int, wait: int, shuffle: random.Random) -> None:
    chance = random.Random(seed)
    sent = [
        (5 * step + chance.randrange(-2, 3), device, round(chance.uniform(80, 200)) + share)
        for device, share in (("arm", 0.25), ("leg", 0.5), (None, 0.75))
        for step in range(60)
        if chance.random() < 0.6
    ]
    sent = list({(minute, device): (minute, device, glucose) for minute, device, glucose in sent}.values())
    by_time = {minute: (minute, device, glucose) for minute, device, glucose in sent}
    sent = [each for each in sent if by_time[each[0]] == each]  # two at one time: the later message is a correction
    policy = Policy(source_of("arm"), wait)
    in_order, mixed = Person(policy), Person(policy)
    in_order.day(sorted(sent, key=lambda each: each[0]))
    again = sent + shuffle.sample(sent, len(sent) // 3)
    shuffle.shuffle(again)
    mixed.day(again)
    assert mixed.heard() == in_order.heard()


def test_delivered_again_each_reading_says_and_issues_the_same() -> None:
    chance = random.Random(5)
    sent = [
        (5 * step + shift, device, chance.uniform(100, 160))
        for step in range(110)
        for shift, device in ((0, "arm"), (1, "leg"))
        if device == "leg" or chance.random() < 0.8
    ]
    for policy in (sources.ANYBODY, ARM):
        for kept in (True, False):
            person = Person(policy, (at(500),))
            verdicts = person.day(sent)
            for first in range(len(sent) - 12, len(sent), 3):
                again = [person.take(at, sent[at], first, kept=kept) for at in range(first, len(sent))]
                assert again == verdicts[first:]


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [(120.0, 141.0, False), (120.0, 145.0, True), (60.0, 80.0, False), (60.0, 81.0, True), (300.0, 350.0, False)],
)
def test_devices_disagree_by_the_rule_of_twenty(one: float, other: float, differ: bool) -> None:
    person = Person()
    person.day(steady("arm", range(0, 475, 5), one))
    first, second, following = (
        person.take(95 + number, each)
        for number, each in enumerate([(475, "arm", one), (476, "leg", other), (480, "arm", one)])
    )
    assert first.flags == ()
    assert second.flags == (("sources_disagree",) if differ else ())
    (issue,) = following.issues
    words = [warning for warning in issue.warnings if warning.startswith("SOURCES: ")]
    assert len(words) == differ
    if differ:
        assert f"differ by up to {other - one:.0f} mg/dL" in words[0]


def test_a_disagreement_is_said_for_an_hour_and_remembered_no_longer_than_it_can_matter() -> None:
    person = Person()
    sent = [*steady("arm", range(0, 480, 5)), (476, "leg", 200.0), *steady("arm", range(480, 800, 5))]
    verdicts = person.day(sent)
    told = [bool(verdict.issues and verdict.issues[-1].warnings) for verdict in verdicts]
    assert told[97 : 97 + 11] == [True] * 11
    assert not any(told[97 + 11 :])
    offset = len(sent)
    for step in range(100):  # a device that always says something else
        person.take(offset, (800 + 5 * step, "arm", 120.0), offset)
        person.take(offset + 1, (801 + 5 * step, "leg", 200.0 + step), offset + 1)
        offset += 2
    assert len(person.window.disagreements) <= LATE_SLOTS + sources.DISAGREEMENT_SLOTS + 2


def test_another_device_and_a_told_start_are_changes_of_the_sensor() -> None:
    person = Person()
    verdicts = person.day([*steady("old", range(0, 480, 5)), *steady("new", range(480, 500, 5), 170.0)])
    (issue,) = verdicts[-1].issues
    assert verdicts[96].flags == ("sensor_change",)
    assert verdicts[97].flags == ()
    assert issue.changed_points == [92]
    assert issue.warnings == [
        "SENSOR_CHANGE: another sensor or device reports since 14:00, "
        "and glucose jumped by 50 mg/dL (2.8 mmol/L) with it"
    ]
    told = Person(sessions=(at(480),))
    verdicts = told.day(steady("same", range(0, 500, 5)))
    (issue,) = verdicts[-1].issues
    assert verdicts[96].flags == ("sensor_warm_up", "sensor_change")
    assert verdicts[97].flags == ("sensor_warm_up",)
    assert issue.changed_points == [92]
    assert [warning.partition(":")[0] for warning in issue.warnings] == ["SENSOR_CHANGE", "SENSOR_WARM_UP"]
    assert "started at 14:00" in issue.warnings[1]


@pytest.mark.parametrize("start", [482.8, 484.0, 487.4])
def test_a_sensor_begins_with_the_first_reading_behind_its_start_wherever_in_a_slot_that_lies(start: float) -> None:
    """Readings two minutes and 20 seconds before their slots: the last of the old sensor is of 482:40."""
    person = Person(sessions=(at(start),))
    old = [(5 * step + 160 / 60, None, 145.0) for step in range(97)]
    new = [(5 * step + 160 / 60, None, 105.0) for step in range(97, 99)]
    verdicts = person.day([*old, *new])
    assert [verdict.flags for verdict in verdicts[95:]] == [
        (), (), ("sensor_warm_up", "sensor_change"), ("sensor_warm_up",),
    ]  # fmt: skip
    (issue,) = verdicts[-1].issues
    assert issue.changed_points == [94]
    assert "glucose jumped by 40 mg/dL" in issue.warnings[0]


def test_the_new_sensors_reading_may_lie_in_the_slot_of_its_start() -> None:
    person = Person(sessions=(at(481),))
    verdicts = person.day([*steady(None, range(0, 480, 5), 145.0), (482, None, 105.0)])
    assert verdicts[-1].flags == ("sensor_warm_up", "sensor_change")


def test_devices_that_take_turns_are_told_once_and_unnamed_ones_are_no_change() -> None:
    person = Person()
    turns = [(5 * step, "arm" if step % 2 else "leg", 120.0) for step in range(97)]
    (issue,) = person.day(turns)[-1].issues
    assert len(issue.changed_points) == sources.MOST_CHANGES
    assert len(issue.warnings) == 1
    assert "name the one that is preferred" in issue.warnings[0]
    unnamed = [(5 * step, "arm" if step < 50 else None, 120.0) for step in range(97)]
    (issue,) = Person().day(unnamed)[-1].issues
    assert (issue.changed_points, issue.warnings) == ([], [])
