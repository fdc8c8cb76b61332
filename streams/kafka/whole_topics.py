"""All that a topic holds now: for commands that look through it once."""

import datetime
from collections.abc import AsyncIterator, Collection

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import ConsumerRecord

from schemas.errors import TopicMismatchError, UnavailableError
from schemas.topics import READINGS
from streams.kafka.connection import new_consumer
from streams.kafka.log_ends import log_ends
from streams.kafka.provision import ADVICE, partitions_of
from streams.settings import Settings


async def everything(
    settings: Settings,
    topic: str,
    only: Collection[int] | None = None,
    last: int | None = None,
    since: datetime.datetime | None = None,
) -> AsyncIterator[ConsumerRecord]:
    """What the topic holds now, partition by partition; no consumer group is joined.

    `only`: of these partitions; `last`: the last so many offsets of each; `since`: what came from then on.
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
        begins = dict.fromkeys(partitions, 0)
        if last is not None:
            begins = await consumer.beginning_offsets(partitions)
            begins = {partition: max(begins[partition], end - last) for partition, end in ends.items()}
        if since is not None:
            since_ms = int(since.timestamp() * 1000)
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
            for partition, end in ends.items():
                first = found.get(partition)
                begins[partition] = max(begins[partition], end if first is None else first.offset)
        if last is not None or since is not None:
            for partition, begin in begins.items():
                consumer.seek(partition, begin)
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record
    finally:
        await consumer.stop()


async def placed(settings: Settings) -> Settings:
    """The settings with as many partitions as the topics have: who runs a command need not know how many.

    What is meant for every partition, or for the one of a key, would else miss some, and nobody would say so. Raises
    `TopicMismatchError` where the topics are missing, `UnavailableError` without a broker.
    """
    count = await partitions_of(settings, READINGS.name)
    if count == 0:
        raise TopicMismatchError(f"{READINGS.name} is missing at {settings.broker}; {ADVICE}")
    return settings.model_copy(update={"partitions": count})


async def started(client: AIOKafkaConsumer | AIOKafkaProducer, settings: Settings) -> None:
    """Start a client. Raises `UnavailableError` where no broker answers."""
    try:
        await client.start()
    except KafkaConnectionError as error:
        await client.stop()
        raise UnavailableError(f"no Kafka answers at {settings.broker}") from error
