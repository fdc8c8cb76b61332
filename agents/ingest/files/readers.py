"""Files are read in a few processes of their own: whatever a file makes of a parser, only its own outcome suffers.

`concurrent.futures`, pebble and loky would start and end such processes too, but they take results as pickles, and what
a process says that has read a hostile file must not be run. Here it is lengths, JSON and bytes: see `reader`.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any, NamedTuple, Protocol, cast

from agents.ingest.files.reader import LENGTHS, MEMORY, MOST_ANSWER_BYTES, frame, unified_file_json
from agents.ingest.files.unified_file import Converted, Rules, UnifiedFile
from schemas import errors
from schemas.errors import OverloadedError, RejectedError, TooCostlyError, UnavailableError

START_SECONDS = 60.0
WALL_FACTOR = 2.0
"""A file that takes so many times its computing time is given up too: the machine is overloaded, or it waits."""
RETRY_AFTER_SECONDS = 5
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONTZPATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL")
"""What a reader gets to know of its surroundings: no passwords."""
_REJECTIONS: dict[str, type[RejectedError]] = {
    kind.code: kind for kind in (errors.UnknownFormatError, errors.TooShortError, errors.ImplausibleError)
}


class ReaderLimits(Protocol):
    """What reading one file may take."""

    @property
    def file_seconds(self) -> int: ...
    @property
    def file_megabytes(self) -> int: ...


class FileParser(Protocol):
    """What reads files into series: `Readers`, or a test's own."""

    async def unify(self, raw: bytes | None, timezone: str, rules: Rules) -> UnifiedFile: ...
    async def start(self) -> None: ...
    async def close(self) -> None: ...


class _Ended(Exception):  # noqa: N818 - no error: the caller says what it means
    """The process is gone, by its computing time or by something else."""

    def __init__(self, by_time: bool) -> None:
        super().__init__()
        self.by_time = by_time


class _Answer(NamedTuple):
    head: dict[str, Any]
    body: bytes


class _Reader:
    """One process, as its parent sees it. `usable` between two questions, until it ends or says that it does."""

    def __init__(self, process: asyncio.subprocess.Process, seconds: float) -> None:
        self._process, self._seconds = process, seconds
        self._questions = cast(asyncio.StreamWriter, process.stdin)
        self._answers = cast(asyncio.StreamReader, process.stdout)
        self.usable = False

    @classmethod
    async def start(cls, limits: ReaderLimits) -> "_Reader":
        """A process that has loaded what it needs. Raises `UnavailableError`."""
        given = {"seconds": limits.file_seconds, "megabytes": limits.file_megabytes}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agents.ingest.files.reader", json.dumps(given),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"POLARS_MAX_THREADS": "1"},
        )  # fmt: skip
        reader = cls(process, WALL_FACTOR * limits.file_seconds)
        try:
            async with asyncio.timeout(START_SECONDS):
                await reader._next()
            reader.usable = True
        except (_Ended, TimeoutError):
            raise UnavailableError(
                f"no process that reads files could be started (exit code {process.returncode}): see the log, and "
                "whether GLUCAST_FILE_MEGABYTES is enough"
            ) from None
        finally:
            if not reader.usable:
                await reader.end()
        return reader

    async def ask(self, question: bytes) -> _Answer:
        """Its answer. Raises `_Ended`; cancelled or late, the process is of no more use."""
        self.usable = False
        try:
            async with asyncio.timeout(self._seconds):
                with contextlib.suppress(ConnectionError):  # it has ended: so says the answer
                    self._questions.write(question)
                    await self._questions.drain()
                answer = await self._next()
            self.usable = not answer.head["last"]
            return answer
        except TimeoutError:
            raise _Ended(by_time=True) from None
        finally:
            if not self.usable:
                await self.end()

    async def _next(self) -> _Answer:
        read = self._answers.readexactly
        try:
            head, body = LENGTHS.unpack(await read(LENGTHS.size))
            if max(head, body) > MOST_ANSWER_BYTES:
                raise _Ended(by_time=False)
            return _Answer(json.loads(await read(head)), await read(body))
        except asyncio.IncompleteReadError:
            code = await self._process.wait()
            raise _Ended(by_time=code == -signal.SIGXCPU) from None

    async def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.usable = False
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(self._process.wait())


