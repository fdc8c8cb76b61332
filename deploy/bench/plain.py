"""Plain Faust, written as its documentation shows it: what `glucast bench faults --consumer plain` compares with.

Events are acked when the loop goes on to the next one, sends are only enqueued, table writes reach the changelog some
time later. Ingest and calc only: inference waits for a model over many messages and has no plain form.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import faust
import rocksdict
import structlog

from agents.work import StepFunction, Work
from streams import apps, topology
from streams.apps import Host
from streams.kafka import messages
from streams.kafka.partitioning import partition_of
from streams.topology import Step, WorkerRole

log = structlog.get_logger(__name__)


class PlainTable:
    """A Faust table of raw bytes as steps see it; it finds its partition by the event that is being processed."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._table.get(key.encode())
        return value

    def keys(self, prefix: str) -> Iterator[str]:
        keys = (key.decode() for key in self._table.keys())  # noqa: SIM118 - not a dict
        return iter(sorted(key for key in keys if key.startswith(prefix)))

    def set(self, key: str, value: bytes | None) -> None:
        """Put, or delete for None."""
        if value is None:
            self._table.pop(key.encode(), None)
        else:
            self._table[key.encode()] = value


def plain_app(role: WorkerRole, host: Host) -> faust.App:
    """The same steps over stock Faust, with the same settings."""
    options = apps.app_options(role, host)
    app = faust.App(topology.app_id(role), broker_session_timeout=host.settings.session_timeout_seconds, **options)
    cache = rocksdict.Cache(host.settings.block_cache_bytes)
    tables = {name: PlainTable(apps.faust_table(app, name, host.settings, cache)) for name in topology.tables_of(role)}
    for step in topology.steps_of(role):
        agent = _agent(app, step, apps.load_step(step, host.settings), tables, host)
        app.agent(apps.topic_of(app, step.reads, host.settings), name=step.name)(agent)
    return app


def _agent(app: faust.App, step: Step, function: StepFunction, tables: dict[str, PlainTable], host: Host) -> Any:
    counts = host.metrics.of_step(step.name)
    home = partial(partition_of, partitions=host.settings.partitions)

    async def consume(stream: Any) -> None:
        async for event in stream.events():
            work = Work(messages.of_faust(event.message), tables, step, home)
            try:
                await function(work)
            except Exception as error:
                log.error("step failed", step=step.name, error=type(error).__name__)
                continue
            for (table, key), value in work.writes.items():
                tables[table].set(key, value)
            for send in work.sends:
                await app.topic(send.topic.name, key_serializer="raw", value_serializer="raw").send(
                    key=send.key, value=send.value, headers=dict(send.headers), partition=send.partition
                )
            counts.ended("processed")

    return consume
