"""Everything on one machine under one Ctrl-C: a broker, the topics, every role, and perhaps a simulated person."""

import asyncio
import dataclasses
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from deploy.brokers.broker import Broker
from deploy.brokers.choice import choose
from deploy.brokers.embedded import CLUSTER_PREFIX
from deploy.brokers.wire import HeldPort, is_free
from deploy.log_lines import LogLines
from deploy.readiness import get, reached_at
from deploy.roles import API, NOTIFY, SIMULATE, TRIAL, Counts, api, environment, notifier, simulator, trial, workers
from deploy.state_lock import state_lock
from deploy.supervisor import Supervisor
from schemas.errors import ConfigurationError, UnavailableError
from schemas.exit_codes import ExitCode
from streams.settings import Settings

_GLUCAST, _BROKER = "glucast", "broker"
_STOP_SECONDS = 7.5
_BROKER_STOP_SECONDS = 2.0
_AGAIN_SECONDS = 1.0
_TOPICS_WAIT_SECONDS = 120.0
_BACKLOG_SECONDS = 15.0
_BACKLOG = 100
"""Messages of a topic that are worth a line: a second of readings of thousands of people is none."""
NOTICE = "Not a medical device: forecasts are not for treatment decisions."


@dataclasses.dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line asked for. `port` None: the settings' port, or the next free one."""

    broker: str = "embedded"
    simulate: bool = True
    counts: Counts = dataclasses.field(default_factory=Counts)
    port: int | None = None


def up(options: UpOptions, settings: Settings) -> int:
    """Run until a signal. Returns the exit code; raises `GlucastError` where it cannot start.

    Call it from the main thread: the kernel ends child processes together with the thread that started them.
    """
    began = time.monotonic()
    lines = LogLines(
        [_GLUCAST, _BROKER, API, NOTIFY, SIMULATE, TRIAL, *(name for name, _, _ in options.counts.names())]
    )
    with state_lock(settings.state_dir):
        _forget_embedded_runs(settings)
        port = _api_port(options, settings)
        broker = choose(options.broker, settings.state_dir, settings.security_protocol.endswith("SSL"))
        lines.say(_BROKER, broker.about)
        try:
            return asyncio.run(_Run(options, settings, broker, port, lines, began).run())
        finally:
            broker.stop(_BROKER_STOP_SECONDS)
            _forget_embedded_runs(settings)
            lines.say(_GLUCAST, "stopped")


