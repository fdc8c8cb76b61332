"""Runs steps over tables in memory, as the guard would: effects apply when the step has returned."""

from functools import partial
from typing import NamedTuple

from agents.memory import MemoryTables
from agents.work import Message, Send, StepFunction
from schemas.topics import Topic
from streams import topology
from streams.apps import load_step
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from streams.topology import Step

NOW_MS = 1_710_000_000_000


class Built(NamedTuple):
    """A step as a worker has it: what the page declares of it, and what it does."""

    declared: Step
    function: StepFunction


def built(name: str, settings: Settings | None = None) -> Built:
    """The step of this name."""
    step = topology.step_of(name)
    return Built(step, load_step(step, settings or Settings()))


class Workbench:
    """The tables of all partitions, and everything that was sent."""

    def __init__(self, partitions: int = 1) -> None:
        self.tables = MemoryTables(partial(partition_of, partitions=partitions))
        self.sent: list[Send] = []

    def rows(self, table: str) -> dict[str, bytes]:
        """All rows of a table."""
        return self.tables.rows(table)

    async def run(self, step: Built, value: bytes | None, *, apply: bool = True, **message: object) -> list[Send]:
        """What the step sends for one message. Without `apply` its table writes are lost, as in a crash."""
        fields = {"topic": "test", "key": None, "timestamp_ms": NOW_MS} | message
        work = await self.tables.run(*step, Message(value=value, **fields))  # type: ignore[arg-type]
        if apply:
            self.tables.apply(work)
        self.sent += work.sends
        return work.sends


def of(topic: Topic, sends: list[Send]) -> list[bytes]:
    """The values sent to one topic; tombstones are left out."""
    return [send.value for send in sends if send.topic == topic and send.value is not None]
