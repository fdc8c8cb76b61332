import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaProducer

from agents.work import Failure, Message
from deploy.brokers.embedded import EmbeddedBroker
from schemas import topics
from schemas.dead_letter import REPLAY_OF, DeadLetter, Place
from schemas.errors import ConfigurationError, TopicMismatchError
from schemas.topics import Topic
from streams import dead_letters, dlq, topology
from streams.kafka.connection import producer_options
from streams.kafka.messages import of_record
from streams.kafka.provision import provision
from streams.kafka.whole_topics import everything
from streams.settings import Settings


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Settings:
    return Settings(broker=broker.address, partitions=2)


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await provision(settings)
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    yield producer
    await producer.stop()


def letter(number: int, value: bytes | None, carried: bool = True, topic: Topic = topics.READINGS) -> DeadLetter:
    return DeadLetter(
        letter_id=f"{topic.name}/1/{number}/window",
        step="window",
        code="internal",
        reason="division by zero",
        topic=topic.name,
        partition=1,
        offset=number,
        attempts=3,
        failed_at=datetime(2026, 1, 1, 8, number, tzinfo=UTC),
        key_base64=base64.b64encode(b"anna").decode(),
        value_base64=base64.b64encode(value).decode() if value is not None and carried else None,
        value_bytes=len(value or b""),
        headers={"timezone": "UTC"},
    )


async def send(producer: AIOKafkaProducer, *letters: DeadLetter) -> None:
    for item in letters:
        await producer.send_and_wait(topics.DEAD_LETTERS.name, item.to_json(), b"anna")


async def received(settings: Settings, topic: Topic = topics.READINGS) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(r.partition, r.key, r.value) async for r in everything(settings, topic.name)]


async def test_a_letter_goes_back_to_its_partition_once(settings: Settings, producer: AIOKafkaProducer) -> None:
    await send(producer, letter(2, b"two"), letter(1, b"one"), letter(1, b"one"))
    await producer.send_and_wait(topics.DEAD_LETTERS.name, b"not a letter", b"x")
    assert [item.letter.offset for item in await dlq.letters(settings)] == [1, 2]

    wanted = ["cgm.readings/1/1/window"]
    assert [item.sent for item in await dlq.replay(settings, wanted)] == [True]
    assert [item.text[:16] for item in await dlq.replay(settings, wanted)] == ["already replayed"]
    assert await received(settings) == [(1, b"anna", b"one")]
    assert [item.replayed_at is not None for item in await dlq.letters(settings)] == [True, False]

    assert [item.sent for item in await dlq.replay(settings, None)] == [False, True]
    assert [item.sent for item in await dlq.replay(settings, wanted, again=True)] == [True]
    assert [value for *_, value in await received(settings)] == [b"one", b"two", b"one"]


async def test_a_payload_that_was_too_large_is_fetched_from_its_topic(
    settings: Settings, producer: AIOKafkaProducer
) -> None:
    large = b"x" * 3_000_000
    await producer.send_and_wait(topics.UPLOADS.name, large, b"anna", 1)
    await send(producer, letter(0, large, carried=False, topic=topics.UPLOADS))
    assert [item.sent for item in await dlq.replay(settings, None)] == [True]
    assert [len(value or b"") for *_, value in await received(settings, topics.UPLOADS)] == [len(large)] * 2


async def test_a_message_that_fitted_no_letter_is_replayed_under_its_own_key(
    settings: Settings, producer: AIOKafkaProducer
) -> None:
    key = b"k" * 900_000
    await producer.send_and_wait(topics.READINGS.name, b"value", key, 1)
    message = Message(topic=topics.READINGS.name, partition=1, key=key, value=b"value")
    letter_key, bare = dead_letters.message_of(message, "window", Failure("failed", "no", 3))
    await producer.send_and_wait(topics.DEAD_LETTERS.name, bare, letter_key)
    assert [item.sent for item in await dlq.replay(settings, None)] == [True]
    assert await received(settings) == [(1, key, b"value")] * 2


async def test_another_message_at_the_offset_of_a_letter_is_not_sent(
    settings: Settings, producer: AIOKafkaProducer
) -> None:
    """Where Kafka has lost the end of a log it gives offsets out again."""
    key = b"k" * 900_000
    await producer.send_and_wait(topics.READINGS.name, b"another", key, 1)
    message = Message(topic=topics.READINGS.name, partition=1, key=key, value=b"value")
    letter_key, bare = dead_letters.message_of(message, "window", Failure("failed", "no", 3))
    await producer.send_and_wait(topics.DEAD_LETTERS.name, bare, letter_key)
    replayed = await dlq.replay(settings, None)
    assert [(item.sent, item.text) for item in replayed] == [(False, "offset 0 of cgm.readings/1 is no longer kept")]
    assert await received(settings) == [(1, key, b"another")]


