"""What the query role sends: what the topology page gives it, and nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import InvalidTimestampError

from query_api.publish import Publisher
from schemas.errors import MessageTooLargeError, UnavailableError, UndeclaredEffectError
from schemas.topics import Topic
from streams import topology
from streams.settings import Settings

QUERY = topology.step_of("query_api")


class Producer:
    """Confirms whatever it is given, and remembers it."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send_and_wait(self, topic: str, *_: Any, **__: Any) -> SimpleNamespace:
        self.sent.append(topic)
        return SimpleNamespace(timestamp=7)


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(Settings())


@pytest.mark.parametrize("topic", topology.all_topics(), ids=lambda topic: topic.name)
async def test_a_topic_that_the_page_does_not_give_it_is_refused(publisher: Publisher, topic: Topic) -> None:
    publisher._producer = producer = Producer()  # type: ignore[assignment]
    if topic in QUERY.writes:
        assert await publisher.send(topic, "key", b"value") == 7
        assert producer.sent == [topic.name]
    else:
        with pytest.raises(UndeclaredEffectError, match=f"does not declare that it writes to {topic.name}"):
            await publisher.send(topic, "key", b"value")
        assert producer.sent == []


def test_the_page_gives_it_some_topics_and_not_all() -> None:
    assert 0 < len(QUERY.writes) < len(topology.all_topics())


async def test_it_is_refused_whether_a_broker_is_there_or_not(publisher: Publisher) -> None:
    (undeclared, *_) = (topic for topic in topology.all_topics() if topic not in QUERY.writes)
    with pytest.raises(UndeclaredEffectError):
        await publisher.send(undeclared, "key", b"value")
    with pytest.raises(UnavailableError, match="no Kafka answers"):
        await publisher.send(QUERY.writes[0], "key", b"value")


@pytest.mark.parametrize("topic", QUERY.writes, ids=lambda topic: topic.name)
async def test_what_is_too_large_is_refused_before_anything_is_sent(publisher: Publisher, topic: Topic) -> None:
    publisher._producer = producer = Producer()  # type: ignore[assignment]
    with pytest.raises(MessageTooLargeError):
        await publisher.send(topic, "key", bytes(topic.max_message_bytes))
    assert producer.sent == []


async def test_a_clock_that_kafka_refuses_is_named(publisher: Publisher) -> None:
    class Refusing(Producer):
        async def send_and_wait(self, *_: Any, **__: Any) -> SimpleNamespace:
            raise InvalidTimestampError

    publisher._producer = Refusing()  # type: ignore[assignment]
    with pytest.raises(UnavailableError, match="this machine's clock is over an hour ahead of the broker's"):
        await publisher.send(QUERY.writes[0], "key", b"value")
