"""Everything that anybody may send, through whatever reads it: steps, read model, notify, commands; without a broker.

Each case runs behind the middlewares as in a worker; then a good record of the same topic runs over the same tables
and has to end as good records do. Cases run in blocks, each over tables made anew: a case is reproduced with its block.
"""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import psutil
import structlog
from aiokafka.structs import ConsumerRecord

from agents.memory import MemoryTables
from agents.work import Helped, Message, StepFunction, Work
from deploy.bench.fuzz_cases import KINDS, Case, Kind, case_of, check_complete
from deploy.bench.fuzz_checks import ending_of, violations, violations_of_row
from deploy.bench.fuzz_notify import Notify
from deploy.bench.fuzz_records import BAD_SECONDS, STORED, message_of, series
from deploy.bench.fuzz_rows import PLACES
from deploy.bench.fuzz_tools import ending_of_tool, export_of
from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.errors import GlucastError, RejectedError
from schemas.grid import PAST_POINTS, STEP_SECONDS
from schemas.lanes import Lane
from schemas.tables import SERIES_TABLE
from schemas.topics import LANE_TOPICS, Topic
from streams import topology
from streams.apps import Host, helped, load_step
from streams.inference_role import InferenceRole, load_model
from streams.kafka import messages
from streams.kafka.partitioning import partition_of
from streams.kafka.tables import ConfirmedTable
from streams.metrics import Metrics
from streams.middlewares import around
from streams.model_thread import ModelThread
from streams.settings import ModelSettings, Settings
from streams.topology import Step, steps_of

BLOCK = 500
CASE_SECONDS = 30.0
"""A message that takes longer stops those behind it."""
GROWTH_MIB = 48.0
"""More resident memory than after the warm-up is growth; allocators keep some tens of MiB of what they once had."""
WARM_UP_SHARE = 0.25
MOST_SHOWN = 20
_GOOD_ENDS = {"processed"}
_MIB = 1 << 20


@dataclasses.dataclass(slots=True)
class Report:
    """How cases ended by topic, what did not hold, and resident MiB after the warm-up and at the end."""

    ends: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)
    violations: list[str] = dataclasses.field(default_factory=list)
    warm_mib: float = 0.0
    end_mib: float = 0.0
    cases: int = 0

    def count(self, topic: str, ending: str) -> None:
        self.ends.setdefault(topic, Counter())[ending] += 1

    @property
    def clean(self) -> bool:
        return not self.violations

    def lines(self) -> Iterator[str]:
        yield f"{self.cases} cases"
        for topic, counts in sorted(self.ends.items()):
            yield f"{topic:<36} {counts.total():>7}"
            for ending, count in counts.most_common():
                yield f"    {ending:<32} {count:>7}"
        yield f"resident memory: {self.warm_mib:.0f} MiB after the warm-up, {self.end_mib:.0f} MiB at the end"
        yield from self.violations[:MOST_SHOWN]
        if len(self.violations) > MOST_SHOWN:
            yield f"… and {len(self.violations) - MOST_SHOWN} more"
        yield "everything held" if self.clean else f"{len(self.violations)} VIOLATIONS: see above"


class Steps:
    """The real steps of every role behind their middlewares, built once, and the tables' limits."""

    def __init__(self, settings: Settings, role: InferenceRole) -> None:
        metrics = Metrics()
        self._partition_of = partial(partition_of, partitions=settings.partitions)
        limits = {
            name: ConfirmedTable(None, None, role_name, name)
            for role_name in topology.WORKER_ROLES
            for name in topology.tables_of(role_name)
        }
        lanes: dict[str, Lane] = {topic.name: lane for lane, topic in LANE_TOPICS.items()}
        self.helpers: list[Helped] = []
        self._ahead: dict[str, Callable[[Sequence[Message]], None]] = {}
        """What a step is told of messages before their turn: outside all middlewares."""
        self._by_topic: dict[str, list[tuple[Step, StepFunction]]] = {}
        for step in (*steps_of("ingest"), *steps_of("inference"), *steps_of("calc")):
            built = None if step.role == "inference" else load_step(step, settings)
            for topic in step.reads:
                function = built or role.step_of(lanes[topic.name])
                tables = {name: limits[name] for name in step.tables}
                wrapped = around(function, settings.step_attempts, metrics.of_step(step.name), tables)
                self._by_topic.setdefault(topic.name, []).append((step, wrapped))
                self.helpers += [helper for helper in helped(function) if helper not in self.helpers]
                if hasattr(function, "prepare"):
                    self._ahead[topic.name] = function.prepare

    @property
    def topics(self) -> frozenset[str]:
        """What they read."""
        return frozenset(self._by_topic)

    def tables(self) -> MemoryTables:
        """Empty ones."""
        return MemoryTables(self._partition_of)

    async def run(self, tables: MemoryTables, message: Message) -> list[Work]:
        """The finished works of a message, one a step that reads its topic, with their rows written."""
        placed = self._placed(message)
        works = []
        if message.topic in self._ahead:
            self._ahead[message.topic]([placed])
        for step, function in self._by_topic.get(message.topic, []):
            async with asyncio.timeout(CASE_SECONDS):
                work = await tables.run(step, function, placed)
            tables.apply(work)
            works.append(work)
        return works

    async def run_on_row(self, tables: MemoryTables, row: Message, number: int) -> Work | None:
        """The work of the message that needs a row of a changelog, with nothing written. None for a key of nobody."""
        place = PLACES[row.topic]
        try:
            key = (row.key or b"").decode()
        except UnicodeDecodeError:
            return None  # no step asks for such a row
        message = place.message(key, number)
        if message is None or row.value is None:
            return None
        placed = self._placed(message)
        step, function = next(found for found in self._by_topic[placed.topic] if found[0].name == place.step)
        rows = tables.table(place.table, placed.partition).rows
        before = rows.get(key)
        rows[key] = row.value
        try:
            async with asyncio.timeout(CASE_SECONDS):
                return await tables.run(step, function, placed)
        finally:
            rows.pop(key)
            if before is not None:
                rows[key] = before

    def _placed(self, message: Message) -> Message:
        placed = dataclasses.replace(message, partition=self._partition_of(message.key or b""))
        return messages.of_record(as_record(placed))


