"""What one fetch has brought of a partition: taken by bytes as well as by count, and known by its leader epoch.

aiokafka counts records alone, of which one has a hundred bytes and another twelve million.
"""

from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult

from streams.kafka.acks import NO_EPOCH

MOST_TAKEN_BYTES = 256 * 1024
"""Of a partition at a time: its next record is taken while there are fewer, whatever that one has."""


class Position(NamedTuple):
    """Where a consumer goes on in a partition, and the leader epoch of the last batch that it has read there."""

    offset: int
    epoch: int


def size_of(message: Any) -> int:
    """Bytes of key, value and headers of a record, or of Faust's message."""
    headers = sum(len(name) + len(content or b"") for name, content in message.headers or ())
    return len(message.key or b"") + len(message.value or b"") + headers


class Fetched(FetchResult):  # type: ignore[misc]
    """A fetch that was answered, for aiokafka's fetcher."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        """The next records: at most so many, and none once there are `MOST_TAKEN_BYTES`; the rest stays."""
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        taken, size = [], 0
        for record in self._partition_records:
            taken.append(record)
            size += size_of(record)
            if size >= MOST_TAKEN_BYTES or len(taken) == max_records:
                self._update_position()
                return taken
        self._update_position()
        self._partition_records = None
        return taken

    def _update_position(self) -> None:
        super()._update_position()
        if (epoch := self._partition_records.leader_epoch) != NO_EPOCH:
            self._assignment.state_value(self._topic_partition).leader_epoch = epoch


def positions(consumer: AIOKafkaConsumer) -> dict[TopicPartition, Position]:
    """Of the assigned partitions that have one."""
    subscription = consumer._subscription.subscription
    assignment = None if subscription is None else subscription.assignment
    if assignment is None:
        return {}
    states = {partition: assignment.state_value(partition) for partition in assignment.tps}
    return {
        partition: Position(state.position, getattr(state, "leader_epoch", NO_EPOCH))
        for partition, state in states.items()
        if state is not None and state.has_valid_position
    }
