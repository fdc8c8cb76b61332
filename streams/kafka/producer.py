"""A Faust producer that writes nothing once the group may have given its partitions to somebody else."""

import logging
from typing import Any, cast

from faust.transport.drivers.aiokafka import Producer

_log = logging.getLogger("faust.strict")


class FencedProducer(Producer):
    """Faust's aiokafka producer, whose requests wait at the fence: also those that were queued before a pause."""

    logger = _log

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        fence, sender = cast(Any, self.app).fence, producer._sender
        send = sender._send_produce_req

        async def fenced(node_id: Any, batches: Any) -> Any:
            if fence.closed:
                await fence.opened()
                # The group was out of reach: others may lead now, and who led may hang. Then they are sent to those.
                await producer.client.force_metadata_update()
            return await send(node_id, batches)

        sender._send_produce_req = fenced
        return producer
