"""Files are read in processes of their own: what a file makes of a parser ends with its own outcome."""

import asyncio
import contextlib
import dataclasses
import functools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from agents.ingest.files import readers as pool_of
from agents.ingest.files.reader import GROWN_BYTES, WARM_UP_GAP, WARM_UP_POINTS, warm_up_file
from agents.ingest.files.readers import MOST_CRASHES, MOST_KILLS, Readers
from agents.ingest.files.unified_file import Rules, to_unified_csv, unify_file
from schemas.errors import OverloadedError, TooCostlyError, TooShortError, UnavailableError, UnknownFormatError
from tests.kit import breaking_reader, samples
from tests.kit.sources import ROOT
from tests.kit.waiting import until, until_async

SMALL = samples.dexcom(samples.glucose_rows(150))
RULES = Rules()


@dataclasses.dataclass(frozen=True)
class Limits:
    file_seconds: int = 60
    file_megabytes: int = 1024


@functools.cache
def large(rows: int = 80_000) -> bytes:
    """Half a second of computing and over two hundred megabytes."""
    return samples.dexcom(samples.glucose_rows(rows))


def largest() -> bytes:
    """As large as a file may be."""
    return large(180_000)


@contextlib.asynccontextmanager
async def readers(limits: Limits = Limits(), count: int = 1, most_waiting: int | None = None) -> AsyncIterator[Readers]:
    found = Readers(limits, count, most_waiting)
    try:
        yield found
    finally:
        await found.close()
        assert children() == []


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if {"agents.ingest.files.reader", "tests.kit.breaking_reader"} & set(child.cmdline()):
                found.append(child)
    return found


async def reading(process: psutil.Process) -> None:
    """Until the process computes."""
    before = process.cpu_times().user
    await until_async(lambda: process.cpu_times().user > before + 0.2, "the file is being read")


async def test_a_reader_answers_what_the_parser_would() -> None:
    async with readers() as pool:
        assert await pool.unify(SMALL, "Europe/Berlin", RULES) == unify_file(SMALL, "Europe/Berlin", RULES)
        assert await pool.convert(SMALL) == to_unified_csv(SMALL)
        with pytest.raises(TooShortError, match="4 h 55 min"):
            await pool.unify(samples.dexcom(samples.glucose_rows(60)), "UTC", RULES)
        with pytest.raises(TooShortError, match="a forecast needs 13 h"):
            await pool.unify(SMALL, "UTC", Rules(minimum_minutes=780))
        assert len(children()) == 1, "one process for all of them"


async def test_a_file_that_takes_too_much_memory_is_rejected_and_reading_goes_on() -> None:
    async with readers(Limits(file_megabytes=400)) as pool:
        with pytest.raises(TooCostlyError, match="could not be read within 400 MB of memory: export a shorter time"):
            await pool.unify(largest(), "UTC", RULES)
        assert len((await pool.unify(SMALL, "UTC", RULES)).centi) == 150


async def test_a_file_that_takes_too_long_is_rejected_and_reading_goes_on() -> None:
    async with readers(Limits(file_seconds=1)) as pool:
        with pytest.raises(TooCostlyError, match="could not be read within 1 s: export a shorter time"):
            await pool.unify(largest() + b"".join(largest().splitlines(keepends=True)[-60_000:]), "UTC", RULES)
        assert len((await pool.unify(SMALL, "UTC", RULES)).centi) == 150


async def test_the_largest_lawful_file_is_read_within_the_default_memory() -> None:
    raw = largest()
    assert len(raw) > 11 << 20
    async with readers() as pool:
        assert len((await pool.unify(raw, "UTC", RULES)).centi) == 217
        assert (await pool.convert(raw)).text.count("\n") == 180_001


async def test_a_process_that_is_ended_from_outside_costs_no_file_its_outcome() -> None:
    async with readers() as pool:
        await pool.start()
        (child,) = children()
        task = asyncio.create_task(pool.unify(large(), "UTC", RULES))
        await reading(child)
        child.send_signal(signal.SIGKILL)
        assert len((await task).centi) == 217


async def test_nor_do_several_that_are_ended_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun, ends = tmp_path / "begun", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1]
    begun.touch()
    async with breaking(monkeypatch, tmp_path) as pool:
        task = asyncio.create_task(pool.unify(f"waits {len(ends)} {begun}".encode(), "UTC", RULES))
        for number, how in enumerate(ends):
            await until_async(lambda number=number: begun.read_text().count(".") > number, "a process reads the file")
            os.kill(int(begun.read_text().split(".")[number]), how)
        assert await task == breaking_reader.READ


