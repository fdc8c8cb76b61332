"""A worker that stops closes its tables, and nothing that still runs beside its work opens one of them again."""

import asyncio
from pathlib import Path

import rocksdict

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
    databases = databases_in(home)
    assert databases
    assert [each for each in databases if is_open(each)] == databases
    await app.stop()
    await rewriter.round()
    app.stamp_tables()
    assert not [each for each in databases if is_open(each)]


def databases_in(home: Path) -> list[Path]:
    return [current.parent for current in home.rglob("CURRENT")]


def is_open(database: Path) -> bool:
    """Whether somebody holds it: RocksDB lets nobody else in, of this process neither."""
    try:
        rocksdict.Rdict(str(database), rocksdict.Options(raw_mode=True)).close()
    except Exception as error:
        if "lock" not in str(error).lower():
            raise
        return True
    return False
