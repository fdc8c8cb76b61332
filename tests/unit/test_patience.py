"""How long clients wait for a broker that has their connection and says nothing."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, LeaveGroupRequest
from aiokafka.protocol.metadata import MetadataRequest, MetadataResponse_v0

from streams.kafka import patience
from streams.kafka.connection import connection_options
from streams.settings import Settings

OWN_SECONDS = 30
API_VERSIONS = 18
SPOKEN = {1: 4, 3: 5, 12: 1, 13: 1}
"""The newest version of a request by its key: fetch, metadata, heartbeat, leave the group."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WORD_SECONDS", 0.05)
    monkeypatch.setattr(patience, "BULK_SECONDS", 0.1)
    connection_options(Settings())


class Hung(asyncio.Protocol):
    """A broker that says which versions it speaks, if at all, and hangs from then on."""

    def __init__(self, speaks: Mapping[int, int]) -> None:
        self._speaks = speaks
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """A request of this size in one piece: its size, its key and version, its correlation id."""
        _, key, _, correlation = struct.unpack_from(">ihhi", data)
        if key == API_VERSIONS and self._speaks and self._transport is not None:
            versions = b"".join(struct.pack(">hhh", which, 0, latest) for which, latest in self._speaks.items())
            answer = struct.pack(">ihi", correlation, 0, len(self._speaks)) + versions
            self._transport.write(struct.pack(">i", len(answer)) + answer)


@asynccontextmanager
async def hung(speaks: Mapping[int, int] = SPOKEN) -> AsyncIterator[AIOKafkaConnection]:
    """A connection to it, connected unless it speaks nothing."""
    server = await asyncio.get_running_loop().create_server(lambda: Hung(speaks), "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        connection = AIOKafkaConnection("127.0.0.1", port, request_timeout_ms=1000 * OWN_SECONDS)
        try:
            if speaks:
                with pytest.MonkeyPatch.context() as patch:  # it answers, but perhaps on a busy machine
                    patch.setattr(patience, "WORD_SECONDS", 30.0)
                    await connection.connect()
            yield connection
        finally:
            await asyncio.gather(*filter(None, [connection.close()]))


async def test_a_connection_that_is_taken_and_not_answered_is_given_up() -> None:
    async with hung(speaks={}) as connection:
        with pytest.raises(TimeoutError):
            await connection.connect()


@pytest.mark.parametrize(
    "request_",
    [MetadataRequest([]), HeartbeatRequest("group", 1, "member"), FetchRequest(100, 1, 1, 0, [])],
    ids=lambda request: type(request).__name__,
)
async def test_a_word_or_messages_that_do_not_come_are_given_up(request_: object) -> None:
    async with hung() as connection:
        with pytest.raises(TimeoutError):
            await connection.send(request_)


async def test_what_waits_for_others_has_the_time_that_its_client_gave() -> None:
    async with hung() as connection:
        waiting = asyncio.ensure_future(connection.send(LeaveGroupRequest("group", "member")))
        for request in (MetadataRequest([]), FetchRequest(100, 1, 1, 0, []), MetadataRequest([])):
            with pytest.raises(TimeoutError):
                await connection.send(request)

        assert not waiting.done()
        waiting.cancel()


class Brokers:
    """A client of two nodes: 0 takes connections and says nothing, 1 answers. `asked` counts connections to node 0."""

    def __init__(self) -> None:
        self.asked = 0
        self.client = AIOKafkaClient()

    def silent(self) -> Hung:
        self.asked += 1
        return Hung({})

    @asynccontextmanager
    async def up(self) -> AsyncIterator["Brokers"]:
        loop = asyncio.get_running_loop()
        silent = await loop.create_server(self.silent, "127.0.0.1")
        answering = await loop.create_server(lambda: Hung(SPOKEN), "127.0.0.1")
        async with silent, answering:
            ports = [server.sockets[0].getsockname()[1] for server in (silent, answering)]
            nodes = [(number, "127.0.0.1", port) for number, port in enumerate(ports)]
            self.client.cluster.update_metadata(MetadataResponse_v0(nodes, []))
            try:
                yield self
            finally:
                await self.client.close()


async def test_who_asks_another_broker_does_not_wait_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WORD_SECONDS", 30.0)
    async with Brokers().up() as brokers:
        waiting = asyncio.ensure_future(brokers.client.ready(0))
        assert await asyncio.wait_for(brokers.client.ready(1), 10.0)
        assert not waiting.done()
        waiting.cancel()


async def test_a_broker_that_cannot_be_reached_is_left_alone_for_a_while_by_all_who_wait_for_it() -> None:
    async with Brokers().up() as brokers:
        client = brokers.client
        assert await asyncio.gather(*(client.ready(0) for _ in range(5))) == [False] * 5
        assert brokers.asked == 1
        assert {client.get_random_node() for _ in range(50)} == {1}
        patience.reach_of(client).alone_until[0] = 0.0
        assert {client.get_random_node() for _ in range(50)} == {1}, "asked again, but not before others"
        assert not await client.ready(0)
        assert brokers.asked == 2


async def test_where_no_broker_can_be_reached_any_is_asked() -> None:
    client = AIOKafkaClient()
    client.cluster.update_metadata(MetadataResponse_v0([(0, "127.0.0.1", 1)], []))
    assert not await client.ready(0)
    assert client.get_random_node() == 0
    await client.close()
