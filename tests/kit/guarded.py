"""A guard without Kafka: a producer whose confirmations the test gives, tables in dictionaries, messages by hand."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import rocksdict
from faust.types import TP

from agents.work import StepFunction
from streams.effects import TableTurns
from streams.guard import Guard
from streams.kafka.acks import Ledger
from streams.kafka.delivery import InFlight
from streams.kafka.fence import Fence
from streams.kafka.rewriting import list_anew
from streams.kafka.tables import ConfirmedTable
from streams.metrics import Metrics
from streams.settings import Settings
from streams.topology import Step


@dataclasses.dataclass(eq=False)
class RawMessage:
    """What Faust hands over, as far as a guard looks at it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: float = 0.0
    generation_id: int = 1

    @property
    def tp(self) -> TP:
        return TP(self.topic, self.partition)


@dataclasses.dataclass
class Sent:
    """One record given to the producer."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None
    headers: dict[str, bytes]
    future: "asyncio.Future[Any]"


@dataclasses.dataclass
class Metadata:
    """What a broker confirms."""

    offset: int


class FakeProducer:
    """Remembers what is sent; `confirm` answers as the broker would, in order."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self._confirmed = 0

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int | None, _: object, headers: Any
    ) -> "asyncio.Future[Any]":
        future = asyncio.get_running_loop().create_future()
        self.sent.append(Sent(topic, key, value, partition, dict(headers or ()), future))
        return future

    async def confirm(self, count: int | None = None) -> None:
        """Confirm the next `count` records, or all."""
        until = len(self.sent) if count is None else self._confirmed + count
        for sent in self.sent[self._confirmed : until]:
            sent.future.set_result(Metadata(self._confirmed))
            self._confirmed += 1
        await asyncio.sleep(0)


class FakeConsumer:
    """The acking side of a consumer over a ledger a partition."""

    def __init__(self, app: "FakeApp") -> None:
        self.app = app
        self.ledgers: dict[TP, Ledger] = {}
        self.acked: list[int] = []
        self.forgotten: list[int] = []
        self.commits = 0

    def deliver(self, message: RawMessage) -> None:
        ledger = self.ledgers.setdefault(message.tp, Ledger(message.offset))
        ledger.admit(message.offset)
        ledger.delivered(message.offset)

    def committed(self, tp: TP) -> int:
        return self.commits

    async def settled(self, tp: TP, offset: int, while_true: Callable[[], bool]) -> None:
        """Commit what is acked as soon as that is everything before `offset`."""
        while while_true() and self.ledgers[tp].low < offset:
            await self.app.in_flight.changed(1.0)
        self.commits = self.ledgers[tp].low

    def ack(self, message: RawMessage) -> None:
        if self.ledgers[message.tp].ack(message.offset):
            self.acked.append(message.offset)

    def forget(self, message: RawMessage) -> None:
        self.forgotten.append(message.offset)


class RocksStore:
    """A RocksDB a partition, opened as Faust's store does."""

    def __init__(self, home: Path) -> None:
        self.data = self
        self._home = home
        self._open: dict[int, Any] = {}

    def _db_for_partition(self, partition: int) -> Any:
        if partition not in self._open:
            options = rocksdict.Options(raw_mode=True)
            options.create_if_missing(True)
            list_anew(options)
            self._open[partition] = rocksdict.Rdict(str(self._home / f"{partition}.db"), options=options)
        return self._open[partition]


class FakeApp:
    """What a guard needs of a StrictApp."""

    def __init__(self) -> None:
        self.now = 0.0
        """What the fence takes for the time."""
        self.in_flight = InFlight()
        self.fence = Fence(10.0, lambda: self.now)
        self.producer = FakeProducer()
        self.consumer_generation_id = 1
        self.strict = FakeConsumer(self)
        self.ended: list[str] = []
        self.should_stop = False
        self._assignment: set[TP] = set()

    def fatal(self, reason: str) -> None:
        self.ended.append(reason)


def table_of(app: FakeApp, home: Path, name: str = "subjects", partitions: int = 1) -> ConfirmedTable:
    """A table of the ingest role over real databases, with its first partitions assigned."""
    table = ConfirmedTable(app, RocksStore(home), "ingest", name)
    app._assignment |= {TP(table.changelog.name, number) for number in range(partitions)}
    return table


class FakeStream:
    """A stream of given messages, ending where the test's input ends."""

    def __init__(self, app: FakeApp, messages: list[RawMessage]) -> None:
        self._app, self._messages = app, messages

    def noack(self) -> "FakeStream":
        return self

    async def events(self) -> AsyncIterator[Any]:
        for message in self._messages:
            self._app.strict.deliver(message)
            yield dataclasses.make_dataclass("Event", ["message"])(message)


def guard_of(
    app: FakeApp,
    step: Step,
    function: StepFunction,
    tables: dict[str, ConfirmedTable],
    turns: TableTurns | None = None,
    together: bool = False,
    by_partition: bool = False,
    **changes: Any,
) -> tuple[Guard, Metrics]:
    """A guard over the fakes, with its metrics."""
    settings, metrics = Settings(**changes), Metrics()
    room = asyncio.Semaphore(settings.events_in_flight)
    guard = Guard(
        step,
        function,
        app,
        tables,
        room,
        metrics,
        settings,
        turns,
        together,
        by_partition,  # type: ignore[arg-type]
    )
    return guard, metrics


async def idle(rounds: int = 50) -> None:
    """Let everything go on that waits for nobody."""
    for _ in range(rounds):
        await asyncio.sleep(0)
