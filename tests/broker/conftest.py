"""An embedded broker without topics for each test, and one real Kafka with topics for those that only add to it."""

from collections.abc import Iterator

import pytest

from streams.settings import Settings
from tests.kit.brokers import local_kafka
from tests.kit.fixtures import broker  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Each test that asks for it has topics of its own there, and disturbs the broker in no way."""
    with local_kafka(tmp_path_factory.mktemp("kafka")) as (_, settings):
        yield settings
