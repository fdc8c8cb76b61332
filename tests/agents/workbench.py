"""Runs steps against dict-backed tables, as the guard would: effects apply when the step has returned."""

from collections.abc import Iterator

from agents.work import Message, Send, StepFunction, Work
from schemas.topics import Topic

NOW_MS = 1_710_000_000_000


class DictTable(dict[str, bytes]):
    """A table in memory."""

    def keys(self) -> Iterator[str]:  # type: ignore[override]
        return iter(list(super().keys()))


class Workbench:
    """The tables of one partition, and everything that was sent."""

    def __init__(self) -> None:
        self.tables = {name: DictTable() for name in ("series", "subjects", "fan-charts")}
        self.sent: list[Send] = []

    async def run(
        self, step: StepFunction, value: bytes | None, *, apply: bool = True, **message: object
    ) -> list[Send]:
        """What the step sends for one message. Without `apply` its table writes are lost, as in a crash."""
        fields = {"topic": "test", "key": None, "timestamp_ms": NOW_MS} | message
        work = Work(Message(value=value, **fields), self.tables)  # type: ignore[arg-type]
        await step(work)
        if apply:
            for (table, key), row in work.writes.items():
                if row is None:
                    self.tables[table].pop(key, None)
                else:
                    self.tables[table][key] = row
        self.sent += work.sends
        return work.sends


def of(topic: Topic, sends: list[Send]) -> list[bytes]:
    """The values sent to one topic; tombstones are left out."""
    return [send.value for send in sends if send.topic == topic and send.value is not None]
