"""A Faust producer that writes nothing once the group may have given its partitions to somebody else."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from faust.transport.drivers.aiokafka import Producer

from streams.kafka.fence import Fence

_log = logging.getLogger("faust.strict")
_Send = Callable[[Any, Any], Awaitable[Any]]


class FencedProducer(Producer):
    """Faust's aiokafka producer, whose requests wait at the fence: also those that were queued before a pause."""

    logger = _log

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        sender = producer._sender
        fence, ask_who_leads = cast(Any, self.app).fence, producer.client.force_metadata_update
        sender._send_produce_req = behind(fence, ask_who_leads, sender._send_produce_req)
        return producer


def behind(fence: Fence, ask_who_leads: Callable[[], Awaitable[Any]], send: _Send) -> _Send:
    """`send`, for requests that wait until the fence is open.

    One that has waited asks who leads: the group was out of reach, so others may have come to, and who led may hang.
    That takes seconds where a broker hangs, in which the fence may close again.
    """

    async def fenced(node_id: Any, batches: Any) -> Any:
        while fence.closed:
            await fence.opened()
            await ask_who_leads()
        return await send(node_id, batches)

    return fenced
