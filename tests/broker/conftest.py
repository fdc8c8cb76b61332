"""An embedded broker without topics for each test, and one real Kafka with topics for those that only add to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import Settings
from tests.kit.brokers import PARTITIONS, embedded, formatted_once, local_kafka
from tests.kit.fixtures import broker  # noqa: F401 - a fixture


@pytest.fixture(scope="session", autouse=True)
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A node's storage is formatted by Kafka's tool once."""
    with formatted_once(tmp_path_factory.mktemp("storage") / "formatted"):
        yield


@pytest.fixture(scope="module", autouse=True)
def lean() -> Iterator[None]:
    """What the roles of these tests need no more of: partitions, and readers of files beside an ingest worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLUCAST_PARTITIONS", str(PARTITIONS))
        patch.setenv("GLUCAST_FILE_READERS", "1")
        yield


@pytest.fixture(scope="session")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Each test that asks for it has topics of its own there, and disturbs the broker in no way."""
    with local_kafka(tmp_path_factory.mktemp("kafka"), partitions=PARTITIONS) as (_, settings):
        yield settings


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """On either broker, with all topics; a module that needs something else has a fixture of this name."""
    if request.param == "kafka":
        yield request.getfixturevalue("shared_kafka")
    else:
        with embedded(tmp_path) as settings:
            yield settings
