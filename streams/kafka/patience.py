"""How long a broker may be silent before a client gives its connection up and asks who leads now.

aiokafka waits as long for an answer as for a message's whole delivery: 40 s and more. A broker that hangs with its
connections open stops everybody who waits for it that long, while the others have taken its place after 9 s. It also
makes its connections one after the other, so that who wants to reach the new coordinator waits behind all who try the
broker that hangs, and it asks that one as gladly as any who the coordinator is: in tests workers lost their
membership over it. Here a broker that could not be reached is left alone for a while, and nobody waits for another's
connection.
"""

import asyncio
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest

WORD_SECONDS = 3.0
"""For what a broker knows at once, and for a connection."""
COMMIT_SECONDS = 6.0
"""For what it has to agree on with others: Kafka gives up itself after 5 s."""
BULK_SECONDS = 15.0
"""For messages: they may be large, and a leader whose follower hangs answers when that one is no longer counted."""

ALONE_SECONDS = 3.0
"""How long nobody tries again to connect to a broker that could not be reached."""

_WORD = (FindCoordinatorRequest, HeartbeatRequest, MetadataRequest, OffsetFetchRequest, OffsetRequest)
_BULK = (FetchRequest, ProduceRequest)
# All else takes as long as the client says: a group answers when every member has come, topics when they are made.

_their_send, _their_connect = AIOKafkaConnection.send, AIOKafkaConnection.connect
_their_get_conn, _their_random_node = AIOKafkaClient._get_conn, AIOKafkaClient.get_random_node


def install() -> None:
    """For every aiokafka client of this process. Again changes nothing."""
    AIOKafkaConnection.send, AIOKafkaConnection.connect = _send, _connect
    AIOKafkaClient._get_conn, AIOKafkaClient.get_random_node = _get_conn, _random_node
    AIOKafkaClient._get_conn_lock = property(lambda _: nullcontext())  # one for all brokers: turns take its place


class Reach:
    """Which brokers one client reaches. `alone_until`: by node, a monotonic time, until a connection is made."""

    def __init__(self) -> None:
        self.alone_until: dict[Any, float] = {}
        self.turns: defaultdict[Any, asyncio.Lock] = defaultdict(asyncio.Lock)

    def is_alone(self, node: Any) -> bool:
        """Whether it could not be reached just now."""
        return time.monotonic() < self.alone_until.get(node, 0.0)


def reach_of(client: Any) -> Reach:
    """What is known of the brokers of a client."""
    reach: Reach = vars(client).setdefault("_reach", Reach())
    return reach


async def _get_conn(self: Any, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
    """A connection, or None as theirs: at once where the broker could not be reached just now."""
    if (known := self._conns.get((node_id, group))) is not None and known.connected():
        return known
    reach = reach_of(self)
    async with reach.turns[node_id, group]:
        if reach.is_alone(node_id):
            return None
        connection = await _their_get_conn(self, node_id, group=group, no_hint=no_hint)
        if connection is None:
            reach.alone_until[node_id] = time.monotonic() + ALONE_SECONDS
        else:
            reach.alone_until.pop(node_id, None)
        return connection


def _random_node(self: Any) -> Any:
    """One that was reached last time it was tried, if there is any."""
    reach = reach_of(self)
    nodes = [broker.nodeId for broker in self.cluster.brokers() if broker.nodeId not in reach.alone_until]
    return random.choice(nodes) if nodes else _their_random_node(self)


def _send(self: Any, request: Any, expect_response: bool = True) -> Any:
    with _at_most(self, _patience(request)):
        return _their_send(self, request, expect_response)  # takes its limit when it is called, not when it waits


def _patience(request: Any) -> float:
    """Seconds for an answer."""
    if isinstance(request, _WORD):
        return WORD_SECONDS
    if isinstance(request, OffsetCommitRequest):
        return COMMIT_SECONDS
    return BULK_SECONDS if isinstance(request, _BULK) else math.inf


async def _connect(self: Any) -> Any:
    with _at_most(self, WORD_SECONDS):
        return await _their_connect(self)


@contextmanager
def _at_most(connection: Any, seconds: float) -> Iterator[None]:
    own = connection._request_timeout
    connection._request_timeout = min(own, seconds)
    try:
        yield
    finally:
        connection._request_timeout = own
