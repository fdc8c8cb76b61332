"""The archive of Kafka's classes on a real Kafka: made while it runs, used from the next start on, nothing is lost."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from filelock import FileLock

from deploy.brokers import class_archive
from deploy.brokers.broker import Report, quiet
from deploy.brokers.local_kafka import LocalKafka
from streams.settings import Settings
from tests.kit.brokers import end, kafka_home, soon_forgotten
from tests.kit.clients import Client
from tests.kit.waiting import until

pytestmark = pytest.mark.kafka

TOPIC = "kept"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Here somebody waits for the archive: who makes it gives way to nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(class_archive, "_NICENESS", 0)
    with soon_forgotten():
        yield tmp_path / "cache" / "glucast"


def test_the_second_start_has_its_classes_from_the_archive_and_a_damaged_one_stops_nothing(
    tmp_path: Path, cache: Path
) -> None:
    said: list[str] = []
    with started(tmp_path, said.append) as first:
        asyncio.run(create_topic(first))
        client_of(first).publish(TOPIC, [(None, b"one")])
        archive = until(lambda: next(cache.glob("*.jsa"), None), "the archive is made", 120)
        assert not maps(first, archive)
    assert len(said) == 1
    assert "keeping Kafka's classes" in said[0]

    with started(tmp_path, said.append) as second:
        assert maps(second, archive)
        client_of(second).publish(TOPIC, [(None, b"two")])
        assert held(second) == [b"one", b"two"]
    assert len(said) == 1

    os.truncate(archive, archive.stat().st_size // 2)
    with FileLock(cache / "kafka-classes.lock"), started(tmp_path) as third:  # no other one is made meanwhile
        assert not maps(third, archive)
        assert held(third) == [b"one", b"two"]
    log = third.log.read_text()
    assert not [word for word in ("[cds", "SIGBUS", "VM warning", str(cache)) if word in log], "nothing to worry about"


@contextmanager
def started(home: Path, report: Report = quiet) -> Iterator[LocalKafka]:
    broker = LocalKafka(home, kafka_home())
    broker.start(lambda line: None if line.startswith(("formatting", "waiting")) else report(line))
    try:
        yield broker
    finally:
        end(broker)


def maps(broker: LocalKafka, archive: Path) -> bool:
    """Whether the JVM has the file in its memory."""
    return str(archive) in Path(f"/proc/{broker.pid}/maps").read_text()


def client_of(broker: LocalKafka) -> Client:
    return Client(Settings(broker=broker.address, partitions=1))


def held(broker: LocalKafka) -> list[bytes | None]:
    return [record.value for record in client_of(broker).records(TOPIC)]


async def create_topic(broker: LocalKafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    finally:
        await admin.close()
