"""How long a broker may be silent before a client gives its connection up and asks who leads now.

aiokafka waits as long for an answer as for a message's whole delivery: 40 s and more. A broker that hangs with its
connections open stops everybody who waits for it that long, while the others have taken its place after 9 s.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

_WORD = (FindCoordinatorRequest, HeartbeatRequest, MetadataRequest, OffsetFetchRequest, OffsetRequest)
_BULK = (FetchRequest, ProduceRequest)
# All else takes as long as the client says: a group answers when every member has come, topics when they are made.

_their_send, _their_connect = AIOKafkaConnection.send, AIOKafkaConnection.connect


def install() -> None:
    """For every aiokafka client of this process. Again changes nothing."""
    AIOKafkaConnection.send, AIOKafkaConnection.connect = _send, _connect


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