async def test_an_empty_message_is_replayed_as_it_was(settings: Settings, producer: AIOKafkaProducer) -> None:
    await send(producer, letter(0, None), letter(1, b""))
    await dlq.replay(settings, None)
    assert [value for *_, value in await received(settings)] == [None, b""]


async def test_an_unknown_letter_is_refused_before_anything_is_sent(
    settings: Settings, producer: AIOKafkaProducer
) -> None:
    await send(producer, letter(1, b"one"))
    with pytest.raises(ConfigurationError, match="no such letter: nothing"):
        await dlq.replay(settings, ["cgm.readings/1/1/window", "nothing"])
    assert await received(settings) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topic": "glucast-calc-fan-charts-changelog"}, "no step reads the topic 'glucast-calc-fan-charts-changelog'"),
        ({"topic": topics.DEAD_LETTERS.name}, "no step reads"),
        ({"topic": topics.FAN_CHARTS.name}, "no step reads"),
        ({"topic": "somebody.elses"}, "no step reads"),
        ({"topic": "\x1b[2J"}, r"no step reads the topic '\x1b[2J'"),
        ({"partition": 2}, "cgm.readings has no partition 2"),
        ({"partition": -1}, "cgm.readings has no partition -1"),
        ({"offset": -1, "value_base64": None}, "damaged"),
        ({"value_base64": "a"}, "damaged"),
        ({"key_base64": "\u00e4"}, "damaged"),
    ],
)
async def test_a_letter_reaches_no_topic_but_those_that_steps_read(
    settings: Settings, producer: AIOKafkaProducer, changes: dict[str, object], words: str
) -> None:
    await send(producer, letter(1, b"one").model_copy(update=changes))
    (refused,) = await dlq.replay(settings, None)
    assert (refused.sent, words in refused.text) == (False, True), refused.text
    assert await received(settings) == []
    assert [item.replayed_at for item in await dlq.letters(settings)] == [None]


def test_every_topic_at_which_a_step_can_fail_can_be_replayed_to() -> None:
    for step in topology.STEPS:
        for topic in step.reads if step.role in topology.WORKER_ROLES else ():
            assert dlq.refusal_of(Settings(), letter(1, b"one", topic=topic)) is None


async def test_without_the_topic_it_says_what_to_run(settings: Settings) -> None:
    with pytest.raises(TopicMismatchError, match="glucast topics provision"):
        await dlq.letters(settings)


LARGE = bytes(dead_letters.INLINE_BYTES + 1)


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"k", LARGE, [("timezone", b"UTC")]),
        (b"k" * 900_000, b"value", [("timezone", b"UTC")]),
        (b"k" * 300_000, b"value", []),
        (b"k", b"value", [("trace", b"1" * 2000)]),
        (b"k", b"value", [("trace", b"\xff\x00")]),
        (b"k", b"value", [(f"h{number}", b"") for number in range(40)]),
    ],
    ids=[
        "upload with headers",
        "bare letter with headers",
        "key of 300 kB",
        "long header",
        "binary header",
        "40 headers",
    ],
)
async def test_a_message_is_replayed_as_it_was(
    settings: Settings, producer: AIOKafkaProducer, key: bytes, value: bytes, headers: list[tuple[str, bytes]]
) -> None:
    topic = topics.UPLOADS
    sent = await producer.send_and_wait(topic.name, value, key, 1, headers=headers)
    message = Message(topic=topic.name, partition=1, offset=sent.offset, key=key, value=value, headers=dict(headers),
                      timestamp_ms=sent.timestamp)  # fmt: skip
    letter_key, letter = dead_letters.message_of(message, "unify", Failure("failed", "no", 3))
    await producer.send_and_wait(topics.DEAD_LETTERS.name, letter, letter_key)
    assert [item.sent for item in await dlq.replay(settings, None)] == [True]
    records = [record async for record in everything(settings, topic.name)]
    place = Place(topic.name, 1, sent.offset, records[0].timestamp, "unify")
    for record, said in zip(records, ([], [(REPLAY_OF, place.to_header())]), strict=True):
        assert (record.partition, record.key, record.value) == (1, key, value)
        assert list(record.headers) == [*headers, *said]
    again = of_record(records[1])
    assert (again.first_offset, again.came_ms) == (sent.offset, records[0].timestamp)