@contextlib.asynccontextmanager
async def breaking(monkeypatch: pytest.MonkeyPatch, home: Path) -> AsyncIterator[Readers]:
    """Readers whose files break them, which are given up soon."""
    monkeypatch.setattr(sys, "executable", breaking_reader.program(home))
    monkeypatch.setattr(pool_of, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(pool_of, "ASLEEP_SECONDS", 0.5)
    async with readers(Limits(file_seconds=5)) as pool:
        yield pool


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every process that is started."""
    found: list[object] = []
    start = pool_of._Reader.start

    async def counted(limits: Limits) -> object:
        found.append(limits)
        return await start(limits)

    monkeypatch.setattr(pool_of._Reader, "start", counted)
    return found


@pytest.mark.parametrize(
    ("how", "kind", "text", "processes"),
    [
        ("SIGSEGV", UnknownFormatError, "breaks off at this one, 3 times in a row: export it again", MOST_CRASHES),
        ("exit", UnknownFormatError, "breaks off at this one, 3 times in a row: export it again", MOST_CRASHES),
        ("asleep", UnknownFormatError, "stands still over this one, 3 times in a row", MOST_CRASHES),
        ("SIGKILL", TooCostlyError, "memory of this machine, which ended it 5 times: export a shorter", MOST_KILLS),
        ("SIGSTOP", TooCostlyError, "memory of this machine, which ended it 5 times: export a shorter", MOST_KILLS),
        ("SIGABRT", TooCostlyError, "within 1024 MB of memory", 1),
        ("SIGXCPU", TooCostlyError, "within 5 s", 1),
    ],
)
async def test_a_file_that_ends_every_process_is_refused_after_so_many(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    started: list[object],
    how: str,
    kind: type[Exception],
    text: str,
    processes: int,
) -> None:
    async with breaking(monkeypatch, tmp_path) as pool:
        with pytest.raises(kind, match=text):
            await pool.unify(how.encode(), "UTC", RULES)
        assert await pool.unify(b"another", "UTC", RULES) == breaking_reader.READ
        assert len(started) == processes + 1, "and one for the next file"


async def test_a_file_that_is_read_slowly_is_read_and_only_who_waits_for_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pool_of, "WAITED_FACTOR", 0.3)
    async with breaking(monkeypatch, tmp_path) as pool:
        assert await pool.unify(b"slow", "UTC", RULES) == breaking_reader.READ
        with pytest.raises(UnavailableError, match="this machine is busy: try again in a minute"):
            await pool.convert(b"slow")
        assert await pool.unify(b"another", "UTC", RULES) == breaking_reader.READ


async def test_a_process_that_has_grown_far_is_replaced_before_the_next_file() -> None:
    async with readers() as pool:
        await pool.start()
        (before,) = children()
        await pool.unify(largest(), "UTC", RULES)
        assert not before.is_running()
        await pool.start()
        (after,) = children()
        await pool.unify(SMALL, "UTC", RULES)
        assert children() == [after]
        assert after.memory_info().rss < 200 << 20


async def test_a_process_that_has_grown_reads_on_and_is_replaced_when_it_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    months = large(35_000)
    async with readers() as pool:
        await pool.start()
        (before,) = children()
        for _ in range(3):
            await pool.unify(months, "UTC", RULES)
        assert children() == [before], "loading anew costs more than reading such a file"
        assert before.memory_info().rss > GROWN_BYTES
        monkeypatch.setattr(pool_of, "REST_SECONDS", 0.1)
        await pool.unify(months, "UTC", RULES)
        await until_async(lambda: not before.is_running(), "the process is replaced")
        await pool.start()
        (after,) = children()
        assert after.memory_info().rss < GROWN_BYTES
        await pool.unify(months, "UTC", RULES)


async def test_who_leaves_frees_the_reader() -> None:
    async with readers() as pool:
        await pool.start()
        (child,) = children()
        task = asyncio.create_task(pool.convert(large()))
        await reading(child)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not child.is_running()
        assert len((await pool.unify(SMALL, "UTC", RULES)).centi) == 150


async def test_so_many_are_read_at_a_time_and_so_many_wait() -> None:
    async with readers(count=1, most_waiting=1) as pool:
        first, second = (asyncio.create_task(pool.unify(SMALL, "UTC", RULES)) for _ in range(2))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as caught:
            await pool.unify(SMALL, "UTC", RULES)
        assert caught.value.retry_after_seconds > 0
        assert (await first) == (await second)
        assert len(children()) == 1
        await pool.unify(SMALL, "UTC", RULES)


def held_by(process: psutil.Process) -> list[str]:
    return [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]


async def test_a_reader_knows_no_passwords_and_holds_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUCAST_SASL_PASSWORD", "secret")
    async with readers() as pool:
        await pool.start()
        (child,) = children()
        assert not [name for name in child.environ() if name.startswith("GLUCAST")]
        held = held_by(child)
        assert {target.split(":")[0] for target in held} <= {"pipe", "socket", "/dev/null", "anon_inode"}
        assert sum(target.startswith("socket") for target in held) <= 1, "at most its own standard input"


async def test_a_reader_that_cannot_start_says_so_and_the_next_file_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with readers() as pool:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/bin/false")
            for start in (pool.start(), pool.unify(SMALL, "UTC", RULES)):
                with pytest.raises(UnavailableError, match=r"could be started .* GLUCAST_FILE_MEGABYTES"):
                    await start
        assert len((await pool.unify(SMALL, "UTC", RULES)).centi) == 150


PARENT = """
import asyncio, sys
from agents.ingest.files.readers import Readers
from agents.ingest.files.unified_file import Rules
from tests.kit import samples
from tests.unit.test_readers import Limits, children, largest

async def main():
    pool = Readers(Limits(), 2)
    await pool.start()
    asking = [asyncio.create_task(pool.unify(largest(), "UTC", Rules())) for _ in range(2)]
    while len(children()) < 2:
        await asyncio.sleep(0.01)
    print(*(child.pid for child in children()), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_no_reader_outlives_its_parent_not_even_in_the_middle_of_a_file() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        until(lambda: max(psutil.Process(pid).cpu_times().user for pid in pids) > 1, "a file is being read")
        parent.kill()
    until(lambda: not any(map(psutil.pid_exists, pids)), "no reader is left")


def test_what_is_read_before_the_first_file_is_taken_and_has_a_gap_that_is_filled() -> None:
    """So every part that reads a file has been loaded by then."""
    unified = unify_file(warm_up_file(), "UTC", Rules())
    assert len(unified.centi) == WARM_UP_POINTS + 2
    assert unified.interpolated_points == [WARM_UP_GAP, WARM_UP_GAP + 1]
