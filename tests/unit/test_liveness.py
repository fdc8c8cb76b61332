"""Liveness is progress; the fence and the log filters."""

import logging
import time

import pytest
from faust.types import TP

from streams.kafka.fence import Fence
from streams.kafka.liveness import Progress, Standing
from streams.logs import NoPayloads, RateLimit

FIRST, SECOND = TP("cgm.readings", 0), TP("cgm.readings", 1)


def test_a_worker_without_work_may_stand_still() -> None:
    progress = Progress(60)
    assert [progress.observe(now, {FIRST: 5}, frozenset()) for now in (0, 100, 1000)] == [None] * 3


def test_lag_without_a_commit_is_a_stall() -> None:
    progress = Progress(60)
    assert progress.observe(0, {FIRST: 5, SECOND: 9}, frozenset({FIRST})) is None
    assert progress.observe(59, {FIRST: 5, SECOND: 9}, frozenset({FIRST})) is None
    assert "no progress for 61 s" in (progress.observe(61, {FIRST: 5, SECOND: 9}, frozenset({FIRST})) or "")


def test_any_commit_is_progress() -> None:
    progress = Progress(60)
    for now in range(0, 600, 50):
        assert progress.observe(now, {FIRST: now}, frozenset({FIRST})) is None


def test_recovery_is_progress_until_it_stands_still() -> None:
    progress = Progress(60)
    for now in range(0, 600, 50):
        assert progress.observe(now, {}, frozenset(), waiting=1000 - now) is None
    assert "rebalance" in (progress.observe(700, {}, frozenset(), waiting=450) or "")


def test_a_partition_that_stands_is_told_though_another_moves() -> None:
    standing = Standing()
    for now in range(0, 601, 50):
        standing.observe(now, {FIRST: 100, SECOND: now}, frozenset({FIRST, SECOND}))
        assert (standing.seconds(FIRST, now), standing.seconds(SECOND, now)) == (now, 0)
    standing.observe(650, {FIRST: 101, SECOND: 600}, frozenset({FIRST, SECOND}))
    assert (standing.seconds(FIRST, 660), standing.seconds(SECOND, 660)) == (10, 60)


def test_what_has_nothing_to_do_does_not_stand_nor_does_what_has_gone() -> None:
    standing = Standing()
    for now in (0, 100, 200):
        standing.observe(now, {FIRST: 5}, frozenset())
    assert standing.seconds(FIRST, 200) == 0
    standing.observe(300, {FIRST: 5}, frozenset({FIRST}))
    assert standing.seconds(FIRST, 310) == 110, "since it was seen with nothing to do"
    standing.observe(320, {}, frozenset())
    standing.observe(330, {FIRST: 5}, frozenset({FIRST}))
    assert (standing.seconds(FIRST, 331), standing.seconds(SECOND, 331)) == (1, 0)


def test_the_fence_closes_after_a_session_timeout_without_proof() -> None:
    now = 100.0
    fence = Fence(10, lambda: now)
    now = 109.0
    assert not fence.closed
    now = 111.0
    assert fence.closed
    fence.prove()
    assert not fence.closed


def test_the_fence_is_closed_when_the_machine_has_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock stands still meanwhile; the group has given the partitions away."""
    fence, slept = Fence(10), time.clock_gettime(time.CLOCK_BOOTTIME) + 3600
    monkeypatch.setattr(time, "clock_gettime", lambda _: slept)
    assert fence.closed


async def test_a_heartbeat_proves_what_was_so_when_it_was_sent() -> None:
    """A process that is paused while the answer is on its way was a member before the pause, and is asked again."""
    now = 0.0
    fence = Fence(10, lambda: now)

    async def paused() -> bool:
        nonlocal now
        now += 60
        return True

    assert await fence.proven_by(paused, lambda: False)
    assert fence.closed

    async def beat() -> bool:
        return True

    assert await fence.proven_by(beat, lambda: False)
    assert not fence.closed


async def test_a_heartbeat_proves_nothing_while_the_group_gives_the_partitions_away() -> None:
    """The group answers such a member until it throws it out: what waits in its queues would follow for a session."""
    now = 0.0
    fence = Fence(10, lambda: now)

    async def beat() -> bool:
        return True

    for _ in range(6):
        now += 2
        assert await fence.proven_by(beat, lambda: True)
    assert fence.closed


async def test_waiting_at_the_fence_ends_when_its_reason_does() -> None:
    now = 0.0
    fence = Fence(10, lambda: now)
    now = 20.0
    answers = iter([True, False])
    await fence.opened(lambda: next(answers))
    assert fence.closed


def record_of(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, arguments, None)


def test_a_flood_of_one_message_is_one_line() -> None:
    limit = RateLimit(quiet_seconds=60)
    passed = [limit.filter(record_of("Unable connect to node %s", number)) for number in range(1000)]
    assert sum(passed) == 1
    assert limit.filter(record_of("something else"))


def test_the_line_after_a_flood_says_how_much_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("streams.logs.time.monotonic", lambda: now)
    limit = RateLimit(quiet_seconds=10)
    for _ in range(5):
        limit.filter(record_of("gone"))
    now = 11.0
    last = record_of("gone")
    assert limit.filter(last)
    assert last.getMessage() == "gone (4 more like this)"


def test_libraries_do_not_log_what_messages_carry() -> None:
    class ConsumerMessage:
        def __repr__(self) -> str:
            return "glucose 123"

    record = record_of("waiting for %r and %r of %s", [(1, ConsumerMessage())], ConsumerMessage(), FIRST)
    assert NoPayloads().filter(record)
    assert "123" not in record.getMessage()
    assert "cgm.readings" in record.getMessage()
