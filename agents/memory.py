"""Steps over tables in memory: for tests, for trials, and for audits that put a recorded log through a step again."""

from collections.abc import Callable, Iterator

from agents.work import Declared, Message, Send, StepFunction, Work


class MemoryTable:
    """One partition of one table."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.rows.get(key)

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.rows if key.startswith(prefix)))


class Committed:
    """The progress of one message, of which its tables keep account."""

    def __init__(self, tables: "MemoryTables", message_offset: int) -> None:
        self._tables, self._message_offset = tables, message_offset

    @property
    def committed(self) -> int:
        return self._tables.committed or 0

    @property
    def goes_on(self) -> bool:
        """Nobody takes it away."""
        return True

    async def settled(self) -> None:
        self._tables.committed = max(self.committed, self._message_offset)


class MemoryTables:
    """The tables of all partitions, made when they are first touched."""

    def __init__(self, partition_of: Callable[[bytes], int] = lambda _: 0) -> None:
        """`partition_of` tells where a key's messages belong; without it everything belongs to partition 0."""
        self._partition_of = partition_of
        self.committed: int | None = None
        """Messages of lower offsets are never delivered again; None where no message is."""
        self._tables: dict[tuple[str, int], MemoryTable] = {}

    def table(self, name: str, partition: int = 0) -> MemoryTable:
        """One partition of a table."""
        return self._tables.setdefault((name, partition), MemoryTable())

    def rows(self, name: str) -> dict[str, bytes]:
        """All rows of a table."""
        return {
            key: value for (table, _), held in self._tables.items() if table == name for key, value in held.rows.items()
        }

    async def run(self, step: Declared, function: StepFunction, message: Message) -> Work:
        """The finished work of one message, its table writes not applied yet; raises what the step raises."""
        tables = {name: self.table(name, message.partition) for name in step.tables}
        progress = None if self.committed is None else Committed(self, message.offset)
        work = Work(message, tables, step, self._partition_of, progress)
        await function(work)
        return work

    def apply(self, work: Work) -> list[Send]:
        """Write what the work wants written; returns what it wants sent."""
        for (name, key), value in work.writes.items():
            rows = self.table(name, work.message.partition).rows
            rows.pop(key, None)
            if value is not None:
                rows[key] = value
        return work.sends
