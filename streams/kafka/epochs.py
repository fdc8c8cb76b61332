"""How far a log goes with what was written under each of its leaders: what shows that it has lost its end.

Every leader of a partition has a higher epoch than the one before, and marks the batches that it takes with it. A log
that has lost its end, and is longer again, holds other batches at offsets that were read: of a higher epoch. Up to
where the earlier epochs reach, a broker tells by OffsetForLeaderEpoch (KIP-101, for consumers KIP-320).
"""

from collections import defaultdict
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion, LeaderNotAvailableError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Int64, Schema, String

_OFFSET_FOR_LEADER_EPOCH = 23
_ANY_LEADER, _A_CONSUMER = -1, -1
_UNKNOWN = -1


class EpochEndResponse(Response):  # type: ignore[misc]
    API_KEY = _OFFSET_FOR_LEADER_EPOCH
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader_epoch", Int32),
                        ("end_offset", Int64),
                    ),
                ),
            ),
        ),
    )


class EpochEndRequestV3(RequestStruct):  # type: ignore[misc]
    API_KEY = _OFFSET_FOR_LEADER_EPOCH
    API_VERSION = 3
    RESPONSE_TYPE = EpochEndResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32)),
                ),
            ),
        ),
    )


class EpochEndRequest(Request[EpochEndRequestV3]):  # type: ignore[misc]
    """Kafka has it from 2.3 on."""

    API_KEY = _OFFSET_FOR_LEADER_EPOCH

    def __init__(self, topics: list[tuple[str, list[tuple[int, int, int]]]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[EpochEndRequestV3]) -> EpochEndRequestV3:
        return request_struct_class(_A_CONSUMER, self._topics)


async def ends_of_epochs(consumer: AIOKafkaConsumer, epochs: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Before which offset each partition's log holds what it has of the epoch and of earlier ones.

    0 where it knows nothing of them: it is another log. Partitions are left out whose broker counts no epochs. Must be
    called in the consumer's event loop. Raises `KafkaError` like any question to the broker.
    """
    of_leader: dict[int, dict[str, list[tuple[int, int, int]]]] = defaultdict(lambda: defaultdict(list))
    for partition, epoch in epochs.items():
        leader = consumer._client.cluster.leader_for_partition(partition)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(str(partition))
        of_leader[leader][partition.topic].append((partition.partition, _ANY_LEADER, epoch))
    ends: dict[TopicPartition, int] = {}
    for leader, topics in of_leader.items():
        try:
            response = await consumer._client.send(leader, EpochEndRequest(list(topics.items())))
        except IncompatibleBrokerVersion:
            continue
        for topic, answers in response.topics:
            for error, number, _, end in answers:
                if error:
                    consumer._client.force_metadata_update()
                    raise for_code(error)(f"{topic}/{number}")
                ends[TopicPartition(topic, number)] = 0 if end == _UNKNOWN else end
    return ends
