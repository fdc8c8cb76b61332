"""Where logs end now, on every broker.

The embedded broker answers ListOffsets with the end of the first record of the last batch, however many it holds; the
high watermark that comes with a fetch is right there and on Kafka. Too low an end makes a table stop its recovery too
early, or look as if it were ahead of its changelog. Where a transaction is open the log ends before it for now: that
is as far as anybody reads.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.protocol.fetch import FetchRequest

from streams.kafka.asking import AT_ONCE_MILLISECONDS

_MIN_BYTES, _MAX_BYTES, _READ_COMMITTED = 1, 0, 1


async def log_ends(consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset after the last readable record of each partition. Must be called in the consumer's event loop.

    Raises `KafkaError` like any question to the broker.
    """
    ends: dict[TopicPartition, int] = await consumer.end_offsets(list(partitions))
    for request, leader in _fetches(consumer, ends):
        response = await consumer._client.send(leader, request)
        for topic, answers in response.topics:
            for number, error, high_watermark, last_stable, *_ in answers:
                if error == 0:
                    partition = TopicPartition(topic, number)
                    readable = last_stable if 0 <= last_stable < high_watermark else high_watermark
                    ends[partition] = max(ends[partition], readable)
    return ends


def _fetches(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> Iterator[tuple[FetchRequest, int]]:
    """Fetches of nothing, from the reported ends: one a leader."""
    of_leader: dict[int, dict[str, list[tuple[int, int, int]]]] = defaultdict(lambda: defaultdict(list))
    for partition, end in ends.items():
        leader = consumer._client.cluster.leader_for_partition(partition)
        if leader is not None and leader >= 0:
            of_leader[leader][partition.topic].append((partition.partition, end, _MAX_BYTES))
    for leader, topics in of_leader.items():
        parts = list(topics.items())
        yield FetchRequest(AT_ONCE_MILLISECONDS, _MIN_BYTES, _MAX_BYTES, _READ_COMMITTED, parts, rack_id=""), leader
