"""On a real Kafka: several notify processes share the work; one joins and one is killed while there is much to tell."""

import asyncio
import datetime
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.bench.faults_told import environment
from deploy.bench.roles import RoleProcess, Roles
from deploy.brokers.local_kafka import LocalKafka
from deploy.roles import variables
from schemas.topics import ALERTS, WEBHOOK_DELIVERIES
from schemas.webhook import Delivery
from streams.kafka.connection import producer_options
from streams.kafka.partitioning import partition_of
from streams.kafka.whole_topics import everything
from streams.notify import webhook_file
from streams.settings import Settings
from tests.kit.alerts import alert, endpoint
from tests.kit.brokers import local_kafka, soon_forgotten
from tests.kit.receiver import Receiver, receiving
from tests.kit.waiting import until_async

QUICK: dict[str, object] = {"session_timeout_seconds": 3.0, "heartbeat_seconds": 1.0, "log_format": "json"}
EVERY_SECONDS = 0.03
MORE = 20
"""So many alerts come before the next thing happens."""
HOOKS = ("one", "two")


class Alerts:
    """Alerts of people of every partition, published until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._enough = asyncio.Event()
        self.ids: list[str] = []
        names = (f"person-{number}" for number in itertools.count())
        people: dict[int, str] = {}
        while len(people) < settings.partitions:
            name = next(names)
            people.setdefault(partition_of(name.encode(), settings.partitions), name)
        self._people = itertools.cycle(people.values())

    async def run(self) -> None:
        options = producer_options(self._settings) | {"enable_idempotence": True}
        async with AIOKafkaProducer(**options) as producer:
            while not self._enough.is_set():
                digest, whose = f"{len(self.ids):064x}", next(self._people)
                told = alert(alert_id=digest, subject_id=whose, issue_time=now())
                await producer.send_and_wait(ALERTS.name, told.to_json(), whose.encode())
                self.ids.append(f"alert_{digest}_raised")
                await asyncio.sleep(EVERY_SECONDS)

    def more(self) -> Callable[[], bool]:
        """Whether some more have come since this was asked for."""
        wanted = len(self.ids) + MORE
        return lambda: len(self.ids) >= wanted

    def stop(self) -> None:
        self._enough.set()


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def held(role: RoleProcess) -> set[int]:
    """The partitions that a process took over when it did so last, as its log tells."""
    took: set[int] = set()
    for line in role.log.read_text().splitlines():
        if "took partitions over" in line:
            took = set(json.loads(line)["partitions"])
    return took


def ids(receiver: Receiver) -> set[str]:
    return {each.headers["webhook-id"] for each in receiver.accepted}


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[tuple[LocalKafka, Settings]]:
    with soon_forgotten(), local_kafka(tmp_path, partitions=4) as started:
        yield started


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_who_joins_and_who_is_killed_under_load_loses_nothing(
    kafka: tuple[LocalKafka, Settings], tmp_path: Path
) -> None:
    broker, settings = kafka
    async with receiving() as one, receiving() as two:
        told = await _shared(broker, settings, tmp_path, dict(zip(HOOKS, (one, two), strict=True)))
        for receiver in (one, two):
            assert ids(receiver) == set(told)
    last: dict[tuple[str, str], str] = {}
    async for record in everything(settings, WEBHOOK_DELIVERIES.name):
        step = Delivery.from_json(record.value)
        last[step.webhook_id, step.event_id] = step.status
    assert last == {(name, event_id): "delivered" for name in HOOKS for event_id in told}


async def _shared(broker: LocalKafka, settings: Settings, home: Path, hooks: dict[str, Receiver]) -> list[str]:
    """Two processes, a third that joins, then the second is killed: the ids of all alerts that came meanwhile."""
    file = home / "webhooks"
    own = QUICK | {"partitions": settings.partitions}
    variables_of_roles = variables(dict(broker.settings_overrides) | own) | environment(file)
    for name, receiver in hooks.items():
        webhook_file.add(file, endpoint(name, url=f"{receiver.url}/hook", events=["alert"], added_at=now()))
    every = set(range(settings.partitions))
    with Roles(settings.broker, home / "roles", variables_of_roles) as roles:
        first, second = roles.notify(0), roles.notify(1)
        await asyncio.to_thread(roles.wait_until_ready)
        await until_async(lambda: held(first) | held(second) == every and held(second), "both share the work")
        alerts = Alerts(settings)
        async with asyncio.TaskGroup() as group:
            group.create_task(alerts.run())
            try:
                await until_async(alerts.more(), "some come")
                third = roles.notify(2)
                await until_async(lambda: held(third), "the third takes some of it over", 60)
                slow = hooks[HOOKS[-1]]
                slow.statuses = [500] * 3  # each process waits for some seconds, and what comes meanwhile with it
                await until_async(lambda: not slow.statuses, "each has failed once")
                await until_async(alerts.more(), "some come to three")
                second.kill()
                await until_async(alerts.more(), "some come while nobody has what the second had")
                await until_async(lambda: held(first) | held(third) == every, "its share is taken over", 60)
                await until_async(alerts.more(), "some come to two")
            finally:
                alerts.stop()
        for name, receiver in hooks.items():
            await until_async(lambda got=receiver: ids(got) >= set(alerts.ids), f"all is told to {name}", 60)
        assert [role.stop() for role in (first, third)] == [0, 0]
    return alerts.ids
