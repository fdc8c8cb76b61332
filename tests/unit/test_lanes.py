"""Lanes of a step: order within a lane, priority over lanes, rounds told ahead, given back what has not begun."""

import asyncio
from collections.abc import Sequence
from typing import Any

from faust.types import TP

from agents.work import Message
from schemas.lanes import LANES, Lane
from streams.lanes import AT_ONCE, TOGETHER, Lanes
from tests.kit.waiting import until_async


class Delivery:
    """What the lanes see of one."""

    def __init__(self, lane: Lane, offset: int, partition: int = 0) -> None:
        self.message = Message(topic=lane, partition=0, offset=offset, key=None, value=None)
        self.tp = TP(lane, partition)
        self.released = False

    def release(self) -> None:
        self.released = True


class Guard:
    """Notes what it is handed; a stream is a list of deliveries."""

    def __init__(self, done: list[tuple[str, int]]) -> None:
        self._done = done

    async def deliveries(self, stream: Sequence[Delivery]) -> Any:
        for delivery in stream:
            yield delivery

    async def guarded(self, delivery: Delivery) -> None:
        self._done.append((delivery.message.topic, delivery.message.offset))


def lanes_over(done: list[tuple[str, int]], told: list[list[tuple[str, int]]]) -> Lanes:
    def prepare(messages: Sequence[Message]) -> None:
        told.append([(message.topic, message.offset) for message in messages])

    return Lanes({lane: Guard(done) for lane in LANES}, prepare)  # type: ignore[dict-item]


async def served(lanes: Lanes, done: Sequence[object], count: int) -> None:
    """Until as many are done and nothing waits: those of a round do not wait any more, and are not done yet."""
    serving = asyncio.create_task(lanes.serve())
    await until_async(lambda: len(done) >= count and not any(map(lanes.depth, LANES)), f"{count} messages")
    await asyncio.sleep(0)
    serving.cancel()
    assert len(done) == count


async def test_a_waiter_is_behind_one_round_of_a_backlog() -> None:
    done: list[tuple[str, int]] = []
    lanes = lanes_over(done, [])
    await lanes.take_in("backfill", [Delivery("backfill", offset) for offset in range(1000)])
    await lanes.take_in("live", [Delivery("live", 0)])
    await lanes.take_in("interactive", [Delivery("interactive", offset) for offset in range(3)])
    await served(lanes, done, 1004)
    assert done[:4] == [("interactive", 0), ("interactive", 1), ("interactive", 2), ("live", 0)]
    assert [offset for lane, offset in done if lane == "backfill"] == list(range(1000))


async def test_no_lane_starves_and_each_keeps_its_order() -> None:
    done: list[tuple[str, int]] = []
    lanes = lanes_over(done, [])
    for lane in LANES:
        await lanes.take_in(lane, [Delivery(lane, offset) for offset in range(400)])
    await served(lanes, done, 1200)
    for lane in LANES:
        assert [offset for name, offset in done if name == lane] == list(range(400))
        assert sum(name == lane for name, _ in done[:400]) >= 400 // 8 - 1


async def test_the_step_is_told_each_round_as_it_comes() -> None:
    done: list[tuple[str, int]] = []
    told: list[list[tuple[str, int]]] = []
    lanes = lanes_over(done, told)
    await lanes.take_in("live", [Delivery("live", offset) for offset in range(2 * TOGETHER + 1)])
    await served(lanes, done, 2 * TOGETHER + 1)
    assert [len(messages) for messages in told] == [TOGETHER, TOGETHER, 1]
    assert [message for messages in told for message in messages] == done


async def test_who_comes_in_a_higher_lane_does_not_wait_for_the_end_of_a_round_and_no_order_is_lost() -> None:
    done: list[tuple[str, int]] = []

    class Interrupted(Guard):
        """While a backlog is handled, live and interactive ones come, more than the round has left."""

        async def guarded(self, delivery: Delivery) -> None:
            await super().guarded(delivery)
            if done[-1] == ("backfill", 2):
                await lanes.take_in("live", [Delivery("live", offset) for offset in range(1, 3 * AT_ONCE)])
                await lanes.take_in("interactive", [Delivery("interactive", 0)])

    lanes = Lanes({lane: Interrupted(done) for lane in LANES}, lambda messages: None)  # type: ignore[dict-item]
    await lanes.take_in("live", [Delivery("live", 0)])
    await lanes.take_in("backfill", [Delivery("backfill", offset) for offset in range(TOGETHER)])
    await served(lanes, done, TOGETHER + 3 * AT_ONCE + 1)
    lanes_done = [lane for lane, _ in done]
    assert lanes_done[0] == "live"
    first = lanes_done.index("interactive")
    assert lanes_done[1:first] == ["backfill"] * (AT_ONCE - 1)
    assert lanes_done[first + 1 : first + AT_ONCE] == ["live"] * (AT_ONCE - 1)
    assert lanes_done[first + AT_ONCE : first + 2 * AT_ONCE] == ["backfill"] * AT_ONCE, (
        "as many, then the round goes on"
    )
    for lane in LANES:
        numbers = [offset for name, offset in done if name == lane]
        assert numbers == list(range(len(numbers)))


async def test_what_cannot_be_prepared_is_handled_alone() -> None:
    done: list[tuple[str, int]] = []

    def prepare(messages: Sequence[Message]) -> None:
        raise RuntimeError("no")

    lanes = Lanes({lane: Guard(done) for lane in LANES}, prepare)  # type: ignore[dict-item]
    await lanes.take_in("live", [Delivery("live", 0)])
    await served(lanes, done, 1)
    assert done == [("live", 0)]


async def test_what_has_not_begun_is_given_back_with_its_partition() -> None:
    done: list[tuple[str, int]] = []
    lanes = lanes_over(done, [])
    mine, gone = Delivery("live", 1), Delivery("backfill", 1)
    await lanes.take_in("live", [mine])
    await lanes.take_in("backfill", [gone])
    lanes.release({TP("backfill", 0)})
    assert (gone.released, mine.released) == (True, False)
    await served(lanes, done, 1)
    assert done == [("live", 1)]
