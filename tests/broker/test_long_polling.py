"""A waiting fetch is answered as soon as there is something, and no question waits behind one, on either broker."""

import asyncio
import random
import socket

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from deploy.brokers.embedded import EmbeddedBroker
from deploy.brokers.long_polling import MOST_TOPICS, Bell
from deploy.brokers.wire import answers
from schemas.topics import TOPICS
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.log_ends import log_ends
from streams.settings import Settings
from tests.kit.waiting import until

TOPIC, OTHER = "cgm.readings", "cgm.uploads"
WAIT_MILLISECONDS, SECONDS = 60_000, 30
"""A fetch waits far beyond the deadline: one that is answered only at its end misses it."""


async def test_a_fetch_that_waits_is_answered_by_what_comes_and_overtaken_by_other_questions(
    settings: Settings,
) -> None:
    consumer = new_consumer(settings.model_copy(update={"fetch_wait_milliseconds": WAIT_MILLISECONDS}))
    producer = AIOKafkaProducer(**producer_options(settings))
    partition = TopicPartition(TOPIC, 1)
    await consumer.start()
    await producer.start()
    try:
        async with asyncio.timeout(SECONDS):
            consumer.assign([partition])
            begin = (await consumer.end_offsets([partition]))[partition]  # others write to a Kafka that tests share
            consumer.seek(partition, begin)
            for number in range(5):
                await consumer.position(partition)
                assert (await consumer.end_offsets([partition]))[partition] == begin + number
                await producer.send_and_wait(OTHER, b"of no interest", partition=1)
                await producer.send_and_wait(TOPIC, str(number).encode(), partition=1)
                assert (await consumer.getone()).value == str(number).encode()
            waiting = asyncio.ensure_future(consumer.getone())
            assert (await consumer.end_offsets([partition]))[partition] == begin + 5
            assert (await log_ends(consumer, [partition]))[partition] == begin + 5
            assert not waiting.done()
            waiting.cancel()
    finally:
        await producer.stop()
        await consumer.stop()


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
async def test_a_fetch_that_nothing_answers_ends_when_its_time_is_over(settings: Settings) -> None:
    consumer = new_consumer(settings.model_copy(update={"fetch_wait_milliseconds": 100}))
    await consumer.start()
    try:
        async with asyncio.timeout(SECONDS):
            consumer.assign([TopicPartition(TOPIC, 0)])
            assert await consumer.getmany(timeout_ms=500) == {}
    finally:
        await consumer.stop()


@pytest.mark.parametrize("settings", ["embedded"], indirect=True)
async def test_a_look_at_many_partitions_misses_nothing_that_was_stored_before_it(settings: Settings) -> None:
    """Who answers steps through all of them, and stops when the look's time is over."""
    topics = [topic.name for topic in TOPICS]
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(settings.partitions)]
    consumer = new_consumer(settings.model_copy(update={"fetch_wait_milliseconds": WAIT_MILLISECONDS}))
    producer = AIOKafkaProducer(**producer_options(settings))
    await consumer.start()
    await producer.start()
    try:
        async with asyncio.timeout(SECONDS):
            consumer.assign(partitions)
            await consumer.seek_to_end()
            ends = {each: await consumer.position(each) for each in partitions}
            draw = random.Random(7)
            for number in range(200):
                chosen = draw.choice(partitions)
                await producer.send_and_wait(chosen.topic, str(number).encode(), partition=chosen.partition)
                ((partition, (record,)),) = (await consumer.getmany(timeout_ms=1000 * SECONDS)).items()
                assert (partition, record.offset, record.value) == (chosen, ends[chosen], str(number).encode())
                ends[chosen] += 1
    finally:
        await producer.stop()
        await consumer.stop()


def test_who_speaks_no_kafka_is_hung_up_on_and_stops_nobody(broker: EmbeddedBroker) -> None:
    host, _, port = broker.address.rpartition(":")
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\0\0\0\4abcd"):
        with socket.create_connection((host, int(port)), SECONDS) as connection:
            connection.sendall(nonsense)
            assert connection.recv(1) == b""
    until(lambda: answers(broker.address), "an answer to a client of Kafka's", SECONDS)


def test_a_bell_says_which_topics_were_added_to_last_and_forgets_no_ring() -> None:
    bell = Bell()
    bell.ring(frozenset({b"a"}))
    bell.ring(frozenset({b"b"}))
    assert bell.newest(b"b") > bell.newest(b"a") > bell.newest(b"c") == 0
    for number in range(MOST_TOPICS + 1):
        bell.ring(frozenset({b"%d" % number}))
    assert bell.newest(b"0") > 0
    before = bell.rings
    bell.ring(None)
    assert bell.newest(b"a") == bell.newest(b"never") == before + 1
