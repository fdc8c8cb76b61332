"""What every role does around its Apps: check the topics, run them, watch them, stop cleanly on a signal."""

import asyncio
import errno
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import structlog

from schemas.errors import UnavailableError
from schemas.exit_codes import ExitCode
from streams.niceness import give_way
from streams.settings import Settings
from streams.topology import WorkerRole

if TYPE_CHECKING:  # the help of the command line must not wait for Faust
    import faust

    from streams.apps import Host
    from streams.health import NotReady

STOP_SECONDS = 8.0
READY_CHECK_SECONDS = 0.02
HELPERS_AFTER_SECONDS = 2.0
"""Between a role that is ready and the start of its steps' helpers: what starts beside it has the processor first, and
who needs a helper earlier starts it."""
GC_WHILE_STARTING = (100_000, 20, 20)
"""Thresholds until the role is ready: nothing that is imported goes away, and looking at it again takes a tenth."""

log = structlog.get_logger(__name__)


def end_now(reason: str) -> None:
    """End the process without acking or committing anything more; its supervisor starts it again."""
    log.error("ending", reason=advised(reason))
    sys.stderr.flush()
    os._exit(ExitCode.RESTART)


class RoleRunner:
    """One role in the foreground: `prepare`, fill `apps`, then `run`."""

    def __init__(self, role: WorkerRole, settings: Settings, groups: Iterable[str] | None = None) -> None:
        """`groups`: the consumer groups that it joins, if not those of the role."""
        from streams.metrics import Metrics

        self.role, self.settings = role, settings
        self._groups = groups
        self.metrics = Metrics()
        self.host: Host
        self.apps: list[faust.App] = []
        self.extra_reasons: Callable[[], list[str]] = list
        """Further reasons why the role is not ready, such as a model that is still loading."""
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self._code = ExitCode.CLEAN
        self._gc_threshold = gc.get_threshold()
        gc.set_threshold(*GC_WHILE_STARTING)

    async def prepare(self) -> None:
        """Take a port, check the topics, find the state directory; sets `host`.

        Raises `ConfigurationError` (topics, directory) and `UnavailableError` (no broker).
        """
        from streams import topology
        from streams.apps import Host
        from streams.health import HealthServer
        from streams.kafka import provision, state_dir

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._health = HealthServer(self.metrics, self.reasons)
        await self._health.start(self.settings.health_host, self.settings.health_port)
        await provision.require(self.settings)
        await provision.require_groups(self.settings, self._groups or topology.groups_of(self.role))
        cluster = await state_dir.cluster_id(self.settings)
        data_dir = state_dir.directory(self.settings, cluster, f"{self.role}-{self.settings.ordinal}")
        self.host = Host(self.settings, self.metrics, end_now, data_dir, self._health.port)

    def start_again(self, reason: str) -> None:
        """Stop as on a signal, with the exit code that has the supervisor start the role again."""
        log.warning("stopping to be started again", role=self.role, reason=reason)
        self._code = ExitCode.RESTART
        self._stop.set()

    async def run(self) -> int:
        """Start the Apps, wait for a signal or a crash, stop them. Returns the exit code."""
        from streams.kafka.consumer import StrictApp
        from streams.kafka.liveness import Liveness, LoopWatchdog

        strict = [app for app in self.apps if isinstance(app, StrictApp)]
        self.metrics.in_flight(lambda: float(sum(len(app.in_flight) for app in strict)))
        stall_seconds = self.settings.stall_seconds
        gc.freeze()  # Faust collects all garbage at each rebalance; imported modules need not be looked at again
        watchdog = LoopWatchdog(asyncio.get_running_loop(), stall_seconds, end_now)
        watchdog.start()
        liveness = Liveness(strict, self.metrics, end_now, stall_seconds)
        stop = asyncio.create_task(self._stop.wait())
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(liveness.watch()),
            asyncio.create_task(self._start()),
            *(asyncio.create_task(app.wait_until_stopped()) for app in self.apps),
        ]
        try:
            await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                end_now(f"{self.role} crashed: {self._why(tasks)}")
            await self._stop_apps()
        finally:
            for task in tasks:
                task.cancel()
            watchdog.stop()
            await self._close_helpers()
            await self._health.stop()
        log.info("stopped", role=self.role)
        return self._code

    async def _start(self) -> None:
        """Start the Apps and report when they are ready; ends only by an error."""
        await asyncio.gather(*(app.start() for app in self.apps))
        while self.reasons():  # noqa: ASYNC110 - readiness is a question to the Apps, not an event
            await asyncio.sleep(READY_CHECK_SECONDS)
        seconds = round(time.monotonic() - self._began, 2)
        gc.freeze()  # also what came since: a model and its library
        gc.set_threshold(*self._gc_threshold)
        log.info("ready", role=self.role, seconds=seconds, health_port=self._health.port)
        give_way(self.settings.niceness)  # not before: what starts is waited for
        if self.host.helpers:
            await asyncio.sleep(HELPERS_AFTER_SECONDS)
        for step in self.host.helpers:
            try:
                await step.start()
            except UnavailableError as error:  # it is tried again with the next message, and only that one suffers
                log.warning("a step's helpers do not start", error=str(error))
        await asyncio.Event().wait()

    def reasons(self) -> list["NotReady"]:
        """Why the role is not ready; empty when it is."""
        from streams.health import NotReady

        if not self.apps:
            return [NotReady("starting", "checking the topics")]
        reasons = [NotReady("starting", text) for text in self.extra_reasons()]
        for app in self.apps:
            if app._consumer is None or app._assignment is None:
                reasons.append(NotReady("joining", f"{app.conf.id} is joining its group"))
            elif app.rebalancing:
                reasons.append(NotReady("recovering", f"{app.conf.id} is taking over partitions"))
        return reasons

    async def _stop_apps(self) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*(app.stop() for app in self.apps))
        except TimeoutError:
            end_now(f"could not finish within {STOP_SECONDS:.0f} s; unconfirmed messages come again")

    async def _close_helpers(self) -> None:
        for step in self.host.helpers:
            await step.close()

    def _why(self, tasks: "list[asyncio.Task[Any]]") -> str:
        ended = [task for task in tasks if task.done() and not task.cancelled()]
        errors = [repr(task.exception()) for task in ended if task.exception() is not None]
        errors += [repr(app.crash_reason) for app in self.apps if app.crash_reason is not None]
        return ", ".join(errors) or "an App stopped by itself"


def advised(reason: str) -> str:
    """The reason with what to do about it, where that is known. Databases cannot even be opened on a full disk."""
    if os.strerror(errno.ENOSPC) in reason:
        return f"{reason}; free some room in GLUCAST_STATE_DIR"
    if "AuthorizationFailed" in reason:
        from streams.kafka.provision import RIGHTS

        return f"{reason}; this role's Kafka user lacks a right: {RIGHTS}"
    return reason