def _forget_embedded_runs(settings: Settings) -> None:
    """Tables of an embedded broker's cluster are of no use after its end."""
    for leftover in settings.state_dir.glob(f"{CLUSTER_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _api_port(options: UpOptions, settings: Settings) -> int | HeldPort:
    """The port asked for must be free; the default one gives way to the next."""
    if options.port is None:
        return HeldPort(settings.port)
    if options.port and not is_free(options.port, settings.host):
        raise ConfigurationError(f"port {options.port} is in use; choose another one with --port, or stop what uses it")
    return options.port or HeldPort()


class _Run:
    """One run, from the start of the broker to the end of the last child."""

    def __init__(
        self,
        options: UpOptions,
        settings: Settings,
        broker: Broker,
        port: int | HeldPort,
        lines: LogLines,
        began: float,
    ) -> None:
        self._options = options
        self._settings = settings.model_copy(update={"broker": broker.address, **broker.settings_overrides})
        overrides = {"topics_wait_seconds": _TOPICS_WAIT_SECONDS, **broker.settings_overrides}
        self._environment = environment(broker.address, settings.state_dir, overrides)
        self._host = settings.host
        self._asked = reached_at(settings.host)
        self._broker = broker
        self._held = port if isinstance(port, HeldPort) else None
        self._port = port.number if isinstance(port, HeldPort) else port
        self._lines = lines
        self._began = began
        self._say: Callable[[str], None] = lambda text: lines.say(_GLUCAST, text)
        self._signals = 0
        self._asked_to_stop = asyncio.Event()
        self._supervisor: Supervisor

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._supervisor = Supervisor(self._lines)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        asked = asyncio.create_task(self._asked_to_stop.wait())
        work = asyncio.create_task(self._work())
        try:
            await asyncio.wait([asked, work], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            self._say("stopping (once more to stop at once)")
            return 0
        finally:
            for task in (asked, work):
                task.cancel()
            await self._supervisor.stop(_STOP_SECONDS)

    def _report_broker(self, text: str) -> None:
        self._lines.say(_BROKER, text)

    def _on_signal(self) -> None:
        self._signals += 1
        self._asked_to_stop.set()
        if self._signals > 1:
            self._supervisor.kill()

    async def _work(self) -> int:
        """Start everything, then watch it. Returns an exit code when going on makes no sense."""
        self._broker.spawn(self._report_broker)
        # The roles load their code while the broker starts, and wait for their topics.
        for child in workers(self._options.counts, self._settings.ordinal, self._environment):
            self._supervisor.add(child)
        if self._settings.trial is not None:
            ordinal = self._settings.ordinal + self._options.counts.inference
            self._supervisor.add(trial(TRIAL, ordinal, self._environment))
        self._supervisor.add(api(self._host, self._port, self._environment, self._held))
        if self._settings.notify.configured:
            self._supervisor.add(notifier(self._settings.ordinal, self._environment))
        self._say(f"starting {', '.join(self._supervisor.restarts)}")
        await self._broker_ready()
        from streams.kafka.provision import provision

        done = await provision(self._settings)
        self._say(f"{done.total} topics at {self._broker.address}, {len(done.created)} of them new")
        ready = asyncio.create_task(self._when_ready())
        backlog = asyncio.create_task(self._report_backlog())
        broker_lost = asyncio.create_task(self._watch_broker())
        try:
            over: list[asyncio.Future[Any]] = [self._supervisor.failed, broker_lost]
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            backlog.cancel()
            broker_lost.cancel()
        if self._supervisor.failed.done():
            self._say(f"{self._supervisor.failed.result().name} cannot work with this configuration: see its lines")
            return ExitCode.CONFIGURATION
        return ExitCode.RESTART

    async def _broker_ready(self) -> None:
        await asyncio.to_thread(self._broker.wait_until_ready, self._report_broker)

    async def _when_ready(self) -> None:
        await self._supervisor.wait_until_ready(self._say)
        url = f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"
        self._say(f"ready in {time.monotonic() - self._began:.1f} s. {NOTICE}")
        self._say(f"  page       {url}/")
        self._say(f"  API        {url}/docs")
        self._say(f"  Kafka      {self._broker.address} ({self._broker.name})")
        self._say(f"  state      {self._settings.state_dir.absolute()}")
        self._say("  stop       Ctrl-C")
        self._supervisor.keep_spare(self._environment)
        if self._options.simulate:
            await self._simulate(url)

    async def _report_backlog(self) -> None:
        """Say where work piles up, and when it is done."""
        told: dict[str, int] = {}
        while True:
            await asyncio.sleep(_BACKLOG_SECONDS)
            status, body = await get(self._port, "/health", self._asked)
            if status != 200:
                continue
            waiting = {topic: count for topic, count in json.loads(body)["waiting"].items() if count >= _BACKLOG}
            if waiting:
                self._say("waiting: " + ", ".join(f"{count:,} in {topic}" for topic, count in waiting.items()))
            elif told:
                self._say("nothing waits any more")
            told = waiting

    async def _simulate(self, url: str) -> None:
        """A person, and the address of their first forecast once there is one."""
        from deploy.simulate import subject_ids, tag_of

        tag = tag_of(datetime.now())  # local time, as people read clocks
        self._supervisor.add(simulator(tag, self._environment))
        subject = subject_ids(1, tag)[0]
        path = f"/subjects/{subject}/forecast"
        while (await get(self._port, path, self._asked))[0] != 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(1.0)
        self._say(f"first live forecast after {time.monotonic() - self._began:.1f} s; a new one every 5 s:")
        self._say(f"  {url}{path}/plot")

    async def _watch_broker(self) -> None:
        """Return when a broker that forgets has ended; start a durable one again."""
        while True:
            await asyncio.sleep(0.25)
            code = self._broker.returncode()
            if code is None:
                continue
            if not self._broker.durable:
                self._lines.say(_BROKER, f"ended with {code}; its data is gone, so everything stops. Start again")
                return
            self._lines.say(_BROKER, f"ended with {code}; restarting it on the same data")
            try:
                self._broker.spawn()
                await self._broker_ready()
                self._lines.say(_BROKER, "answers again")
            except UnavailableError as error:
                self._lines.say(_BROKER, str(error))
            except (OSError, subprocess.SubprocessError) as error:  # no memory, or no process is left for it
                self._lines.say(_BROKER, f"could not be started: {error}")
                await asyncio.sleep(_AGAIN_SECONDS)
