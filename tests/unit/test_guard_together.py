"""A lane's guard: messages are begun in their order, wait together, and end in any order or are given back."""

import asyncio
from collections.abc import Callable

import pytest
from faust.types import TP

from agents.work import Work
from schemas import topics
from streams.guard import Guard
from streams.topology import step_of
from tests.kit.guarded import FakeApp, FakeStream, RawMessage, guard_of, idle

INFER = step_of("infer")


def messages(count: int) -> list[RawMessage]:
    return [RawMessage("cgm.forecast-requests.live", 0, offset, b"anna", b"%d" % offset) for offset in range(count)]


class Model:
    """A step that waits for somebody else: every message for the answer that a test gives it."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.answers: dict[int, asyncio.Future[bytes]] = {}

    async def step(self, work: Work) -> None:
        offset = work.message.offset
        self.begun.append(offset)
        self.answers[offset] = asyncio.get_running_loop().create_future()
        work.send(topics.FORECASTS["live"], "anna", await self.answers[offset])

    async def answer(self, *offsets: int) -> None:
        """In this order."""
        for offset in offsets:
            self.answers[offset].set_result(b"%d" % offset)
            await idle()

    async def give_back(self, offset: int) -> None:
        """As the role does for a partition that is revoked, or when its App stops."""
        self.answers[offset].cancel()
        await idle()


class Lane:
    """A guard that runs a model's step together over a stream of messages, in a task of its own."""

    def __init__(self, count: int, **settings: object) -> None:
        self.app, self.model = FakeApp(), Model()
        self.guard: Guard
        self.guard, self.metrics = guard_of(self.app, INFER, self.model.step, {}, together=True, **settings)
        self.consuming = asyncio.create_task(self.guard.consume(FakeStream(self.app, messages(count))))

    @property
    def sent(self) -> list[bytes | None]:
        return [sent.value for sent in self.app.producer.sent]


async def lane_of(count: int, **settings: object) -> Lane:
    """A lane that has begun what it has room for."""
    lane = Lane(count, **settings)
    await idle()
    return lane


async def test_messages_are_begun_in_order_and_end_in_any() -> None:
    lane = await lane_of(4)
    assert lane.model.begun == [0, 1, 2, 3]
    await lane.model.answer(2, 0, 3, 1)
    assert lane.sent == [b"2", b"0", b"3", b"1"]
    await lane.app.producer.confirm(1)
    assert lane.app.strict.acked == [2], "the effects of others are not confirmed"
    await lane.app.producer.confirm()
    assert (lane.app.strict.acked, len(lane.app.in_flight)) == ([2, 0, 3, 1], 0)
    assert 'glucast_events_total{outcome="processed",step="infer"} 4.0' in lane.metrics.exposition().decode()


async def test_each_is_begun_as_far_as_it_comes_before_the_next() -> None:
    order: list[str] = []

    async def step(work: Work) -> None:
        order.append(f"begun {work.message.offset}")
        if work.message.offset == 0:
            await asyncio.sleep(0)
        work.send(topics.FORECASTS["live"], "anna", b"")

    app = FakeApp()
    guard, _ = guard_of(app, INFER, step, {}, together=True)
    stream = FakeStream(app, messages(3))
    delivered = app.strict.deliver

    def deliver(message: RawMessage) -> None:
        order.append(f"delivered {message.offset}")
        delivered(message)

    app.strict.deliver = deliver  # type: ignore[method-assign]
    await guard.consume(stream)
    assert order == [f"{what} {offset}" for offset in range(3) for what in ("delivered", "begun")]


async def test_no_more_are_begun_than_there_is_room_for_and_a_confirmation_makes_room() -> None:
    lane = await lane_of(5, events_in_flight=2)
    assert lane.model.begun == [0, 1]
    await lane.model.answer(1)
    assert lane.model.begun == [0, 1], "answered, but not confirmed: it may have to be done again"
    await lane.app.producer.confirm()
    await idle()
    assert lane.model.begun == [0, 1, 2]
    await lane.model.answer(0, 2)
    await lane.app.producer.confirm()
    await idle()
    assert (lane.model.begun, lane.consuming.done()) == ([0, 1, 2, 3, 4], True)


