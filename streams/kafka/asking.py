"""How requests go to a broker: over which connection, to whom at all, and what is done when an answer takes long.

A broker answers the questions of one connection in turn: what asks for the end of a log, or who leads now, waits behind
a fetch that waits. So these fetches have connections of their own. Where they wait for 50 ms only, so that nothing has
to, they are most of what brokers and clients do while little happens: ten consumers of three brokers ask 600 times a
second for nothing.

Messages may take long and their broker be well, or it hangs with its connections open. Whether it does is seen by
whether it still takes new ones: then its answer is waited for, as long as it may take.
"""

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import NotLeaderForPartitionError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from streams.kafka import patience

AT_ONCE_MILLISECONDS = 1
"""A fetch that waits no longer than this goes with the questions."""

_FETCHES, _DOUBTS = "fetches", "doubts"
_their_send = AIOKafkaClient.send


def install() -> None:
    """For every aiokafka client of this process. Again changes nothing."""
    patience.install()
    AIOKafkaClient.send = _send


async def _send(self: Any, node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
    """Raises `NotLeaderForPartitionError` for messages whose partition is known to be led by another broker now."""
    if isinstance(request, ProduceRequest):
        _check_leader(self, node_id, request)
    elif not isinstance(request, FetchRequest):
        return await _their_send(self, node_id, request, group=group)
    elif request._max_wait_ms > AT_ONCE_MILLISECONDS:
        group = _FETCHES
    doubt = _Doubt(self, node_id)
    try:
        return await _their_send(self, node_id, request, group=group)
    finally:
        doubt.end()


def _check_leader(client: Any, node_id: Any, request: ProduceRequest) -> None:
    for topic, parts in request._topics:
        for number, _ in parts:
            if client.cluster.leader_for_partition(TopicPartition(topic, number)) != node_id:
                raise NotLeaderForPartitionError(f"{topic}/{number}")


class _Doubt:
    """Of a broker that owes messages, or the word that it has them: it hangs if it takes no connection meanwhile.

    Then all connections to it are given up: whoever waits on one asks for the new leader and tries again.
    """

    def __init__(self, client: Any, node_id: Any) -> None:
        self._client, self._node_id = client, node_id
        self._asking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(patience.WORD_SECONDS, self._begin)

    def end(self) -> None:
        """The answer is there, or nobody waits for it any more."""
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _begin(self) -> None:
        self._asking = asyncio.ensure_future(self._ask())

    async def _ask(self) -> None:
        while (connection := await self._client._get_conn(self._node_id, group=_DOUBTS)) is not None:
            connection.close()
            await asyncio.sleep(patience.WORD_SECONDS)
        for (node_id, _), connection in list(self._client._conns.items()):
            if node_id == self._node_id:
                connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
