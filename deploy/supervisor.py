"""Keeps child processes running: starts them, restarts what dies, tells when all are ready, stops them in order."""

import asyncio
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from deploy import spare_order
from deploy.brokers.wire import LOOPBACK, HeldPort
from deploy.log_lines import LogLines
from deploy.orphans import die_with_parent
from deploy.readiness import Readiness, probe
from deploy.spare_keeper import SpareKeeper
from schemas.exit_codes import ExitCode

_READ_LIMIT = 256 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Child:
    """A process to be kept. `port`: where it answers ``/readyz``, at `host`; None for one that is ready once it runs.

    Children of a lower `stop_rank` are stopped first. If the supervisor is killed, the kernel sends `orphan_signal`.
    `spare_arguments`: the arguments of ``glucast`` that let a spare process take this one's place, where one can.
    `held`: keeps the port free for it while it starts, and while it is away.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int | None = None
    stop_rank: int = 0
    orphan_signal: signal.Signals = signal.SIGKILL
    spare_arguments: tuple[str, ...] | None = None
    held: HeldPort | None = None
    host: str = LOOPBACK


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """The first restart is immediate; a child that dies again and again waits twice as long each time."""

    first_seconds: float = 1.0
    most_seconds: float = 30.0
    forget_after_seconds: float = 60.0

    def delay(self, deaths_in_a_row: int) -> float:
        if deaths_in_a_row <= 1:
            return 0.0
        return min(self.most_seconds, self.first_seconds * 2.0 ** (min(deaths_in_a_row, 32) - 2))


class Supervisor:
    """Runs children until `stop`. All methods belong to one event loop in the main thread."""

    def __init__(self, lines: LogLines, backoff: Backoff | None = None) -> None:
        self._lines = lines
        self._backoff = backoff or Backoff()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._children: dict[str, Child] = {}
        self._stopping = asyncio.Event()
        self.restarts: dict[str, int] = {}
        self.failed: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        """Done when a child cannot work until somebody changes its configuration."""
        self._spares: SpareKeeper | None = None

    def keep_spare(self, environment: Mapping[str, str], delay_seconds: float = spare_order.DELAY_SECONDS) -> None:
        """From now on a process with its code loaded waits to take the place of the next child that dies."""
        self._spares = SpareKeeper(_spawn_spare, environment, delay_seconds)
        self._spares.prepare()

    @property
    def spare_pid(self) -> int | None:
        """Process id of the spare process; None while there is none."""
        return self._spares.pid if self._spares is not None else None

    def add(self, child: Child) -> None:
        """Start a child and keep it running."""
        self._children[child.name] = child
        self.restarts[child.name] = 0
        self._keepers[child.name] = asyncio.create_task(self._keep(child))

    def pid(self, name: str) -> int | None:
        """Process id of a child; None while it is not running."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.returncode is None else None

    async def _keep(self, child: Child) -> None:
        deaths = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                code = await self._run_once(child)
                ended = f"ended with {_ending(code)}; restarting it"
            except (OSError, subprocess.SubprocessError) as error:
                # No memory or no process is left for it, which is when processes die: it is missing until there is.
                code, ended = ExitCode.RESTART, f"could not be started ({error}); trying again"
            if self._stopping.is_set():
                return
            if code == ExitCode.CONFIGURATION:
                if not self.failed.done():
                    self.failed.set_result(child)
                return
            if time.monotonic() - began > self._backoff.forget_after_seconds:
                deaths = 0
            deaths += 1
            delay = self._backoff.delay(deaths)
            when = f"in {delay:g} s" if delay else "now"
            self._lines.say(child.name, f"{ended} {when}")
            self.restarts[child.name] += 1
            await asyncio.sleep(delay)

    async def _run_once(self, child: Child) -> int:
        process = self._spare_for(child) or await _spawn(child.command, child.environment, child.orphan_signal)
        self._processes[child.name] = process
        if self._stopping.is_set():
            _signal(process, signal.SIGKILL)
        output = asyncio.create_task(self._lines.follow(child.name, process.stdout)) if process.stdout else None
        code = await process.wait()
        _sweep(process.pid)
        if output is not None:
            await asyncio.wait([output], timeout=1.0)
            output.cancel()
        return code

    def _spare_for(self, child: Child) -> asyncio.subprocess.Process | None:
        if self._spares is None or child.spare_arguments is None or self._stopping.is_set():
            return None
        process = self._spares.take(child.spare_arguments, child.environment)
        if process is not None:
            self._lines.say(child.name, f"process {process.pid}, which has its code loaded, takes over")
        return process

    async def readiness(self) -> dict[str, Readiness]:
        """Of every child that can be asked, at the same time."""
        asked = {name: (child.port, child.host) for name, child in self._children.items() if child.port is not None}
        answers = await asyncio.gather(*(probe(*place) for place in asked.values()))
        return dict(zip(asked, answers, strict=True))

    async def wait_until_ready(self, report: Callable[[str], None], every_seconds: float = 5.0) -> None:
        """Return when all are ready at once; a line of what is missing now and then."""
        began, said = time.monotonic(), time.monotonic()
        while True:
            answers = await self.readiness()
            missing = {name: answer.reason for name, answer in answers.items() if not answer.ready}
            if not missing:
                return
            if time.monotonic() - said > every_seconds:
                said = time.monotonic()
                waits = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
                report(f"waiting for {waits} ({time.monotonic() - began:.0f} s)")
            await asyncio.sleep(0.05)

    async def stop(self, within_seconds: float = 8.0, patience_seconds: float = 1.5) -> None:
        """SIGTERM rank by rank, each given `patience_seconds` before the next; SIGKILL for what is left at the end."""
        self._stopping.set()
        if self._spares is not None:
            await self._spares.close()
        deadline = time.monotonic() + within_seconds
        for rank in sorted({child.stop_rank for child in self._children.values()}):
            group = [self._processes[n] for n, c in self._children.items() if c.stop_rank == rank and self.pid(n)]
            for process in group:
                _signal(process, signal.SIGTERM)
            await _gone(group, min(patience_seconds, deadline - time.monotonic()))
        await _gone(list(self._processes.values()), deadline - time.monotonic())
        for name, process in self._processes.items():
            if process.returncode is None:
                self._lines.say(name, "did not stop in time; killing it")
                self._kill(process)
        for keeper in self._keepers.values():
            if not keeper.done():
                await asyncio.wait([keeper], timeout=2.0)
                keeper.cancel()

    def kill(self) -> None:
        """SIGKILL to everything, now."""
        self._stopping.set()
        for process in self._processes.values():
            self._kill(process)

    def _kill(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            _sweep(process.pid)


async def _spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    orphan_signal: signal.Signals = signal.SIGKILL,
    stdin: int = asyncio.subprocess.DEVNULL,
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=_READ_LIMIT,
        start_new_session=True,  # Ctrl-C is for the supervisor, which stops the children in order
        preexec_fn=die_with_parent(orphan_signal),
    )


async def _spawn_spare(command: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await _spawn(command, environment, stdin=asyncio.subprocess.PIPE)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)


def _sweep(pid: int) -> None:
    """SIGKILL to what is left of a child's process group: a dead role's browser must not stay behind."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


async def _gone(processes: list[asyncio.subprocess.Process], timeout_seconds: float) -> None:
    waits = [asyncio.ensure_future(process.wait()) for process in processes if process.returncode is None]
    if waits:
        _, late = await asyncio.wait(waits, timeout=max(0.0, timeout_seconds))
        for wait in late:
            wait.cancel()