def as_record(message: Message) -> ConsumerRecord[bytes, bytes]:
    """As a consumer hands it on."""
    return ConsumerRecord(
        topic=message.topic, partition=message.partition, offset=message.offset, timestamp=message.timestamp_ms,
        timestamp_type=0, key=message.key, value=message.value, headers=tuple(message.headers.items()), checksum=None,
        serialized_key_size=-1, serialized_value_size=-1,
    )  # fmt: skip


class Block:
    """Tables and a read model as they are after good records, for some hundred cases."""

    def __init__(self, steps: Steps, settings: Settings, directory: Path) -> None:
        self._steps, self._settings, self._notify = steps, settings, Notify(settings)
        self._tables = steps.tables()
        self._store = Store(directory, 8 * _MIB, 8 * _MIB)
        self._model = ReadModel(self._store, Subscriptions())
        self._followed = set(self._model.followed)
        self._good_readings = 0

    async def prime(self, start: int) -> None:
        """Eight hours of readings of both subjects, one stored series. `start`: the number of the first case."""
        readings = next(kind for kind in KINDS if kind.topic == topics.READINGS)
        apart = STEP_SECONDS // BAD_SECONDS
        for step in range(-PAST_POINTS, 0):
            await self._steps.run(self._tables, readings.message(step))
            await self._steps.run(self._tables, readings.message(start + step * apart, good=False))
        stored = series(STORED)
        message = message_of(topics.SERIES, stored.series_key.encode(), stored.to_arrow(), STORED)
        await self._steps.run(self._tables, message)
        assert self._tables.rows(SERIES_TABLE)  # noqa: S101 - what every case relies on

    async def run(self, case: Case) -> tuple[list[str], list[str]]:
        """How a case ended, one ending a reader, and what did not hold."""
        ends, wrong, _ = await self._read(case.topic, case.message, case.number)
        return ends, wrong

    async def run_good(self, kind: Kind, number: int) -> list[str]:
        """What is wrong with how a good record ends."""
        if kind.topic == topics.READINGS:  # one after the other: each is to get its forecast
            number, self._good_readings = self._good_readings, self._good_readings + 1
        ends, wrong, works = await self._read(kind.topic, kind.message(number), number)
        wrong += [f"{work.step.name} does nothing" for work in works if not (work.sends or work.writes)
                  and work.step.name != "series_commands"]  # fmt: skip
        wrong += [f"it ends as {end!r}" for end in ends if end not in _GOOD_ENDS]
        return [f"the good record after it: {each}" for each in wrong]

    async def _read(self, topic: Topic, message: Message, number: int) -> tuple[list[str], list[str], list[Work]]:
        """By everybody who reads the topic: endings, what did not hold, and the works of steps."""
        ends, wrong, works = list[str](), list[str](), list[Work]()
        if topic.name in self._steps.topics:
            works = await self._steps.run(self._tables, message)
            ends += [ending_of(work) for work in works]
            wrong += [each for work in works for each in violations(work)]
        if topic.name in self._followed:
            end, found = self._follow(message)
            ends, wrong = [*ends, end], wrong + found
        if topic.name in self._notify.topics:
            end, found = self._notify.read(as_record(message))
            ends, wrong = [*ends, end], wrong + found
        if topic.name in PLACES and (work := await self._steps.run_on_row(self._tables, message, number)) is not None:
            ends.append("processed" if work.failure is None else f"dead letter of a row: {work.failure.code}")
            wrong += violations_of_row(work)
        if (of_tool := ending_of_tool(as_record(message), self._settings)) is not None:
            ends.append(of_tool)
        return ends, wrong + export_of(as_record(message), topic, self._settings), works

    def _follow(self, message: Message) -> tuple[str, list[str]]:
        """Into the read model: a message is applied, with rows that can be read again, or skipped without any."""
        before, skipped = self._rows(), self._model.skipped
        entry = Entry(message.topic, message.partition, message.offset, message.key, message.value)
        self._model.apply([entry], {})
        if self._model.skipped > skipped:
            return "skipped", ["a skipped message leaves rows"] if self._rows() != before else []
        return "processed", list(self._unreadable())

    def _rows(self) -> int:
        return sum(1 for key, _ in self._store.scan(b"") if not key.startswith(b"m/"))

    def _unreadable(self) -> Iterator[str]:
        """Every view over what was stored, as queries ask for it."""
        model = self._model
        try:
            for subject in model.fan_charts.subjects():
                rows = [model.fan_charts.latest(subject), *model.fan_charts.history(subject, None, None)]
                for row in rows[-4:]:
                    _ = row is not None and row.chart
                model.readings.latest(subject)
                model.readings.newest(subject)
            for stored in model.uploads.handles()[-4:]:
                for row in model.samples(stored).values():
                    _ = row.chart
        except RejectedError:
            return  # a row whose head is whole and whose rest is not: it is refused in words when it is asked for
        except Exception as error:
            yield f"a view of the read model raises {type(error).__name__}: {error}"

    def close(self) -> None:
        self._model.close()


