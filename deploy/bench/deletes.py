"""What a delete costs as the fan-chart table grows, beside a look at every key, which is what it cost before.

The real step over the real table view and a real RocksDB; only the producer is a stand-in that confirms at once.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import rocksdict

from agents.calc import chart_commands
from agents.work import Message, Work
from schemas.command import CacheCommand
from schemas.tables import DELETIONS_TABLE, FAN_CHART_TABLES, handle_key
from streams import topology
from streams.kafka.tables import ConfirmedTable, PartitionView
from streams.settings import Settings

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SAMPLES_A_HANDLE = 122
REPEATS = 9
ROW = b'{"epoch_ms": 1, "fan": "' + bytes(1000).replace(b"\0", b"x") + b'"}'
MODEL = "0" * 64


def run(say: Callable[[str], None] = print) -> None:
    """Print a row a size: median milliseconds of a delete of one handle, and of a look at every key."""
    say(f"{'rows':>9}  {'delete of 122 rows':>20}  {'look at every key':>18}")
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="glucast-deletes-") as directory:
            deleted, scanned = asyncio.run(_measure(Path(directory), size))
        say(f"{size:>9,}  {deleted:>17.2f} ms  {scanned:>15.1f} ms")


async def _measure(directory: Path, size: int) -> tuple[float, float]:
    database = _filled(directory / "rows", size)
    view, empty = _view(database), _view(_filled(directory / "empty", 0))
    command, step = chart_commands.build(Settings()), topology.step_of("chart_commands")
    took = []
    for number in range(REPEATS):
        handle = _handle(number)
        message = CacheCommand(action="delete", command_id="bench", up_to_ms=2, handle=handle)
        views = {table: view if table == DELETIONS_TABLE else empty for table in FAN_CHART_TABLES.values()}
        work = Work(Message(topic="", key=None, value=message.to_json()), views, step, lambda _: 0)
        began = time.perf_counter()
        await command(work)
        for (_, key), value in work.writes.items():
            await view.hold(key, value).send()
        took.append(time.perf_counter() - began)
        deleted = sum(value is None for value in work.writes.values())
        if deleted != SAMPLES_A_HANDLE:
            raise AssertionError(f"{deleted} rows were deleted, not {SAMPLES_A_HANDLE}")
        await asyncio.sleep(0)
    began = time.perf_counter()
    sum(1 for _ in database.keys())  # noqa: SIM118 - not a dict
    return 1000 * statistics.median(took), 1000 * (time.perf_counter() - began)


def _filled(path: Path, size: int) -> Any:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    database = rocksdict.Rdict(str(path), options)
    batch = rocksdict.WriteBatch(raw_mode=True)
    for count, key in enumerate(_keys(size), start=1):
        batch.put(key, ROW)
        if count % 10_000 == 0:
            database.write(batch)
            batch = rocksdict.WriteBatch(raw_mode=True)
    database.write(batch)
    database.flush()
    return database


def _keys(size: int) -> Iterator[bytes]:
    for number in range(size):
        handle, sample = divmod(number, SAMPLES_A_HANDLE)
        yield str(handle_key(_handle(handle), -sample, MODEL)).encode()
    for number in range(size // SAMPLES_A_HANDLE, REPEATS):  # a small table holds what is deleted too
        yield from (str(handle_key(_handle(number), -sample, MODEL)).encode() for sample in range(SAMPLES_A_HANDLE))


def _handle(number: int) -> str:
    """Handles lie all over the table, as hashes do."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}".rjust(64, "0")[::-1]


def _view(database: Any) -> PartitionView:
    async def send(*_: object) -> "asyncio.Future[Any]":
        confirmed = asyncio.get_running_loop().create_future()
        confirmed.set_result(SimpleNamespace(offset=0))
        return confirmed

    app = SimpleNamespace(producer=SimpleNamespace(send=send), _assignment=None)
    store = SimpleNamespace(data=SimpleNamespace(_db_for_partition=lambda _: database))
    return ConfirmedTable(app, store, "calc", DELETIONS_TABLE).partition(0)
