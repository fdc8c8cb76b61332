"""The rolling window: independent of order and repetition, and the same again when delivered again."""

import datetime
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.past_hours import add, hours_before
from agents.core.rolling_window import Held, RollingWindow, place, slot_time
from agents.core.slot_windows import window

START = datetime.datetime(2024, 3, 14, 6, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
LATE_SLOTS = 24


def readings(count: int, seed: int, missing: float) -> list[tuple[datetime.datetime, float]]:
    """A day's plausible readings with jitter below the tie of two slots, some missing, no two at the same time."""
    chance = random.Random(seed)
    return [
        (START + datetime.timedelta(minutes=5 * step, seconds=chance.uniform(-149, 149)), chance.uniform(130, 175))
        for step in range(count)
        if chance.random() >= missing
    ]


def play(
    messages: list[tuple[int, tuple[datetime.datetime, float]]],
    state: bytes | None = None,
    committed: int = 0,
    hours: bool = True,
):
    """State after the messages, and what each issued: (offset, [(slot, hash), ...]), the hours before hashed or not."""
    issued = []
    for offset, (time, value) in messages:
        rolling = RollingWindow.from_bytes(state, LATE_SLOTS)
        verdict, changed = rolling.accept(*place(time, value, offset), committed)
        issues = [issue if hours else issue._replace(hours_centi=()) for issue in verdict.issues]
        issued.append((offset, [(issue.slot, issue.input_hash) for issue in issues]))
        if changed:
            state = rolling.to_bytes()
    return state, issued


def content(state: bytes | None) -> dict[int, tuple[int, int, int]]:
    slots = RollingWindow.from_bytes(state, LATE_SLOTS).slots
    return {slot: (held.shift_microseconds, held.centi, held.zone_minutes) for slot, held in slots.items()}


def last_issued(issued: list[tuple[int, list[tuple[int, str]]]]) -> dict[int, str]:
    return {slot: digest for _, windows in issued for slot, digest in windows}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), missing=st.sampled_from([0.0, 0.03, 0.2]), shuffle=st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(seed: int, missing: float, shuffle: random.Random) -> None:
    day = readings(160, seed, missing)
    in_order, issued = play(list(enumerate(day)), hours=False)
    mixed = day + shuffle.sample(day, len(day) // 3)
    shuffle.shuffle(mixed)
    out_of_order, issued_mixed = play(list(enumerate(mixed)), hours=False)
    assert content(out_of_order) == content(in_order)
    newest = max(content(in_order))
    recent = {slot: digest for slot, digest in last_issued(issued).items() if slot >= newest - LATE_SLOTS}
    recent_mixed = {slot: digest for slot, digest in last_issued(issued_mixed).items() if slot >= newest - LATE_SLOTS}
    assert recent_mixed == recent


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    missing=st.sampled_from([0.0, 0.05]),
    from_the_end=st.integers(1, 20),
    shuffle=st.randoms(use_true_random=False),
)
def test_what_is_delivered_again_issues_the_same_again(
    seed: int, missing: float, from_the_end: int, shuffle: random.Random
) -> None:
    day = readings(140, seed, missing)
    for _ in range(len(day) // 4):  # a few late ones
        at = shuffle.randrange(len(day) - 1)
        day[at], day[at + 1] = day[at + 1], day[at]
    messages = list(enumerate(day))
    state, issued = play(messages)
    again_state, again = play(messages[-from_the_end:], state)
    assert again_state == state
    assert again == issued[-from_the_end:]


def test_a_correction_names_the_windows_that_it_leaves_without_a_forecast_and_again_when_delivered_again() -> None:
    """By steps of the day; the first of each is what it issues, the second what it leaves."""
    step = datetime.timedelta(minutes=5)
    first = place(START, 100.0, 0)[0]

    def ends(offset: int, at: int, glucose: float, state: bytes | None) -> tuple[list[list[int]], bytes]:
        rolling = RollingWindow.from_bytes(state, LATE_SLOTS)
        verdict, _ = rolling.accept(*place(START + at * step, glucose, offset))
        return [
            [each.slot - first for each in found] for found in (verdict.issues, verdict.withheld)
        ], rolling.to_bytes()

    state, _ = play([(at, (START + at * step, 100.0)) for at in range(99)])
    sent = [(99, 140.0), (100, 150.0), (99, 90.0), (100, 130.0), (98, 200.0), (98, 101.0), (105, 101.0), (101, 500.0)]
    told = []
    for offset, (at, glucose) in enumerate(sent, start=99):
        found, state = ends(offset, at, glucose, state)
        told.append(found)
    assert told == [
        [[99], []], [[100], []], [[99], [100]], [[100], []], [[], [98, 99, 100]], [[98, 99, 100], []], [[], []],
        [[], []],
    ]  # fmt: skip
    for begin in range(len(sent)):
        again = state
        for offset, (at, glucose) in list(enumerate(sent, start=99))[begin:]:
            found, again = ends(offset, at, glucose, again)
            assert found == told[offset - 99]
        assert again == state


def test_a_reading_nearer_to_its_slot_may_leave_a_gap_and_no_forecast_behind_it() -> None:
    minute = datetime.timedelta(minutes=1)
    day = [(START + 5 * step * minute, 100.0) for step in range(99)] + [(START + 497 * minute, 100.0)]
    state, _ = play(list(enumerate([*day, (START + 514 * minute, 100.0)])))
    verdict, _ = RollingWindow.from_bytes(state, LATE_SLOTS).accept(*place(START + 495 * minute, 100.0, 101))
    first = place(START, 100.0, 0)[0]
    assert [each.slot - first for each in verdict.issues] == [99]
    assert [each.slot - first for each in verdict.withheld] == [103]


def test_late_reading_issues_only_the_windows_it_touches() -> None:
    day = readings(130, 1, 0.0)
    late = day.pop(120)
    state, _ = play(list(enumerate(day)))
    _, [(_, issued)] = play([(500, late)], state)
    first = place(*late, 0)[0]
    assert [slot for slot, _ in issued] == list(range(first, first + 10))


def test_no_window_older_than_allowed_is_issued() -> None:
    day = readings(140, 1, 0.0)
    late = day.pop(105)
    state, _ = play(list(enumerate(day)))
    newest = max(content(state))
    _, [(_, issued)] = play([(500, late)], state)
    assert min(slot for slot, _ in issued) == newest - LATE_SLOTS


def test_conflict_at_the_same_time_goes_to_the_later_message() -> None:
    day = readings(100, 1, 0.0)
    state, issued = play(list(enumerate(day)))
    time, value = day[-1]
    corrected, [(_, again)] = play([(500, (time, value + 20))], state)
    assert len(again) == 1
    assert again[0][1] != issued[-1][1][0][1]
    assert play([(99, (time, value))], corrected)[0] == corrected  # the older message never overwrites


def test_nearest_reading_holds_the_slot() -> None:
    base = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    near, far = base + datetime.timedelta(seconds=10), base - datetime.timedelta(seconds=60)
    for order in ([(near, 100.0), (far, 200.0)], [(far, 200.0), (near, 100.0)]):
        state, _ = play(list(enumerate(order)))
        assert [centi for _, centi, _ in content(state).values()] == [10000]
    rolling = RollingWindow({}, LATE_SLOTS)
    rolling.accept(*place(near, 100.0, 0))
    assert rolling.accept(*place(far, 200.0, 1))[0].code == "superseded"


def test_identical_reading_is_a_duplicate() -> None:
    rolling = RollingWindow({}, LATE_SLOTS)
    assert rolling.accept(*place(START, 100.0, 0))[0].code == "warming_up"
    verdict, changed = rolling.accept(*place(START, 100.0, 1))
    assert (verdict.status, changed) == ("duplicate", False)


@pytest.mark.parametrize(("absent", "expected"), [(1, True), (2, True), (3, False)])
def test_gaps_up_to_15_minutes_are_interpolated(absent: int, expected: bool) -> None:
    slots = {slot: Held(0, 10000 + 300 * slot, slot, 0) for slot in range(100) if not 50 <= slot < 50 + absent}
    found = window(slots, 99)
    assert (found is not None) is expected
    if found:
        assert found.past_centi == [10000 + 300 * slot for slot in range(4, 100)]
        assert found.interpolated_points == list(range(46, 46 + absent))


def test_gap_and_warm_up_are_told_apart() -> None:
    rolling = RollingWindow({}, LATE_SLOTS)
    verdicts = [rolling.accept(slot, Held(0, 10000, slot, 0))[0] for slot in [*range(5), *range(12, 20)]]
    assert {verdict.code for verdict in verdicts[:5]} == {"warming_up"}
    assert {verdict.code for verdict in verdicts[5:]} == {"gap"}
    assert "40 min" in str(verdicts[5].reason)


def test_state_is_small_and_keeps_its_version() -> None:
    state, _ = play(list(enumerate(readings(400, 1, 0.0))), committed=400)
    assert state is not None
    assert len(state) <= 3100
    with pytest.raises(ValueError, match="version 9"):
        RollingWindow.from_bytes(b"\x09" + state[1:], LATE_SLOTS)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_rows_of_earlier_versions_are_read_and_go_on(version: int) -> None:
    state, _ = play(list(enumerate(readings(150, 1, 0.0))), committed=140)
    assert state is not None
    known = RollingWindow.from_bytes(state, LATE_SLOTS)
    assert known.displaced
    assert not known.hours  # what left was not committed yet
    first = min(known.slots)
    rows = [struct.pack("<Hiiqh", slot - first, *held[:4]) for slot, held in sorted(known.slots.items())]
    left = [struct.pack("<iiiqhq", each.slot, *each.held[:4], each.by_offset) for each in known.displaced]
    if version == 1:
        state = RollingWindow(known.slots, LATE_SLOTS).to_bytes()
        old = struct.pack("<Bq", 1, first) + b"".join(rows)
    elif version == 2:
        old = struct.pack("<BqH", 2, first, len(rows)) + b"".join(rows + left)
    else:
        old = struct.pack("<BqiHH", 3, first, 0, 0, len(rows)) + b"".join(rows + left)
    assert RollingWindow.from_bytes(old, LATE_SLOTS) == RollingWindow.from_bytes(state, LATE_SLOTS)
    late = readings(151, 1, 0.0)[-1:]
    assert play([(150, late[0])], old, committed=150) == play([(150, late[0])], state, committed=150)


def test_reading_older_than_everything_kept_is_too_old() -> None:
    state, _ = play(list(enumerate(readings(150, 1, 0.0))))
    rolling = RollingWindow.from_bytes(state, LATE_SLOTS)
    verdict, changed = rolling.accept(*place(START - datetime.timedelta(days=2), 100.0, 999))
    assert (verdict.code, changed) == ("too_old", False)


def test_slot_time_keeps_the_offset_of_the_reading() -> None:
    slot, held = place(START, 100.0, 0)
    assert slot_time(slot, held.zone_minutes).isoformat() == START.isoformat()


def test_the_hours_before_a_window_are_of_all_readings_there_kept_or_not() -> None:
    """A day and a half in order: what the row has folded, what has aged and what it holds come together."""
    day = readings(430, 2, 0.1)
    state = None
    placed = []
    for offset, (time, value) in enumerate(day):
        rolling = RollingWindow.from_bytes(state, LATE_SLOTS)
        slot, held = place(time, value, offset)
        verdict, changed = rolling.accept(slot, held, max(0, offset - 30))
        placed.append((slot, held.centi))
        if offset % 40 == 0:
            sums: dict[int, tuple[int, int]] = {}
            add(sums, placed)
            for issue in verdict.issues:
                assert list(issue.hours_centi) == hours_before(sums, issue.slot)
        if changed:
            state = rolling.to_bytes()
    assert len(RollingWindow.from_bytes(state, LATE_SLOTS).hours) > 12
    assert len(verdict.issues[0].hours_centi) == 28


def test_the_hours_go_after_a_week_and_stay_small() -> None:
    hourly = [(START + datetime.timedelta(hours=each), 120.0 + each % 50) for each in range(24 * 12)]
    state = None
    for offset, message in enumerate(hourly):
        state, _ = play([(offset, message)], state, committed=offset)
    hours = RollingWindow.from_bytes(state, LATE_SLOTS).hours
    assert 160 <= len(hours) <= 185
    assert len(state) <= 1200
    month_later = (START + datetime.timedelta(days=40), 120.0)
    state, _ = play([(1000, month_later)], state, committed=1000)
    state, _ = play([(1001, (month_later[0] + datetime.timedelta(minutes=5), 121.0))], state, committed=1001)
    assert not RollingWindow.from_bytes(state, LATE_SLOTS).hours


def test_a_late_reading_changes_the_windows_it_lies_in_and_no_hours() -> None:
    day = readings(140, 1, 0.0)
    late = day.pop(3)
    state, _ = play(list(enumerate(day)))
    newest = readings(141, 1, 0.0)[-1]
    with_it, [(_, issued)] = play([(500, late)], state)
    assert issued == []
    assert play([(501, newest)], with_it)[1][0][1] != play([(501, newest)], state)[1][0][1]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from([1, 1, 1, 1, 2, 3, 4, 9]), st.booleans()), min_size=1, max_size=130),
    late=st.integers(0, 30),
)
def test_the_next_forecast_comes_when_it_was_expected(steps: list[tuple[int, bool]], late: int) -> None:
    """After gaps, jumps that no body makes, and a reading from before."""
    rolling, slot, centi, told = RollingWindow({}, LATE_SLOTS), 1000, 12_000, None
    for offset, (after, jumps) in enumerate(steps):
        slot += after
        centi = 36_000 - centi if jumps and after == 1 else centi
        verdict, _ = rolling.accept(slot, Held(0, centi, offset, 0))
        told = verdict.expected
        assert (told is None) is (verdict.status == "forecast_requested")
    verdict, _ = rolling.accept(slot - late, Held(0, centi, len(steps), 0))
    if verdict.status == "no_forecast":
        told = verdict.expected
    if told is None:
        return
    newest = rolling.slots[slot].centi
    for offset, following in enumerate(range(slot + 1, told + 1), len(steps) + 1):
        verdict, _ = rolling.accept(following, Held(0, newest, offset, 0))
        wanted = "forecast_requested" if following == told else "no_forecast"
        assert verdict.status == wanted, (following, told)
        assert verdict.expected == (None if following == told else told)
