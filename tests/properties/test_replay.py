"""Readings delivered again have exactly the effects they had, whatever of the first delivery has survived."""

import asyncio
import datetime
import json
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core import rolling_window
from agents.core.rolling_window import RollingWindow
from agents.work import Message, Send
from schemas.tables import SUBJECTS_TABLE
from tests.kit.workbench import Workbench, built

START = datetime.datetime(2024, 3, 14, 6, 0, tzinfo=datetime.UTC)
STEP = built("window")
LATE_SLOTS = 24
GROWN = 140
"""Readings in order before the strange ones: about what a row keeps, so that some have to go."""


class Sent(NamedTuple):
    """One reading on the topic: its slot counted from the start, the seconds from the slot's time, its glucose."""

    slot: int
    seconds: int
    glucose: int


class Run(NamedTuple):
    """What each message sent, the subject's row after each, and what was committed by then."""

    effects: list[list[Send]]
    rows: list[bytes | None]
    committed: list[int]


def message_of(offset: int, sent: Sent) -> Message:
    time = START + datetime.timedelta(minutes=5 * sent.slot, seconds=sent.seconds)
    value = json.dumps({"subject_id": "ada", "time": time.isoformat(), "glucose": sent.glucose, "unit": "mg/dL"})
    appended = START + datetime.timedelta(days=400, seconds=offset)
    return Message(
        topic="t", offset=offset, key=b"ada", value=value.encode(), timestamp_ms=int(appended.timestamp() * 1000)
    )


async def play(log: list[Sent], row: bytes | None, first: int, commits: list[int]) -> Run:
    """Deliver the log from `first` on over what a row has come to; `commits[n]` is committed when `n` is processed."""
    bench = Workbench()
    if row is not None:
        bench.tables.table(SUBJECTS_TABLE).rows["ada"] = row
    run = Run([], [], [])
    for offset in range(first, len(log)):
        bench.tables.committed = max(commits[offset], bench.tables.committed or 0)
        work = await bench.tables.run(*STEP, message_of(offset, log[offset]))
        run.effects.append(bench.tables.apply(work))
        run.rows.append(bench.rows(SUBJECTS_TABLE).get("ada"))
        run.committed.append(bench.tables.committed or 0)
    return run


def log_of(strange: list[tuple[str, int, int]]) -> list[Sent]:
    """A grown window, then readings in order, late, corrected, repeated, beside the slot's time, and after a jump."""
    log = [Sent(slot, 0, 110 + slot % 7) for slot in range(GROWN)]
    newest = GROWN - 1
    for kind, size, glucose in strange:
        before = log[-1 - size % 90]
        match kind:
            case "late":
                log.append(Sent(max(0, newest - size), 0, glucose))
            case "corrected":
                log.append(before._replace(glucose=glucose))
            case "repeated":
                log.append(before)
            case "beside":
                log.append(before._replace(seconds=size % 240 - 120))
            case "jump":
                newest += size
                log.append(Sent(newest, 0, glucose))
            case _:
                newest += 1
                log.append(Sent(newest, 0, glucose))
    return log


KINDS = ("next", "next", "next", "late", "corrected", "repeated", "beside", "jump")
EVENTS = st.tuples(st.sampled_from(KINDS), st.integers(0, 160), st.integers(100, 140))


@given(strange=st.lists(EVENTS, min_size=8, max_size=40), data=st.data(), most=st.sampled_from([4, 64]))
@settings(max_examples=25, deadline=None)
def test_any_split_and_any_redelivery_have_the_effects_of_an_undisturbed_run(
    strange: list[tuple[str, int, int]], data: st.DataObject, most: int
) -> None:
    log = log_of(strange)
    end = len(log)
    points = data.draw(st.lists(st.integers(GROWN // 2, end), max_size=3), label="commits")
    commits = [max((point for point in points if point <= offset), default=0) for offset in range(end)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rolling_window, "MOST_UNSETTLED", most)
        undisturbed = asyncio.run(play(log, None, 0, commits))
        row, first = None, 0
        for crash in range(data.draw(st.integers(1, 2), label="crashes")):
            reached = data.draw(st.integers(max(first, GROWN), end - 1), label=f"last message before crash {crash}")
            run = asyncio.run(play(log[: reached + 1], row, first, commits))
            assert run.effects == undisturbed.effects[first : reached + 1]
            committed = max(first, run.committed[-1])  # what it is made of has survived
            survived = data.draw(st.integers(max(first, committed - 1), reached), label="the last write to survive")
            row = run.rows[survived - first]
            first = data.draw(st.sampled_from([committed, (committed + survived + 1) // 2]), label="again from")
        last = asyncio.run(play(log, row, first, commits))
    assert last.effects == undisturbed.effects[first:]
    assert slots_of(last.rows[-1]) == slots_of(undisturbed.rows[-1])


def slots_of(row: bytes | None) -> dict[int, rolling_window.Held]:
    return RollingWindow.from_bytes(row, LATE_SLOTS).slots


def test_a_day_and_more_delivered_again_has_the_effects_it_had() -> None:
    """33 hours, of which nothing was committed: far more than a row keeps slots of."""
    log = [Sent(slot, 0, 110 + slot % 7) for slot in range(500) if slot % 5]  # a reading that counts twice is seen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rolling_window, "MOST_UNSETTLED", len(log))
        first = asyncio.run(play(log, None, 0, [0] * len(log)))
        again = asyncio.run(play(log, first.rows[-1], 0, [0] * len(log)))
    assert again.effects == first.effects
    assert again.rows[-1] == first.rows[-1]
    assert sum(len(sends) > 1 for sends in first.effects) == 324


def test_the_row_is_bounded_however_late_commits_come() -> None:
    log = [Sent(slot, 0, 110 + slot % 7) for slot in range(500)] + [
        Sent(499, 0, 100 + each % 50) for each in range(300)
    ]
    run = asyncio.run(play(log, None, 0, [0] * len(log)))
    kept = RollingWindow({}, LATE_SLOTS).capacity + 1
    assert max(len(row or b"") for row in run.rows) <= 17 + 3 * 185 + 20 * kept + 30 * (
        rolling_window.MOST_UNSETTLED + 2
    )


def test_what_was_displaced_goes_when_no_message_comes_again() -> None:
    log = [Sent(slot, 0, 110) for slot in range(300)]
    run = asyncio.run(play(log, None, 0, list(range(len(log)))))
    assert len(RollingWindow.from_bytes(run.rows[-1], LATE_SLOTS).displaced) <= 1
