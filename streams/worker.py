"""One role in the foreground: check the topics, run its Apps, watch them, stop cleanly on SIGTERM or Ctrl-C."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable

import structlog

from schemas.errors import ConfigurationError, UnavailableError
from streams import logs
from streams.settings import Settings
from streams.topology import Role

EXIT_CLEAN, EXIT_CONFIGURATION, EXIT_RESTART = 0, 2, 3
STOP_SECONDS = 8.0

log = structlog.get_logger(__name__)


def run_worker(role: Role, settings: Settings) -> int:
    """Run until a signal or a failure. 0: stopped cleanly; 2: an operator has to change something; 3: restart me."""
    logs.configure(settings)
    if role == "inference":
        from streams.inference_role import run_inference

        return run_inference(settings)
    try:
        return asyncio.run(_run_steps(role, settings))
    except ConfigurationError as error:
        log.error(str(error))
        return EXIT_CONFIGURATION
    except UnavailableError as error:
        log.error(str(error))
        return EXIT_RESTART


def end_now(reason: str) -> None:
    """End the process without acking or committing anything more; its supervisor starts it again."""
    log.error("ending", reason=reason)
    sys.stderr.flush()
    os._exit(EXIT_RESTART)


async def _run_steps(role: Role, settings: Settings) -> int:
    began = time.monotonic()
    runner = RoleRunner(role, settings)
    await runner.prepare()
    from streams.apps import step_app

    runner.apps.append(step_app(role, runner.host))
    code = await runner.run(began)
    log.info("stopped", role=role, code=code)
    return code


class RoleRunner:
    """What every role does around its Apps. `prepare`, fill `apps`, then `run`."""

    def __init__(self, role: Role, settings: Settings) -> None:
        # Imported here: the help of the command line must not wait for Faust.
        from streams.consumer import StrictApp
        from streams.metrics import Metrics

        self.role, self.settings = role, settings
        self.metrics = Metrics()
        self.apps: list[StrictApp] = []
        self.extra_reasons: Callable[[], list[str]] = list
        """Further reasons why the role is not ready, such as a model that is still loading."""
        self._stop = asyncio.Event()

    async def prepare(self) -> None:
        """Take a port, check the topics, find the state directory.

        Raises `ConfigurationError` (topics, directory) and `UnavailableError` (no broker).
        """
        from streams import provision, state_dir
        from streams.apps import Host
        from streams.health import HealthServer

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self.health = HealthServer(self.metrics, self._reasons, lambda: None)
        await self.health.start(self.settings.health_port)
        _, cluster = await asyncio.gather(provision.require(self.settings), state_dir.cluster_id(self.settings))
        data_dir = state_dir.directory(self.settings, cluster, f"{self.role}-{self.settings.ordinal}")
        self.host = Host(self.settings, self.metrics, end_now, data_dir, self.health.port)

    async def run(self, began: float) -> int:
        """Start the Apps, wait for a signal or a crash, stop them."""
        from streams.liveness import Liveness, LoopWatchdog

        loop = asyncio.get_running_loop()
        self.metrics.in_flight(lambda: float(sum(len(app.in_flight) for app in self.apps)))
        watchdog = LoopWatchdog(loop, self.settings.stall_seconds, end_now)
        watchdog.start()
        liveness = Liveness(self.apps, self.metrics, end_now, self.settings.stall_seconds)
        watch = asyncio.create_task(liveness.watch())
        start = asyncio.create_task(self._start(began))
        stopping = asyncio.create_task(self._stop.wait())
        crashes = [asyncio.create_task(app.wait_until_stopped()) for app in self.apps]
        try:
            done, _ = await asyncio.wait(
                [stopping, watch, *([] if start.done() else [start]), *crashes], return_when=asyncio.FIRST_COMPLETED
            )
            if done == {start} and start.exception() is None:
                done, _ = await asyncio.wait([stopping, watch, *crashes], return_when=asyncio.FIRST_COMPLETED)
            if stopping not in done:
                end_now(f"role {self.role} crashed: {_why([*self.apps], done)}")
            start.cancel()
            return await self._stop_apps()
        finally:
            watch.cancel()
            watchdog.stop()
            for task in crashes:
                task.cancel()
            await self.health.stop()

    async def _start(self, began: float) -> None:
        await asyncio.gather(*(app.start() for app in self.apps))
        while self._reasons():
            await asyncio.sleep(0.02)
        log.info("ready", role=self.role, seconds=round(time.monotonic() - began, 2), port=self.health.port)

    def _reasons(self) -> list["NotReady"]:
        from streams.health import NotReady

        reasons = [NotReady("starting", text) for text in self.extra_reasons()]
        if not self.apps:
            reasons.append(NotReady("starting", "checking topics"))
        for app in self.apps:
            name = str(app.conf.id)
            if app._consumer is None or (not app.consumer.ledgers and not app.unassigned and app._assignment is None):
                reasons.append(NotReady("joining", f"{name} is joining its group"))
            elif app.rebalancing:
                reasons.append(NotReady("recovering", f"{name} is taking over partitions"))
        return reasons

    async def _stop_apps(self) -> int:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*(app.stop() for app in self.apps))
        except TimeoutError:
            end_now(f"could not finish within {STOP_SECONDS:.0f} s; unconfirmed messages come again")
        return EXIT_CLEAN


def _why(apps: list[object], done: set["asyncio.Task[object]"]) -> str:
    errors = [repr(task.exception()) for task in done if not task.cancelled() and task.exception() is not None]
    errors += [repr(reason) for app in apps if (reason := getattr(app, "crash_reason", None)) is not None]
    return ", ".join(errors) or "an App stopped by itself"