class Readers:
    """At most `count` processes, started when they are needed, used again and replaced when they end."""

    def __init__(self, limits: ReaderLimits, count: int, most_waiting: int | None = None) -> None:
        """`most_waiting`: how many files may wait for a process; None: any number."""
        self._limits, self._count, self._most_waiting = limits, count, most_waiting
        self._turns = asyncio.Semaphore(count)
        self._free: list[asyncio.Task[_Reader]] = []
        self._asking = 0
        self._closed = False

    async def unify(self, raw: bytes | None, timezone: str, rules: Rules) -> UnifiedFile:
        """As `unify_file`. Raises what that does, `TooCostlyError`, `UnavailableError` and `OverloadedError`."""
        question = {"timezone": timezone, "minimum": rules.minimum_minutes, "maximum": rules.maximum_minutes}
        answer = await self._ask("unify", question, raw or b"")
        return unified_file_json().validate_json(answer.body)

    async def convert(self, raw: bytes) -> Converted:
        """As `to_unified_csv`. Raises what that does, `TooCostlyError`, `UnavailableError` and `OverloadedError`."""
        answer = await self._ask("convert", {}, raw)
        return Converted(answer.body.decode(), [str(note) for note in answer.head["notes"]])

    async def start(self) -> None:
        """Have one process ready before a file comes; each takes 100 MB. Raises `UnavailableError`."""
        if not self._free and not self._asking:
            self._add()
        await asyncio.gather(*(asyncio.shield(task) for task in self._free))

    async def close(self) -> None:
        """End the processes. Call it when nobody asks any more."""
        self._closed = True
        while self._free:
            task = self._free.pop()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, UnavailableError):
                await (await task).end()

    async def _ask(self, task: str, question: dict[str, Any], raw: bytes) -> _Answer:
        if self._most_waiting is not None and self._asking >= self._count + self._most_waiting:
            raise OverloadedError("too many files are being read: try again in a few seconds", RETRY_AFTER_SECONDS)
        self._asking += 1
        try:
            async with self._turns:
                answer = await self._answer(frame({"task": task} | question, raw))
        finally:
            self._asking -= 1
        if (code := answer.head.get("code")) is None:
            return answer
        if code == MEMORY:
            raise self._too_costly(by_time=False)
        raise _REJECTIONS.get(code, RejectedError)(str(answer.head["reason"]))

    async def _answer(self, question: bytes) -> _Answer:
        try:
            return await self._once(question)
        except _Ended as ended:
            if ended.by_time:
                raise self._too_costly(by_time=True) from None
        try:  # once more: the process may have been ended by something that has nothing to do with the file
            return await self._once(question)
        except _Ended as ended:
            raise self._too_costly(ended.by_time) from None

    async def _once(self, question: bytes) -> _Answer:
        if not self._free:
            self._add()
        starting = self._free.pop()
        try:
            reader = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._free.append(starting)
            raise
        try:
            return await reader.ask(question)
        finally:
            if reader.usable:
                self._free.append(starting)
            elif not self._closed:
                self._add()

    def _add(self) -> None:
        """Start a process, to be ready for the next file."""
        starting = asyncio.create_task(_Reader.start(self._limits))
        starting.add_done_callback(lambda task: task.cancelled() or task.exception())  # told to whoever takes it
        self._free.append(starting)

    def _too_costly(self, by_time: bool) -> TooCostlyError:
        most = f"{self._limits.file_seconds} s" if by_time else f"{self._limits.file_megabytes} MB of memory"
        return TooCostlyError(
            f"the file could not be read within {most}: export a shorter time range and send the unedited file"
        )
