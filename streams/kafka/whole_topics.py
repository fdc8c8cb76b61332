"""All that a topic holds now: for commands that look through it once."""

from collections.abc import AsyncIterator, Collection

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import ConsumerRecord

from schemas.errors import TopicMismatchError, UnavailableError
from streams.kafka.connection import new_consumer
from streams.kafka.log_ends import log_ends
from streams.kafka.provision import ADVICE, partitions_of
from streams.settings import Settings


async def everything(
    settings: Settings, topic: str, only: Collection[int] | None = None, last: int | None = None
) -> AsyncIterator[ConsumerRecord]:
    """What the topic holds now, partition by partition; no consumer group is joined.

    `only`: of these partitions; `last`: the last so many offsets of each.
    """
    count = await partitions_of(settings, topic)
    if count == 0:
        raise TopicMismatchError(f"{topic} is missing at {settings.broker}; {ADVICE}")
    consumer = new_consumer(settings)
    await started(consumer, settings)
    try:
        partitions = [TopicPartition(topic, number) for number in range(count) if only is None or number in only]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await log_ends(consumer, partitions)
        if last is not None:
            begins = await consumer.beginning_offsets(partitions)
            for partition, end in ends.items():
                consumer.seek(partition, max(begins[partition], end - last))
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record
    finally:
        await consumer.stop()


async def started(client: AIOKafkaConsumer | AIOKafkaProducer, settings: Settings) -> None:
    """Start a client. Raises `UnavailableError` where no broker answers."""
    try:
        await client.start()
    except KafkaConnectionError as error:
        await client.stop()
        raise UnavailableError(f"no Kafka answers at {settings.broker}") from error
