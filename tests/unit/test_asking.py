"""What a client does while a broker owes it messages, or the word that it has them."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, NotLeaderForPartitionError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest, MetadataResponse_v0
from aiokafka.protocol.produce import ProduceRequest

from streams.kafka import asking, patience

API_VERSIONS, METADATA = 18, 3
VERSIONS = {0: 3, 1: 4, METADATA: 0}
"""The newest version of each request that the broker speaks, by key: produce, fetch, metadata."""
NODE, TOPIC = 7, "cgm.readings"
DEADLINE_SECONDS = 30.0
FETCH = FetchRequest(10_000, 1, 1, 0, [])
PRODUCE = ProduceRequest(None, -1, 1000, [(TOPIC, [(0, b"")])])


@pytest.fixture(autouse=True)
def quick_to_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WORD_SECONDS", 0.1)
    monkeypatch.setattr(patience, "BULK_SECONDS", 1000.0)
    asking.install()


class Broker(asyncio.Protocol):
    """Answers who says hello and asks who leads, never who wants messages; nothing at all once it `hangs`."""

    hangs = False
    greeted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        _, key, _, correlation = struct.unpack_from(">ihhi", data)
        if Broker.hangs:
            return
        if key == API_VERSIONS:
            Broker.greeted += 1
            told = b"".join(struct.pack(">hhh", which, 0, latest) for which, latest in VERSIONS.items())
            self._answer(correlation, struct.pack(">hi", 0, len(VERSIONS)) + told)
        elif key == METADATA:
            self._answer(correlation, struct.pack(">ii", 0, 0))

    def _answer(self, correlation: int, body: bytes) -> None:
        self._transport.write(struct.pack(">ii", len(body) + 4, correlation) + body)


@asynccontextmanager
async def client_of(leader: int = NODE) -> AsyncIterator[AIOKafkaClient]:
    """Of one broker, which is said to be led by this one."""
    Broker.hangs, Broker.greeted = False, 0
    server = await asyncio.get_running_loop().create_server(Broker, "127.0.0.1")
    client = AIOKafkaClient()
    async with server:
        port = server.sockets[0].getsockname()[1]
        topics = [(0, TOPIC, [(0, 0, leader, [leader], [leader])])]
        client.cluster.update_metadata(MetadataResponse_v0([(NODE, "127.0.0.1", port)], topics))
        try:
            yield client
        finally:
            await client.close()


async def reached(client: AIOKafkaClient) -> None:
    """A connection of each kind is there: it takes its time on a busy machine, and is no matter of this test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "WORD_SECONDS", DEADLINE_SECONDS)
        await client.ready(NODE)
        await client.ready(NODE, group=asking._FETCHES)


@pytest.mark.parametrize("request_", [FETCH, PRODUCE], ids=["fetch", "produce"])
async def test_of_a_broker_that_hangs_all_connections_are_given_up_long_before_each_has_waited_its_time(
    request_: object,
) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), client_of() as client:
        await reached(client)
        other = asyncio.ensure_future(client.send(NODE, PRODUCE if request_ is FETCH else FETCH))
        waiting = asyncio.ensure_future(client.send(NODE, request_))
        await asyncio.sleep(0)
        Broker.hangs = True
        for each in (waiting, other):
            with pytest.raises(KafkaConnectionError):
                await each


async def test_a_broker_that_takes_new_connections_is_waited_for() -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), client_of() as client:
        await reached(client)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(patience, "WORD_SECONDS", 1.0)  # for a connection, on a busy machine; doubted as often
            waiting = asyncio.ensure_future(client.send(NODE, PRODUCE))
            while Broker.greeted < 5:  # noqa: ASYNC110 - seen by polling
                await asyncio.sleep(0.02)
            assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_who_is_answered_in_time_has_no_doubts() -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), client_of() as client:
        await reached(client)
        greeted = Broker.greeted
        waiting = asyncio.ensure_future(client.send(NODE, FETCH))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(3 * patience.WORD_SECONDS)
        assert Broker.greeted == greeted


async def test_no_question_waits_behind_a_fetch_that_waits() -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), client_of() as client:
        await reached(client)
        waiting = asyncio.ensure_future(client.send(NODE, FETCH))
        await asyncio.sleep(0)
        fetches, questions = (client._conns[NODE, group] for group in (asking._FETCHES, 0))
        assert fetches._requests
        assert not questions._requests
        patience.WORD_SECONDS = DEADLINE_SECONDS
        assert (await client.send(NODE, MetadataRequest([]))).brokers == []
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_messages_go_to_nobody_who_does_not_lead_any_more() -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), client_of(leader=NODE + 1) as client:
        with pytest.raises(NotLeaderForPartitionError):
            await client.send(NODE, PRODUCE)