async def test_what_is_given_back_is_neither_done_nor_acked_and_makes_room() -> None:
    lane = await lane_of(3, events_in_flight=2)
    await lane.model.give_back(0)
    assert (lane.sent, lane.app.strict.acked, lane.app.strict.forgotten) == ([], [], [0])
    assert lane.model.begun == [0, 1, 2]
    await lane.model.answer(1, 2)
    await lane.app.producer.confirm()
    assert (lane.app.strict.acked, len(lane.app.in_flight)) == ([1, 2], 0)
    assert lane.app.ended == []


def stops(app: FakeApp) -> None:
    app.should_stop = True


def is_revoked(app: FakeApp) -> None:
    app.strict.ledgers.clear()


def is_rebalanced(app: FakeApp) -> None:
    app.consumer_generation_id += 1


@pytest.mark.parametrize("meanwhile", [stops, is_revoked, is_rebalanced], ids=lambda happens: happens.__name__)
async def test_what_waited_for_room_is_not_begun_when_that_is_over(meanwhile: Callable[[FakeApp], None]) -> None:
    lane = await lane_of(2, events_in_flight=1)
    assert lane.model.begun == [0]
    meanwhile(lane.app)
    await lane.model.give_back(0)
    assert (lane.model.begun, lane.app.strict.forgotten, len(lane.app.in_flight)) == ([0], [0, 1], 0)
    assert (lane.sent, lane.app.strict.acked, lane.consuming.done()) == ([], [], True)


async def test_what_has_begun_goes_on_when_its_stream_is_cancelled() -> None:
    lane = await lane_of(3, events_in_flight=2)
    lane.consuming.cancel()
    await asyncio.gather(lane.consuming, return_exceptions=True)
    await lane.model.answer(0, 1)
    await lane.app.producer.confirm()
    await idle()
    assert (lane.app.strict.acked, lane.model.begun, len(lane.app.in_flight)) == ([0, 1], [0, 1], 0)


async def test_an_answer_after_a_rebalance_has_no_effect() -> None:
    lane = await lane_of(2)
    is_rebalanced(lane.app)
    await lane.model.answer(1, 0)
    assert (lane.sent, lane.app.strict.acked, lane.app.strict.forgotten) == ([], [], [1, 0])
    assert len(lane.app.in_flight) == 0


class Uploads:
    """A guard that runs a step by partition, over two messages of partition 0 and then one of partition 1."""

    def __init__(self) -> None:
        self.app, self.begun = FakeApp(), list[bytes]()
        self.answers: dict[bytes, asyncio.Future[bytes]] = {}
        messages = [
            RawMessage("cgm.uploads", partition, offset, None, b"%d/%d" % (partition, offset))
            for partition, offset in ((0, 0), (0, 1), (1, 0))
        ]
        self.guard, _ = guard_of(self.app, step_of("unify"), self.step, {}, by_partition=True)
        self.consuming = asyncio.create_task(self.guard.consume(FakeStream(self.app, messages)))

    async def step(self, work: Work) -> None:
        value = work.message.value or b""
        self.begun.append(value)
        self.answers[value] = asyncio.get_running_loop().create_future()
        work.send(topics.UPLOAD_OUTCOMES, "anna", await self.answers[value])


async def test_by_partition_what_waits_in_one_holds_up_no_other_and_its_own_order_stays() -> None:
    uploads = Uploads()
    await idle()
    assert uploads.begun == [b"0/0", b"1/0"]
    uploads.answers[b"1/0"].set_result(b"quick")
    uploads.answers[b"0/0"].set_result(b"slow")
    await idle()
    assert uploads.begun == [b"0/0", b"1/0", b"0/1"]
    uploads.answers[b"0/1"].set_result(b"last")
    await idle()
    await uploads.app.producer.confirm()
    await idle()
    assert [sent.value for sent in uploads.app.producer.sent] == [b"quick", b"slow", b"last"]
    assert len(uploads.app.in_flight) == 0


async def test_by_partition_what_waits_is_given_back_and_never_begun() -> None:
    uploads = Uploads()
    await idle()
    uploads.guard.give_back({TP("cgm.uploads", 1)})
    assert uploads.app.strict.forgotten == []
    uploads.guard.give_back({TP("cgm.uploads", 0)})
    assert uploads.app.strict.forgotten == [1]
    for value in (b"0/0", b"1/0"):
        uploads.answers[value].set_result(b"")
    await idle()
    await uploads.app.producer.confirm()
    await idle()
    assert (uploads.begun, len(uploads.app.in_flight)) == ([b"0/0", b"1/0"], 0)
