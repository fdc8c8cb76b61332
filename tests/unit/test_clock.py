"""Ticks: one on each partition of the readings that a worker reads, and none that ends it."""

import asyncio
from typing import Any

import pytest
from faust.types import TP

from agents.work import Message
from schemas.arrival import TICK, TICK_KEY, Arrival
from schemas.topics import ARRIVALS, READINGS
from streams.clock import Clock
from tests.kit.guarded import FakeApp
from tests.kit.waiting import until_async
from tests.kit.workbench import Workbench, built


class App(FakeApp):
    """That reads partitions."""

    def ledgers(self) -> dict[TP, None]:
        return {TP(READINGS.name, 0): None, TP(READINGS.name, 2): None, TP("cgm.uploads", 1): None}


def clock(app: Any, seconds: float = 0.001) -> Clock:
    return Clock(app, seconds)


async def test_a_tick_goes_to_each_partition_of_readings_that_is_read() -> None:
    app = App()
    ticking = asyncio.create_task(clock(app).tick())
    await until_async(lambda: len(app.producer.sent) == 2, "both ticks")
    await app.producer.confirm()
    await ticking
    assert [(sent.topic, sent.partition, sent.key, sent.value, sent.headers) for sent in app.producer.sent] == [
        (READINGS.name, partition, TICK_KEY.encode(), None, {TICK: b"1"}) for partition in (0, 2)
    ]


async def test_a_broker_that_is_away_ends_no_clock(caplog: pytest.LogCaptureFixture) -> None:
    app, tried = App(), 0

    async def send(*_: object) -> None:
        nonlocal tried
        tried += 1
        raise ConnectionError

    app.producer.send = send  # type: ignore[method-assign, assignment]
    running = asyncio.create_task(clock(app).run())
    await until_async(lambda: tried >= 3, "a third try")
    running.cancel()


async def test_the_window_step_passes_a_tick_on_with_the_brokers_time_to_its_own_partition() -> None:
    step = built("window")
    message = Message(
        topic="t", partition=3, key=TICK_KEY.encode(), value=None, headers={TICK: b"1"}, timestamp_ms=1_700_000_000_123
    )
    work = await Workbench(4).tables.run(*step, message)
    (send,) = work.sends
    assert (send.topic, send.partition, work.writes) == (ARRIVALS, 3, {})
    assert Arrival.from_json(send.value) == Arrival(what="tick", came_ms=1_700_000_000_123)
