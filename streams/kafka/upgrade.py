"""What an earlier version left on topics that this one does not read: moved on, once, so that nothing is lost."""

import asyncio

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError

from schemas.errors import UnavailableError
from schemas.topics import FORECASTS
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.decoding import Undecodable
from streams.kafka.log_ends import log_ends
from streams.settings import Settings
from streams.topology import app_id

FORECASTS_BEFORE_LANES = "cgm.forecasts"
POLL_MILLISECONDS = 200


async def move_forecasts(settings: Settings, partitions: int) -> int:
    """Send the forecasts that calc had not read from the topic of all lanes to the backfill lane; how many they were.

    `partitions` of that topic. How far it has come is committed in calc's name, which no member may have at the time.
    Delivered twice they are the same charts. Raises `UnavailableError` where there is one.
    """
    consumer = new_consumer(settings, group_id=app_id("calc"))
    producer = AIOKafkaProducer(**producer_options(settings))
    moved = 0
    await consumer.start()
    await producer.start()
    try:
        assigned = [TopicPartition(FORECASTS_BEFORE_LANES, number) for number in range(partitions)]
        consumer.assign(assigned)
        ends = await log_ends(consumer, assigned)
        begins = {partition: await consumer.position(partition) for partition in assigned}
        if any(begins[partition] < end for partition, end in ends.items()):
            await consumer.commit(begins)  # refused where calc runs: before anything is sent
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            batches = await consumer.getmany(timeout_ms=POLL_MILLISECONDS)
            records = [record for records in batches.values() for record in records]
            sent = [
                await producer.send(
                    FORECASTS["backfill"].name, record.value, key=record.key, timestamp_ms=record.timestamp
                )
                for record in records
                if not isinstance(record.value, Undecodable)  # nothing could be made of it
            ]
            await asyncio.gather(*sent)  # a commit says that all of them have arrived
            moved += len(sent)
            await consumer.commit()
    except CommitFailedError:
        raise UnavailableError(
            f"what calc has not read of {FORECASTS_BEFORE_LANES} can be moved only while no calc worker runs: stop "
            "them, then run: glucast topics provision"
        ) from None
    finally:
        await producer.stop()
        await consumer.stop()
    return moved
