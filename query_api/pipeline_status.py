"""What Kafka tells of the workers: whether somebody infers, and how many requests wait for it."""

import asyncio
import dataclasses
import time
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from query_api.follow import Follower
from schemas.errors import UnavailableError
from schemas.topics import LANE_TOPICS
from streams.kafka.connection import connection_options
from streams.settings import Settings
from streams.topology import app_id

FRESH_SECONDS = 2.0
ASK_SECONDS = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineStatus:
    """Members of the interactive lane's group, and requests of all lanes that nobody has finished."""

    inference_workers: int = 0
    queued: int = 0


class PipelineWatch:
    """Asks at most every two seconds; what is older than that is asked again when somebody wants to know."""

    def __init__(self, settings: Settings, follower: Follower) -> None:
        self._settings = settings
        self._follower = follower
        self._admin: AIOKafkaAdminClient | None = None
        self._status = PipelineStatus()
        self._asked = float("-inf")
        self._lock = asyncio.Lock()

    async def status(self) -> PipelineStatus:
        """The latest answer; an empty one where no broker gives any."""
        async with self._lock:
            if time.monotonic() - self._asked > FRESH_SECONDS:
                self._asked = time.monotonic()
                try:
                    async with asyncio.timeout(ASK_SECONDS):
                        self._status = await self._ask()
                except (KafkaError, OSError, TimeoutError, UnavailableError):
                    self._status = PipelineStatus()
                    await self.close()
        return self._status

    async def close(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()

    async def _ask(self) -> PipelineStatus:
        if self._admin is None:
            admin = AIOKafkaAdminClient(**connection_options(self._settings), client_id="glucast-query-status")
            await admin.start()
            self._admin = admin
        members, queued = 0, 0
        for lane, topic in LANE_TOPICS.items():
            group = app_id("inference", lane)
            if lane == "interactive":
                members = _members(await self._admin.describe_consumer_groups([group]))
            partitions = [TopicPartition(topic.name, number) for number in range(self._settings.partitions)]
            # Named one by one: the embedded broker cannot answer for "all of them".
            committed = await self._admin.list_consumer_group_offsets(group, partitions=partitions)
            ends = await self._follower.end_offsets(partitions)
            queued += sum(max(0, ends[it] - max(0, committed[it].offset)) for it in partitions if it in committed)
        return PipelineStatus(members, queued)


def _members(answers: Any) -> int:
    members = 5  # of the fields of a group in Kafka's DescribeGroups answer
    return sum(len(group[members]) for answer in answers for group in answer.groups)
