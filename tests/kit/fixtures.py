"""Fixtures of more than one folder: its conftest imports those that its tests ask for."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.brokers.embedded import EmbeddedBroker
from streams.kafka.provision import provision
from streams.settings import Settings
from tests.kit.small_pipeline import SmallPipeline, working

ANSWER_SECONDS = 60.0
"""Of a machine that is busy elsewhere too."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """An embedded broker without topics."""
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
async def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    """For clients of that broker, which has all topics now."""
    settings = Settings(
        broker=broker.address, state_dir=tmp_path / "state", partitions=2, answer_timeout_seconds=ANSWER_SECONDS
    )
    await provision(settings)
    return settings


@pytest.fixture
async def pipeline(settings: Settings) -> AsyncIterator[SmallPipeline]:
    """All roles behind that broker, in this event loop."""
    async with working(settings) as pipeline:
        yield pipeline