@contextlib.asynccontextmanager
async def steps_of_all_roles(settings: Settings) -> AsyncIterator[Steps]:
    """The steps with persistence for a model: what is fuzzed is what stands around it."""
    thread = ModelThread()
    ended: list[str] = []
    role = InferenceRole(Host(settings, Metrics(), ended.append, settings.state_dir, 0), thread)
    role.serve(await thread.call(load_model, settings))
    answering = asyncio.create_task(role.answer())
    steps = Steps(settings, role)
    try:
        for helper in steps.helpers:
            await helper.start()
        yield steps
    finally:
        for helper in steps.helpers:
            await helper.close()
        answering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answering
        if ended:
            raise GlucastError(f"a worker would have ended: {ended[0]}")


async def run(
    seed: int, numbers: range, only: int | None = None, say: Callable[[str], None] = print, block_size: int = BLOCK
) -> Report:
    """Run the cases; `only` one of them, after those of its block. Returns what was found."""
    check_complete()
    report, process, began = Report(), psutil.Process(), time.monotonic()
    warm_up = numbers.start + int(len(numbers) * WARM_UP_SHARE)
    kinds = {kind.topic.name: kind for kind in KINDS}
    with quiet_logs(), tempfile.TemporaryDirectory(prefix="glucast-fuzz-") as directory:
        settings = Settings(
            state_dir=Path(directory), step_attempts=1, model=ModelSettings(forecaster="persistence"),
            static_membership=False,
        )  # fmt: skip
        async with steps_of_all_roles(settings) as steps:
            for start in range(numbers.start, numbers.stop, block_size):
                if only is not None and not start <= only < start + block_size:
                    continue
                block = Block(steps, settings, Path(directory) / f"model-{start}")
                await block.prime(start)
                for number in range(start, min(start + block_size, numbers.stop)):
                    case = case_of(seed, number)
                    ends, wrong = await _outcome_of(block, case, kinds)
                    report.cases += 1
                    for end in ends:
                        report.count(case.topic.name, end)
                    report.violations += [
                        f"--seed {seed} --case {number} ({case.topic.name}, {case.about}): {each}" for each in wrong
                    ]
                    if number == only:
                        say(f"case {number}: {case.topic.name}, {case.about}: {', '.join(ends)}")
                        return report
                block.close()
                if start <= warm_up or not report.warm_mib:
                    report.warm_mib = _resident_mib(process)
                if start % (4 * block_size) == 0 and start:
                    speed = report.cases / (time.monotonic() - began)
                    say(f"{report.cases} cases, {speed:.0f} a second, {len(report.violations)} violations")
            report.end_mib = _resident_mib(process)
    if report.end_mib - report.warm_mib > GROWTH_MIB:
        report.violations.append(f"resident memory grows by {report.end_mib - report.warm_mib:.0f} MiB")
    return report


async def _outcome_of(block: Block, case: Case, kinds: Mapping[str, Kind]) -> tuple[list[str], list[str]]:
    """Whatever leaves the middlewares or the read model is a violation, not the end of the run."""
    try:
        ends, wrong = await block.run(case)
        return ends, wrong + await block.run_good(kinds[case.topic.name], case.number)
    except Exception as error:
        return ["raised"], [f"{type(error).__name__} leaves the middlewares: {str(error)[:300]}"]


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """A line a bad message is right in a worker; here it would be a hundred thousand."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def _resident_mib(process: psutil.Process) -> float:
    gc.collect()
    return float(process.memory_info().rss) / _MIB
