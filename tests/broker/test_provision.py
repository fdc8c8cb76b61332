import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError

from deploy.brokers.embedded import EmbeddedBroker
from deploy.brokers.local_cluster import LocalCluster
from deploy.brokers.wire import LOOPBACK, HeldPort
from schemas import topics
from schemas.errors import TopicMismatchError, UnavailableError
from streams import topology
from streams.kafka import provision
from streams.settings import Settings
from tests.kit.brokers import kafka_home


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Settings:
    return Settings(broker=broker.address, partitions=2)


async def test_provisioning_creates_everything_once_and_satisfies_the_check(settings: Settings) -> None:
    missing = await provision.check(settings)
    assert {mismatch.topic for mismatch in missing} == {topic.name for topic in topology.all_topics()}
    with pytest.raises(TopicMismatchError, match=r"is missing.*run: glucast topics provision"):
        await provision.require(settings)

    first = await provision.provision(settings)
    second = await provision.provision(settings)

    assert len(first.created) == first.total == len(topology.all_topics())
    assert (second.created, second.altered) == ((), ())
    await provision.require(settings)


async def test_a_topic_that_the_asked_broker_does_not_know_yet_is_not_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster one broker lists a topic that another, asked for its partitions, has yet to hear of."""
    await provision.provision(settings)
    names = [topic.name for topic in topology.all_topics()]
    async with provision._Admin(settings) as admin:
        described = admin._client.describe_topics

        async def half(wanted: list[str]) -> list[dict[str, Any]]:
            first, *rest = await described(wanted)
            return [{**first, "error_code": 3, "partitions": []}, *rest]

        monkeypatch.setattr(admin._client, "describe_topics", half)
        found = await admin.describe(names)
    assert len(found) == len(names) - 1


async def test_who_may_not_join_may_provision(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with provision._Admin(settings) as admin:

        async def refused(_: str) -> None:
            raise GroupAuthorizationFailedError("glucast-ingest")

        monkeypatch.setattr(admin._client, "find_coordinator", refused)
        assert await admin.has_coordinator()
        assert not await admin.may_join("glucast-ingest")


async def test_two_provisioners_at_once_do_not_disturb_each_other(settings: Settings) -> None:
    await asyncio.gather(provision.provision(settings), provision.provision(settings))
    assert await provision.check(settings) == []


async def test_other_partitions_than_configured_are_named_and_never_changed(settings: Settings) -> None:
    await provision.provision(settings)
    other = settings.model_copy(update={"partitions": 4})
    mismatches = await provision.check(other)
    assert {str(mismatch) for mismatch in mismatches} >= {"cgm.readings: has 2 partitions, GLUCAST_PARTITIONS says 4"}
    with pytest.raises(TopicMismatchError, match="Set GLUCAST_PARTITIONS to what exists"):
        await provision.provision(other)
    assert await provision.check(settings) == []


async def test_a_role_may_wait_for_its_topics_but_not_for_what_never_comes(settings: Settings) -> None:
    patient = settings.model_copy(update={"topics_wait_seconds": 60.0})
    waiting = asyncio.create_task(provision.require(patient))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await provision.provision(settings)
    await asyncio.wait_for(waiting, 30)
    with pytest.raises(TopicMismatchError, match="2 partitions"):
        await asyncio.wait_for(provision.require(patient.model_copy(update={"partitions": 4})), 30)


async def test_no_broker_is_an_error_with_its_address() -> None:
    nobodys = HeldPort()
    address = f"{LOOPBACK}:{nobodys.number}"
    with pytest.raises(UnavailableError, match=address):
        await provision.check(Settings(broker=address))


def test_numbers_are_lower_bounds_and_policies_exact() -> None:
    wanted = provision.wanted_config(topics.READINGS, 1)
    assert wanted == {
        "cleanup.policy": "delete", "max.message.bytes": "1048576", "retention.ms": "604800000",
        "message.timestamp.type": "LogAppendTime", "segment.ms": "86400000",
    }  # fmt: skip
    assert "message.timestamp.type" not in provision.wanted_config(topics.FAN_CHARTS, 1)
    compacted = provision.wanted_config(topics.UPLOAD_OUTCOMES, 1)
    assert (compacted["cleanup.policy"], compacted["delete.retention.ms"]) == ("compact", "86400000")
    assert "retention.ms" not in compacted
    assert (compacted["max.compaction.lag.ms"], "segment.ms" in compacted) == ("86400000", False)
    enough = [provision._suffices("retention.ms", is_, "10") for is_ in ("10", "11", "-1", "9", "0")]
    assert enough == [True, True, True, False, False]
    assert [provision._suffices("segment.ms", is_, "10") for is_ in ("9", "10", "11")] == [True, True, False]
    assert not provision._suffices("cleanup.policy", "compact,delete", "compact")


@pytest.mark.parametrize(
    ("copies", "complaints"),
    [
        (1, []),
        (2, ["unclean.leader.election.enable is true, it has to be false"]),
        (
            3,
            [
                "min.insync.replicas is 1, it has to be at least 2",
                "unclean.leader.election.enable is true, it has to be false",
            ],
        ),
    ],
)
def test_what_was_confirmed_has_to_survive_a_broker_where_there_are_several(copies: int, complaints: list[str]) -> None:
    name, careless = topics.READINGS.name, {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    found = provision._Found(4, copies, True, careless, {})
    differences = provision._differences({name: topics.READINGS}, {name: found}, Settings(partitions=4))
    assert [(str(each), each.repairable) for each in differences] == [(f"{name}: {text}", True) for text in complaints]
    careful = provision._Found(4, copies, True, provision.wanted_config(topics.READINGS, copies), {})
    assert provision._differences({name: topics.READINGS}, {name: careful}, Settings(partitions=4)) == []


@pytest.mark.kafka
async def test_of_all_topics_the_same_broker_leads_a_partition_of_the_same_number(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, brokers=2, kafka_home=kafka_home())
    try:
        await asyncio.to_thread(cluster.start)
        settings = Settings(broker=cluster.address, replication_factor=2, partitions=4)
        await provision.provision(settings)
        assert await provision.check(settings) == []
        client = AIOKafkaAdminClient(bootstrap_servers=cluster.address)
        await client.start()
        try:
            rows = await client.describe_topics([topic.name for topic in topology.all_topics()])
        finally:
            await client.close()
    finally:
        await asyncio.to_thread(cluster.stop)
    for row in rows:
        held = {each["partition"]: each["replicas"] for each in row["partitions"]}
        assert held == {0: [1, 2], 1: [2, 1], 2: [1, 2], 3: [2, 1]}, row["topic"]
