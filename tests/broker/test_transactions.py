"""Producers with transactions: what they abort is never read, and their markers keep nobody waiting."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.bench.roles import Roles
from schemas import topics
from schemas.reading import ReadingOutcome
from streams.kafka.connection import producer_options
from streams.settings import Settings
from tests.kit.brokers import local_kafka
from tests.kit.clients import Client
from tests.kit.pipeline import environment_of

SUBJECT = b"ada"


def reading(minute: int) -> bytes:
    return b'{"subject_id": "ada", "time": "2026-01-01T08:%02d:00Z", "glucose": 110, "unit": "mg/dL"}' % minute


async def publish(settings: Settings, minutes: range, commit: bool) -> None:
    options = producer_options(settings) | {"acks": "all"}
    producer = AIOKafkaProducer(**options, transactional_id=f"test-{minutes.start}")
    await producer.start()
    try:
        await producer.begin_transaction()
        for minute in minutes:
            await producer.send_and_wait(topics.READINGS.name, reading(minute), key=SUBJECT)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


@pytest.mark.kafka
@pytest.mark.timeout(150)
def test_aborted_readings_are_not_read_and_markers_are_no_lag(tmp_path: Path) -> None:
    """The worker ends itself after 5 s of lag without progress: it must not, though a marker is the log's last."""
    with (
        local_kafka(tmp_path) as (_, settings),
        Roles(settings.broker, tmp_path / "roles", environment_of({"stall_seconds": 5})) as roles,
    ):
        client, worker = Client(settings), roles.worker("ingest")
        roles.wait_until_ready()
        asyncio.run(publish(settings, range(3), commit=True))
        asyncio.run(publish(settings, range(20, 24), commit=False))
        asyncio.run(publish(settings, range(40, 42), commit=True))
        asyncio.run(publish(settings, range(50, 51), commit=False))
        client.until(topics.READING_OUTCOMES.name, lambda found: len(found) >= 5)
        waited = asyncio.run(_lag_becomes_zero(worker.url))
        assert waited, "the worker still reports lag"
        assert asyncio.run(_alive_for(worker, 12)), worker.log.read_text()[-2000:]
        outcomes = [ReadingOutcome.from_json(record.value) for record in client.records(topics.READING_OUTCOMES.name)]
        minutes = sorted(outcome.time.minute for outcome in outcomes if outcome.time)
        assert minutes == [0, 1, 2, 40, 41]


async def _lag_becomes_zero(url: str) -> bool:
    import httpx

    async with httpx.AsyncClient() as client:
        for _ in range(150):
            text = (await client.get(f"{url}/metrics")).text
            lags = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("glucast_lag{")]
            if lags and not any(lags):
                return True
            await asyncio.sleep(0.1)
    return False


async def _alive_for(worker: object, seconds: float) -> bool:
    """More than two stalls long."""
    for _ in range(round(10 * seconds)):
        if worker.returncode is not None:  # type: ignore[attr-defined]
            return False
        await asyncio.sleep(0.1)
    return True
