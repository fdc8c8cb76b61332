"""What an earlier version left on topics that this one does not read: moved on, once, so that nothing is lost."""

from aiokafka import AIOKafkaProducer, TopicPartition

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
    Delivered twice they are the same charts.
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
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            batches = await consumer.getmany(timeout_ms=POLL_MILLISECONDS)
            for record in [record for records in batches.values() for record in records]:
                if isinstance(record.value, Undecodable):
                    continue  # nothing could be made of it
                await producer.send(
                    FORECASTS["backfill"].name, record.value, key=record.key, timestamp_ms=record.timestamp
                )
                moved += 1
            await producer.flush()
            await consumer.commit()
    finally:
        await producer.stop()
        await consumer.stop()
    return moved
