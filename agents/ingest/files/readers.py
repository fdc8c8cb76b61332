"""Files are read in a few processes of their own: whatever a file makes of a parser, only its own outcome suffers.

`concurrent.futures`, pebble and loky would start and end such processes too, but they take results as pickles, and what
a process says that has read a hostile file must not be run. Here it is lengths, JSON and bytes: see `reader`.

Only the limits of processor time and of memory, which the kernel keeps, are a verdict on a file at once. Whatever else
ends a process while it reads is tried again in a fresh one:

* As long as it computes it goes on, however slow the machine is. One that sleeps over a file is ended.
* One that crashes or sleeps `MOST_CRASHES` times in a row over a file fails because of it: the file is refused.
* One that is killed is tried again after a growing pause. The kernel kills the same way where the machine has no more
  memory, and tells nobody: who is killed `MOST_KILLS` times in a row over one file is killed because of it.
* One that cannot be started says nothing about a file: `UnavailableError`, and whoever asked asks again.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

import structlog

from agents.ingest.files.reader import LENGTHS, MEMORY, MOST_ANSWER_BYTES, frame, unified_file_json
from agents.ingest.files.unified_file import Converted, Rules, UnifiedFile
from schemas import errors
from schemas.errors import OverloadedError, RejectedError, TooCostlyError, UnavailableError, UnknownFormatError

START_SECONDS = 60.0
WAITED_FACTOR = 2.0
"""Who waits for a conversion waits for so many times its computing time: then the machine is too busy."""
ASLEEP_SECONDS = 5.0
"""A process that computes nothing for so long, and waits neither for a processor nor for a disk, will not answer."""
REST_SECONDS = 10.0
"""Nobody asks a process that has grown for so long: it is replaced by a fresh one."""
MOST_CRASHES, MOST_KILLS = 3, 5
FIRST_PAUSE_SECONDS = 1.0
"""After the first kill, and twice as long after each further one: 15 s in all. Like three processes that sleep, these
are over before a worker takes itself for stalled (`GLUCAST_STALL_SECONDS`), and the count would begin anew."""
RETRY_AFTER_SECONDS = 5
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONTZPATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL")
"""What a reader gets to know of its surroundings: no passwords."""
_REJECTIONS: dict[str, type[RejectedError]] = {
    kind.code: kind for kind in (errors.UnknownFormatError, errors.TooShortError, errors.ImplausibleError)
}
_CRASHES = frozenset({signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP})
"""Signals that a process brings on itself."""
End = Literal["computed too long", "out of memory", "asleep", "crashed", "killed"]
_STILL: dict[str, End] = {"S": "asleep", "T": "killed"}
"""What it means that a process computes nothing, by its state: it sleeps, or somebody has stopped it."""

log = structlog.get_logger(__name__)


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
    """The process is gone, how it ended, and whether it had read no other file."""

    def __init__(self, how: End, fresh: bool) -> None:
        super().__init__(how)
        self.how, self.fresh = how, fresh


def _end_by(code: int) -> End:
    """How a process ended, by its exit code, which is negative for a signal."""
    if code == -signal.SIGXCPU:
        return "computed too long"
    if code == -signal.SIGABRT:  # so ends Rust where it gets no memory
        return "out of memory"
    return "crashed" if code >= 0 or -code in _CRASHES else "killed"


class _Answer(NamedTuple):
    head: dict[str, Any]
    body: bytes


class _Activity(NamedTuple):
    """What the kernel says of a process: its state, R where it runs or could, and the ticks that it has computed."""

    state: str
    ticks: int

    @classmethod
    def of(cls, pid: int) -> "_Activity":
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls(state, int(numbers[10]) + int(numbers[11]))


class _Reader:
    """One process, as its parent sees it. `usable` between two questions, until it ends or says that it does; `grown`
    says that a fresh one is smaller; `asked` counts questions.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._questions = cast(asyncio.StreamWriter, process.stdin)
        self._answers = cast(asyncio.StreamReader, process.stdout)
        self._fresh = True
        self._given_up: End | None = None
        self.usable = self.grown = False
        self.asked = 0

    @classmethod
    async def start(cls, limits: ReaderLimits) -> "_Reader":
        """A process that has loaded what it needs. Raises `UnavailableError`."""
        given = {"seconds": limits.file_seconds, "megabytes": limits.file_megabytes}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agents.ingest.files.reader", json.dumps(given),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"POLARS_MAX_THREADS": "1"},
        )  # fmt: skip
        reader = cls(process)
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
        """Its answer. Raises `_Ended`; cancelled, the process is of no more use."""
        self.usable = False
        self.asked += 1
        watching = asyncio.create_task(self._watch())
        try:
            with contextlib.suppress(ConnectionError):  # it has ended: so says the answer
                self._questions.write(question)
                await self._questions.drain()
            answer = await self._next()
            if answer.head.get("code") == MEMORY:
                raise _Ended("out of memory", self._fresh)
            self.usable, self.grown = not answer.head["last"], bool(answer.head["grown"])
            return answer
        finally:
            self._fresh = False
            watching.cancel()
            if not self.usable:
                await self.end()

    async def _watch(self) -> None:
        """End the process where it neither computes nor waits to."""
        before: _Activity | None = None
        with contextlib.suppress(OSError):  # it has ended
            while True:
                await asyncio.sleep(ASLEEP_SECONDS)
                now = _Activity.of(self._process.pid)
                if now == before and now.state in _STILL:
                    self._given_up = _STILL[now.state]
                    self._process.kill()
                    return
                before = now

    async def _next(self) -> _Answer:
        read = self._answers.readexactly
        try:
            head, body = LENGTHS.unpack(await read(LENGTHS.size))
            if max(head, body) > MOST_ANSWER_BYTES:
                raise _Ended("crashed", self._fresh)
            return _Answer(json.loads(await read(head)), await read(body))
        except asyncio.IncompleteReadError:
            code = await self._process.wait()
            raise _Ended(self._given_up or _end_by(code), self._fresh) from None

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
        self._ending: set[asyncio.Task[None]] = set()
        self._asking = 0
        self._closed = False

    async def unify(self, raw: bytes | None, timezone: str, rules: Rules) -> UnifiedFile:
        """As `unify_file`. Raises what that does, `TooCostlyError`, `UnavailableError` and `OverloadedError`."""
        question = {"timezone": timezone, "minimum": rules.minimum_minutes, "maximum": rules.maximum_minutes}
        answer = await self._ask("unify", question, raw or b"")
        return unified_file_json().validate_json(answer.body)

    async def convert(self, raw: bytes) -> Converted:
        """As `to_unified_csv`. Raises what that does, `TooCostlyError`, `UnavailableError` and `OverloadedError`.

        Somebody waits for it, so it ends where the machine is too busy.
        """
        seconds = WAITED_FACTOR * self._limits.file_seconds
        answer = await self._ask("convert", {}, raw, seconds)
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
        await asyncio.gather(*self._ending)

    async def _ask(self, task: str, question: dict[str, Any], raw: bytes, seconds: float | None = None) -> _Answer:
        """`seconds`: how long the answer may take once its turn has come; None: as long as the process computes."""
        if self._most_waiting is not None and self._asking >= self._count + self._most_waiting:
            raise OverloadedError("too many files are being read: try again in a few seconds", RETRY_AFTER_SECONDS)
        self._asking += 1
        try:
            answer = await self._answer(frame({"task": task} | question, raw), seconds)
        finally:
            self._asking -= 1
        if (code := answer.head.get("code")) is None:
            return answer
        raise _REJECTIONS.get(code, RejectedError)(str(answer.head["reason"]))

    async def _answer(self, question: bytes, seconds: float | None) -> _Answer:
        """By one process after the other, until one of them answers or the file is to blame: see the module."""
        crashes = kills = 0
        while True:
            try:
                async with self._turns, asyncio.timeout(seconds):
                    return await self._once(question)
            except TimeoutError:
                raise UnavailableError(
                    "the file could not be read in time, this machine is busy: try again in a minute"
                ) from None
            except _Ended as ended:
                log.warning("a process that reads files has ended", how=ended.how)
                if ended.how == "computed too long" or (ended.how == "out of memory" and ended.fresh):
                    raise self._too_costly(ended.how) from None
                if ended.how != "killed":
                    crashes += 1
                    if crashes == MOST_CRASHES:
                        raise _unreadable(ended.how) from None
                    continue
            kills += 1
            if kills == MOST_KILLS:
                raise self._too_costly("killed")
            await asyncio.sleep(FIRST_PAUSE_SECONDS * 2 ** (kills - 1))

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
                if reader.grown:
                    asyncio.get_running_loop().call_later(REST_SECONDS, self._renew, starting, reader, reader.asked)
            elif not self._closed:
                self._add()

    def _renew(self, starting: "asyncio.Task[_Reader]", reader: _Reader, asked: int) -> None:
        """Replace a process that nobody has asked since."""
        if starting in self._free and reader.asked == asked and not self._closed:
            self._free.remove(starting)
            ending = asyncio.create_task(reader.end())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._add()

    def _add(self) -> None:
        """Start a process, to be ready for the next file."""
        starting = asyncio.create_task(_Reader.start(self._limits))
        starting.add_done_callback(lambda task: task.cancelled() or task.exception())  # told to whoever takes it
        self._free.append(starting)

    def _too_costly(self, how: End) -> TooCostlyError:
        within = {
            "computed too long": f"within {self._limits.file_seconds} s",
            "out of memory": f"within {self._limits.file_megabytes} MB of memory",
        }.get(how, f"in the memory of this machine, which ended it {MOST_KILLS} times")
        return TooCostlyError(
            f"the file could not be read {within}: export a shorter time range and send the unedited file"
        )


def _unreadable(how: End) -> UnknownFormatError:
    what = "stands still over" if how == "asleep" else "breaks off at"
    return UnknownFormatError(
        f"the program that reads files {what} this one, {MOST_CRASHES} times in a row: export it again and send it "
        "unedited"
    )
