"""Steps that share a table take turns on a partition of it; nobody else waits for them."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from agents.work import StepFunction, Work
from schemas.tables import SERIES_TABLE
from streams.effects import TableTurns
from streams.topology import Step, step_of
from tests.kit.guarded import FakeApp, FakeStream, RawMessage, guard_of, idle, table_of

HANDLE, REQUEST, UNIFY = map(step_of, ("handle", "request", "unify"))
WINDOW = dataclasses.replace(step_of("window"), tables=("subjects",))
KEY = "tail"


class Role:
    """The steps of one role over one App, its tables and its turns. A step waits until it may `go_on`."""

    def __init__(self, home: Path) -> None:
        self.app, self.turns = FakeApp(), TableTurns()
        self.tables = {name: table_of(self.app, home / name, name, 2) for name in (SERIES_TABLE, "subjects")}
        self.begun: list[str] = []
        self.may_go_on: dict[str, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def _counting(self, step: Step, name: str, fails: bool) -> StepFunction:
        async def count(work: Work) -> None:
            self.begun.append(name)
            seen = int(work.get(step.tables[0], KEY) or b"0") if step.tables else 0
            await self.may_go_on[name].wait()
            if fails:
                raise asyncio.CancelledError
            if step.tables:
                work.put(step.tables[0], KEY, b"%d" % (seen + 1))

        return count

    async def begin(self, step: Step, partition: int = 0, fails: bool = False) -> str:
        """Give a step a message, and let everything go on as far as it can."""
        name = f"{step.name}/{partition}"
        self.may_go_on[name] = asyncio.Event()
        tables = {table: self.tables[table] for table in step.tables}
        guard, _ = guard_of(self.app, step, self._counting(step, name, fails), tables, self.turns)
        message = RawMessage(step.reads[0].name, partition, 0, None, b"")
        self.tasks.append(asyncio.create_task(guard.consume(FakeStream(self.app, [message]))))
        await idle()
        return name

    async def go_on(self, name: str) -> None:
        self.may_go_on[name].set()
        await idle()

    def count(self, partition: int = 0) -> bytes | None:
        return self.tables[SERIES_TABLE].partition(partition).get(KEY)


@pytest.fixture
def role(tmp_path: Path) -> Role:
    return Role(tmp_path)


async def test_steps_that_share_a_table_take_turns_on_a_partition(role: Role) -> None:
    first, second = await role.begin(HANDLE), await role.begin(REQUEST)
    assert role.begun == [first]
    role.may_go_on[second].set()
    await idle()
    assert (role.begun, role.count()) == ([first], None)
    await role.go_on(first)
    assert role.begun == [first, second]
    assert role.count() == b"2", "the second has read what the first wrote"
    assert all(task.done() for task in role.tasks)


async def test_other_partitions_and_other_tables_do_not_wait(role: Role) -> None:
    names = [await role.begin(HANDLE), await role.begin(REQUEST, partition=1), await role.begin(WINDOW)]
    assert role.begun == names
    for name in names:
        await role.go_on(name)
    assert (role.count(0), role.count(1)) == (b"1", b"1")


async def test_a_step_without_tables_waits_for_nobody(role: Role) -> None:
    held, free = await role.begin(HANDLE), await role.begin(UNIFY)
    assert role.begun == [held, free]
    await role.go_on(free)
    assert [task.done() for task in role.tasks] == [False, True]


async def test_nor_does_anybody_wait_for_it(role: Role) -> None:
    held, free, other = await role.begin(UNIFY), await role.begin(WINDOW), await role.begin(HANDLE)
    assert role.begun == [held, free, other]
    await role.go_on(free)
    await role.go_on(other)
    assert [task.done() for task in role.tasks] == [False, True, True]
    await role.go_on(held)


async def test_a_turn_ends_with_its_step_however_that_ends(role: Role) -> None:
    first, second = await role.begin(HANDLE, fails=True), await role.begin(REQUEST)
    assert role.begun == [first]
    await role.go_on(first)
    assert role.tasks[0].cancelled()
    await role.go_on(second)
    assert (role.begun, role.count()) == ([first, second], b"1")


async def test_a_turn_lasts_until_the_effects_are_on_their_way(role: Role) -> None:
    """A write is seen by others once it is enqueued: until the fence has opened nobody may read what it replaces."""
    first, second = await role.begin(HANDLE), await role.begin(REQUEST)
    role.app.now += 11.0
    role.may_go_on[second].set()
    await role.go_on(first)
    assert role.begun == [first]
    role.app.fence.prove()
    await asyncio.wait_for(asyncio.gather(*role.tasks), 10)
    assert role.count() == b"2"
