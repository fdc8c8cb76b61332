"""What Kafka tells of the workers: whether somebody infers, what waits at every stage, what is done and what failed."""

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from query_api.follow import Follower
from schemas.errors import UnavailableError
from schemas.topics import DEAD_LETTERS
from streams import topology
from streams.kafka.connection import connection_options
from streams.settings import Settings
from streams.topology import app_id

FRESH_SECONDS = 2.0
ASK_SECONDS = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineStatus:
    """Members of the interactive lane's group; of each topic that workers read how many messages none has finished,
    and how many are finished; and how many dead letters there have been."""

    inference_workers: int = 0
    waiting: Mapping[str, int] = dataclasses.field(default_factory=dict)
    finished: Mapping[str, int] = dataclasses.field(default_factory=dict)
    dead_letters: int = 0

    @property
    def queued(self) -> int:
        """Of all stages."""
        return sum(self.waiting.values())


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
        admin, settings = self._admin, self._settings
        members = _members(await admin.describe_consumer_groups([app_id("inference", "interactive")]))
        read = {
            group: [TopicPartition(topic.name, number) for topic in topics for number in range(settings.partitions)]
            for group, topics in topology.worker_groups().items()
        }
        dead = [TopicPartition(DEAD_LETTERS.name, number) for number in range(settings.partitions)]
        ends = await self._follower.end_offsets([*dead, *(partition for each in read.values() for partition in each)])
        dead_letters = sum(ends.pop(partition) for partition in dead)
        waiting = {partition.topic: 0 for partition in ends}
        finished = dict(waiting)
        for group, partitions in read.items():
            # Named one by one: the embedded broker cannot answer for "all of them".
            committed = await admin.list_consumer_group_offsets(group, partitions=partitions)
            for partition in partitions:
                if partition in committed:
                    done = max(0, committed[partition].offset)
                    finished[partition.topic] += done
                    waiting[partition.topic] += max(0, ends[partition] - done)
        return PipelineStatus(members, waiting, finished, dead_letters)


def _members(answers: Any) -> int:
    members = 5  # of the fields of a group in Kafka's DescribeGroups answer
    return sum(len(group[members]) for answer in answers for group in answer.groups)
