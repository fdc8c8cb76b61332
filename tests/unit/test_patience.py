"""How long clients wait for a broker that has their connection and says nothing."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, LeaveGroupRequest
from aiokafka.protocol.metadata import MetadataRequest

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
