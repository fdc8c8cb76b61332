"""Runs steps over tables in memory, as the guard would: effects apply when the step has returned."""

from functools import partial
from typing import NamedTuple

from agents.ingest.files.unified_file import Rules, UnifiedFile, unify_file
from agents.ingest.unify import Unify
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


class HereParser:
    """Reads files in this process, and remembers which."""

    def __init__(self) -> None:
        self.seen: list[bytes | None] = []

    async def unify(self, raw: bytes | None, timezone: str, rules: Rules) -> UnifiedFile:
        self.seen.append(raw)
        return unify_file(raw, timezone, rules)

    async def start(self) -> None:
        """There is nobody to start."""

    async def close(self) -> None:
        """There is nobody to end."""


def built(name: str, settings: Settings | None = None, parser: HereParser | None = None) -> Built:
    """The step of this name; files are read in this process."""
    step = topology.step_of(name)
    settings = settings or Settings()
    if name == "unify":
        return Built(step, Unify(settings, parser or HereParser()))
    return Built(step, load_step(step, settings))


class Workbench:
    """The tables of all partitions, everything that was sent, and the tables whose files are to be written anew."""

    def __init__(self, partitions: int = 1) -> None:
        self.tables = MemoryTables(partial(partition_of, partitions=partitions))
        self.sent: list[Send] = []
        self.erased: set[str] = set()

    def rows(self, table: str) -> dict[str, bytes]:
        """All rows of a table."""
        return self.tables.rows(table)

    async def run(self, step: Built, value: bytes | None, *, apply: bool = True, **message: object) -> list[Send]:
        """What the step sends for one message. Without `apply` its table writes are lost, as in a crash."""
        fields = {"topic": "test", "key": None, "timestamp_ms": NOW_MS} | message
        work = await self.tables.run(*step, Message(value=value, **fields))  # type: ignore[arg-type]
        if apply:
            self.tables.apply(work)
            self.erased |= set(work.step.tables) if work.erases else set()
        self.sent += work.sends
        return work.sends


def of(topic: Topic, sends: list[Send]) -> list[bytes]:
    """The values sent to one topic; tombstones are left out."""
    return [send.value for send in sends if send.topic == topic and send.value is not None]
