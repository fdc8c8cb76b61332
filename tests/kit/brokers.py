"""Brokers for tests: the embedded one, and a real Kafka where there is one."""

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.brokers import local_kafka as local_kafka_module
from deploy.brokers.broker import Broker
from deploy.brokers.embedded import EmbeddedBroker
from deploy.brokers.local_kafka import LocalKafka, new_cluster_id
from schemas.errors import ConfigurationError
from streams.kafka.provision import provision
from streams.settings import Settings

PARTITIONS = 2
"""Of each topic: fewer than where people run it, for each has databases in every worker, and its logs in the broker."""


def kafka_home() -> Path:
    """KAFKA_HOME, or a Kafka beside the checkout; skips the test, with a reason, where there is none."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "kafka"
    home = Path(os.environ.get("KAFKA_HOME") or beside)
    if not any((home / "libs").glob("*.jar")):
        pytest.skip(f"no Apache Kafka: KAFKA_HOME is not set and {beside} holds no libs/*.jar")
    return home


def overrides_of(broker: Broker) -> dict[str, Any]:
    """The settings that clients of this broker need in tests."""
    return dict(broker.settings_overrides)


@contextmanager
def provisioned(broker: Broker, home: Path, **changes: object) -> Iterator[Settings]:
    """Start the broker and create all topics; yields the settings that a client of it needs."""
    broker.start()
    try:
        settings = Settings(broker=broker.address, state_dir=home, **(overrides_of(broker) | changes))
        asyncio.run(provision(settings))
        yield settings
    finally:
        end(broker)


def end(broker: Broker) -> None:
    """At once: nobody will want what it holds."""
    if isinstance(broker, LocalKafka):
        broker.kill()
    broker.stop()


@contextmanager
def soon_forgotten() -> Iterator[None]:
    """A Kafka that is started in here and killed may come back after 2 s; else after 4, when its session has ended."""
    lines = "broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=500\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_kafka_module, "_CONFIG", local_kafka_module._CONFIG + lines)
        yield


@contextmanager
def formatted_once(home: Path) -> Iterator[None]:
    """Kafka's tool formats the first storage that a node needs; each further one is a copy with its own ids.

    That is a process of Java less, half the cost of the broker's own start. The first one is kept in `home`.
    """
    format_storage = LocalKafka.format_storage

    def formatted(kafka: LocalKafka) -> None:
        if not home.exists():
            format_storage(kafka)
            files = [path for path in kafka.data.iterdir() if path.is_file()]
            home.mkdir()
            for path in files:
                shutil.copy(path, home)
            return
        shutil.rmtree(kafka.data, ignore_errors=True)
        shutil.copytree(home, kafka.data, dirs_exist_ok=True)  # the directory itself may be a disk
        member = kafka._membership
        cluster, node = (member.cluster_id, member.number) if member else (new_cluster_id(), 1)
        ids = {"cluster.id": cluster, "node.id": node, "directory.id": new_cluster_id()}
        properties = kafka.data / "meta.properties"
        text = properties.read_text()
        for name, value in ids.items():
            text, count = re.subn(rf"(?m)^{re.escape(name)}=.*$", f"{name}={value}", text)
            assert count == 1, f"{properties} has no {name}"
        properties.write_text(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalKafka, "format_storage", formatted)
        yield


@contextmanager
def embedded(home: Path) -> Iterator[Settings]:
    """A fresh embedded broker with all topics."""
    with provisioned(EmbeddedBroker(home), home) as settings:
        yield settings


@contextmanager
def local_kafka(home: Path, **changes: object) -> Iterator[tuple[LocalKafka, Settings]]:
    """A fresh real Kafka with all topics; skips where there is none."""
    kafka = kafka_home()
    try:
        broker = LocalKafka(home, kafka)
    except ConfigurationError as error:  # no Java
        pytest.skip(str(error))
    with provisioned(broker, home, **changes) as settings:
        yield broker, settings
