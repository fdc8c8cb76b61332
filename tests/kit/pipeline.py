"""A whole glucast for tests: a broker, its topics, every role as a process of its own."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from aiokafka.structs import ConsumerRecord

from deploy.bench.faults_audit import read_all
from deploy.bench.roles import Place, Roles
from deploy.brokers.broker import Broker
from deploy.roles import variables
from schemas.topics import Topic
from streams.kafka.provision import provision
from streams.settings import Settings
from tests.kit.brokers import overrides_of
from tests.kit.clients import Client


class Pipeline:
    """The running roles, their broker, the settings that a client of it needs, and a client."""

    def __init__(self, broker: Broker, home: Path, roles: Roles) -> None:
        self.broker, self.home, self.roles = broker, home, roles
        self.settings = Settings(broker=broker.address, state_dir=home, **overrides_of(broker))
        self.client = Client(self.settings)

    @property
    def url(self) -> str:
        return next(process.url for process in self.roles.all if process.name.startswith("api"))

    def records(self, *topics: Topic) -> list[ConsumerRecord[bytes, bytes]]:
        """Everything on these topics now."""
        return [record for topic in topics for record in asyncio.run(read_all(self.settings, topic.name))]


@contextlib.contextmanager
def running(
    broker: Broker, home: Path, counts: Mapping[str, int], places: Mapping[str, Place] | None = None, **settings: object
) -> Iterator[Pipeline]:
    """Provision the topics and run so many processes of each role; ready when entered, stopped when left.

    `places`: of processes that are not like the others, by their names: ``calc-1``.
    """
    overrides = overrides_of(broker) | settings
    asyncio.run(provision(Settings(broker=broker.address, state_dir=home, **overrides_of(broker))))
    with Roles(broker.address, home / "roles", variables(overrides)) as roles:
        for role, count in counts.items():
            for number in range(count):
                place = (places or {}).get(f"{role}-{number}")
                if role == "api":
                    roles.api(number, place)
                elif role == "notify":
                    roles.notify(number, place)
                else:
                    roles.worker(role, number, place=place)
        roles.wait_until_ready()
        yield Pipeline(broker, home, roles)
