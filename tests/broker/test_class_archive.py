"""The archive of Kafka's classes on a real Kafka: made while it runs, used from the next start on, nothing is lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.brokers import class_archive
from deploy.brokers.broker import Report, quiet
from deploy.brokers.local_kafka import LocalKafka
from schemas.topics import READINGS
from streams.kafka import provision
from streams.kafka.connection import producer_options
from streams.kafka.whole_topics import everything
from streams.settings import Settings
from tests.kit.brokers import end, kafka_home, soon_forgotten
from tests.kit.waiting import until

pytestmark = pytest.mark.kafka


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The machine may be full of tests, and none of them waits for this one: it gives way to nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(class_archive, "_NICENESS", 0)
    with soon_forgotten():
        yield tmp_path / "cache" / "glucast"


async def test_the_second_start_has_its_classes_from_the_archive_and_a_damaged_one_stops_nothing(
    tmp_path: Path, cache: Path
) -> None:
    said: list[str] = []
    first = _started(tmp_path, said.append)
    try:
        await provision.provision(settings := _settings(first))
        await _produce(settings, b"kept")
        archive = until(lambda: next(cache.glob("*.jsa"), None), "the archive is made", 120)
        assert not _maps(first, archive)
        assert any("half the time" in line for line in said)
    finally:
        end(first)

    second = _started(tmp_path)
    try:
        assert _maps(second, archive)
        await _has(second, [b"kept"])
        await _produce(_settings(second), b"too")
    finally:
        end(second)

    os.truncate(archive, archive.stat().st_size // 2)
    third = _started(tmp_path)
    try:
        assert not _maps(third, archive)
        assert not archive.exists()
        await _has(third, [b"kept", b"too"])
    finally:
        end(third)
    log = third.log.read_text()
    assert not [word for word in ("[cds", "SIGBUS", "VM warning", str(cache)) if word in log], "nothing to worry about"


def _started(home: Path, report: Report = quiet) -> LocalKafka:
    broker = LocalKafka(home, kafka_home())
    broker.start(report)
    return broker


def _settings(broker: LocalKafka) -> Settings:
    return Settings(broker=broker.address, partitions=2)


def _maps(broker: LocalKafka, archive: Path) -> bool:
    """Whether the JVM has the file in its memory."""
    return str(archive) in Path(f"/proc/{broker.pid}/maps").read_text()


async def _has(broker: LocalKafka, values: list[bytes]) -> None:
    settings = _settings(broker)
    assert await provision.check(settings) == []
    assert [record.value async for record in everything(settings, READINGS.name)] == values


async def _produce(settings: Settings, value: bytes) -> None:
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    try:
        await producer.send_and_wait(READINGS.name, value, b"key")
    finally:
        await producer.stop()
