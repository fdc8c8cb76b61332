"""A worker that stops closes its tables, and nothing that still runs beside its work opens one of them again."""

import asyncio
from pathlib import Path

from streams.apps import Host, step_app
from streams.kafka.rewriter import Rewriter
from streams.metrics import Metrics
from streams.settings import Settings
from tests.kit.brokers import embedded
from tests.kit.step_worker import counting, idle
from tests.kit.waiting import until_async


def test_who_looks_after_tables_leaves_those_of_a_stopped_worker_closed(tmp_path: Path) -> None:
    with embedded(tmp_path) as settings:
        asyncio.run(_look_after_the_end(settings, tmp_path))


async def _look_after_the_end(settings: Settings, home: Path) -> None:
    app = step_app(
        "ingest",
        Host(settings, Metrics(), lambda _: None, home, 1234),
        lambda step, _: counting if step.name == "window" else idle,
    )
    await app.start()
    await until_async(app.ledgers, "the worker has its partitions")
    tables = list(app.kept.values())
    rewriter = Rewriter(tables, lambda: app.tables_are_open)
    await rewriter.round()
    app.stamp_tables()
    assert any(table._table.data._dbs for table in tables)
    await app.stop()
    await rewriter.round()
    app.stamp_tables()
    assert not any(table._table.data._dbs for table in tables)
