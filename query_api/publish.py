"""Sends to Kafka with the broker's confirmation, or says in words why not."""

import asyncio
import contextlib
from collections.abc import Mapping

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError, KafkaError
from aiokafka.errors import MessageSizeTooLargeError as BrokerSizeError

from agents.work import check_size
from query_api import trace
from schemas.errors import MessageTooLargeError, UnavailableError, UndeclaredEffectError
from schemas.event import message_event
from schemas.topics import Topic
from streams import topology
from streams.kafka.connection import producer_options
from streams.settings import Settings

log = structlog.get_logger("query_api.publish")

QUERY = topology.step_of("query_api")
CONFIRM_SECONDS = 8.0
RETRY_SECONDS = 0.5


class Publisher:
    """One producer for the life of the process; it connects in the background and reconnects by itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    @property
    def connected(self) -> bool:
        """Whether a first connection was made; the producer itself keeps it up from there."""
        return self._producer is not None

    async def run(self) -> None:
        """Connect, then hold the connection until cancelled."""
        while True:
            producer = AIOKafkaProducer(**producer_options(self._settings), client_id="glucast-query")
            try:
                await producer.start()
                self._producer = producer
                await asyncio.Event().wait()
            except (KafkaError, OSError):
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self._producer = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2):
                        await producer.stop()

    async def send(
        self,
        topic: Topic,
        key: str | None,
        value: bytes | None,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> int:
        """Send and wait for the confirmation; returns the message's timestamp in Unix milliseconds.

        A message that a request causes belongs to the request's trace. A record that others read says what it is, by
        an id that is equal for equal bytes: a request that comes again says the same.

        Raises `UnavailableError` where the broker does not confirm in time; before anything is sent
        `MessageTooLargeError`, and `UndeclaredEffectError` for a topic that the topology page does not give the role.
        """
        if topic not in QUERY.writes:
            raise UndeclaredEffectError(f"the query role does not declare that it writes to {topic.name}")
        raw = None if key is None else key.encode()
        headers = trace.headers() | _event(topic, raw, value) | {**(headers or {})}
        check_size(topic, raw, value, headers)
        if self._producer is None:
            raise UnavailableError(f"no Kafka answers at {self._settings.broker}; stored forecasts can still be read")
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                confirmed = await self._producer.send_and_wait(
                    topic.name,
                    value,
                    key=raw,
                    partition=partition,
                    headers=list(headers.items()),
                )
        except BrokerSizeError as error:
            raise MessageTooLargeError(f"Kafka refused the message for {topic.name} as too large") from error
        except InvalidTimestampError as error:
            raise UnavailableError(
                f"Kafka refused a message for {topic.name}: this machine's clock is over an hour ahead of the broker's"
            ) from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise UnavailableError(
                f"Kafka did not confirm a message for {topic.name}; it may still arrive, so try again"
            ) from error
        return int(confirmed.timestamp)


def _event(topic: Topic, key: bytes | None, value: bytes | None) -> dict[str, bytes]:
    if not topic.public or topic.record is None or value is None:
        return {}
    return message_event(topic.record, key, value, QUERY.name)
