"""Partitions go to somebody else while writes of this worker still wait for a broker: they must not follow."""

import asyncio
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas.topics import READINGS
from streams.apps import Host, step_app
from streams.kafka.connection import producer_options
from streams.metrics import Metrics
from streams.settings import Settings
from tests.kit.brokers import embedded
from tests.kit.step_worker import counting, idle
from tests.kit.waiting import until_async


def test_a_worker_ends_that_gives_partitions_away_with_writes_in_its_queue(tmp_path: Path) -> None:
    with embedded(tmp_path) as settings:
        asyncio.run(_give_away(settings, tmp_path))


async def _give_away(settings: Settings, home: Path) -> None:
    ended: list[str] = []
    app = step_app(
        "ingest",
        Host(settings, Metrics(), ended.append, home, 1234),
        lambda step, _: counting if step.name == "window" else idle,
    )
    await app.start()
    await until_async(app.ledgers, "the worker has its partitions")
    sender, slow = app.producer._producer._sender, asyncio.Event()
    send = sender._send_produce_req

    async def slowly(node: Any, batches: Any) -> None:
        await slow.wait()
        await send(node, batches)

    sender._send_produce_req = slowly
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    await producer.send_and_wait(READINGS.name, b"reading", key=b"anna")
    await producer.stop()
    await until_async(lambda: app.in_flight.unconfirmed, "a write waits in the queue")
    revoking = asyncio.create_task(app.strict.on_partitions_revoked(set(app.strict.assignment())))
    await until_async(lambda: ended, "the worker ends")
    assert ended == ["the group gives the partitions away while effects are on their way"]
    slow.set()  # what the end of the process would have prevented
    await revoking
    await app.stop()
