"""Roles as real processes for benchmarks and tests: each alone, started, paused, killed and stopped by pid."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from deploy import spare_order
from deploy.brokers.broker import Broker
from deploy.brokers.wire import LOOPBACK, HeldPort
from deploy.orphans import die_with_parent
from deploy.readiness import NO_CERTIFICATES
from deploy.roles import variables
from schemas.errors import UnavailableError

if TYPE_CHECKING:
    from streams.settings import Settings


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first truthy value of `condition`, polled; `UnavailableError` naming `what` when the deadline passes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise UnavailableError(f"not within {seconds:.0f} s: {what}")


class Spares:
    """At most one process that has its code loaded and takes the next dead worker's place, as under `glucast up`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._waiting: tuple[subprocess.Popen[bytes], Path] | None = None
        self._made = 0

    def prepare(self) -> None:
        """Start one unless one is waiting."""
        if self._waiting is None:
            self._made += 1
            log = self._home / f"spare-{self._made}.log"
            self._home.mkdir(parents=True, exist_ok=True)
            with log.open("w") as out:
                process = subprocess.Popen(
                    spare_order.COMMAND,
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=out,
                    preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - see there
                )
            self._waiting = process, log

    def take(self, arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], Path] | None:
        """The waiting process, told what to be, and its log; None where there is none."""
        taken, self._waiting = self._waiting, None
        if taken is not None:
            _tell(taken[0], spare_order.order(arguments, environment))
        return taken

    def close(self) -> None:
        taken, self._waiting = self._waiting, None
        if taken is not None:
            taken[0].kill()
            _tell(taken[0], b"")
            taken[0].wait()


def _tell(process: subprocess.Popen[bytes], text: bytes) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(text)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where one process runs, if not like the others: with more in its environment, behind a command, elsewhere."""

    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    host: str = LOOPBACK


class RoleProcess:
    """One role; its output goes to a file that a failing run can show."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        home: Path,
        environment: dict[str, str],
        port: HeldPort,
        spares: Spares,
        place: Place | None = None,
    ) -> None:
        self.name = name
        self._place = place
        self._port = port
        self.url = f"http://{place.host if place else LOOPBACK}:{port.number}"
        self.log = home / f"{name}.log"
        home.mkdir(parents=True, exist_ok=True)
        self._arguments = arguments
        more = dict(place.environment) if place else {}
        self._environment = os.environ | {"GLUCAST_STATE_DIR": str(home)} | environment | more
        self._spares = spares
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        prefix = self._place.prefix if self._place else ()
        command = [*prefix, sys.executable, "-m", "deploy.cli.main", *self._arguments]
        with self.log.open("a") as out:
            return subprocess.Popen(
                command,
                env=self._environment,
                stdout=out,
                stderr=out,
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - see there
            )

    def start_again(self) -> None:
        """Under the same identity, as what it was; a spare process if one is waiting."""
        # A spare process has begun elsewhere already.
        if self._place is None and (taken := self._spares.take(self._arguments, self._environment)) is not None:
            self._process, self.log = taken
        else:
            self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def is_ready(self) -> bool:
        if self.returncode is not None:
            raise UnavailableError(f"{self.name} ended with {self.returncode}:\n{self.log.read_text()[-3000:]}")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, verify=NO_CERTIFICATES).status_code == 200
        except httpx.HTTPError:
            return False

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM and the exit code; SIGKILL and `UnavailableError` where it does not end in time."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise UnavailableError(f"{self.name} did not stop:\n{self.log.read_text()[-3000:]}") from None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.asynccontextmanager
async def provisioned(
    broker: Broker, home: Path, environment: Mapping[str, str]
) -> "AsyncIterator[tuple[Settings, Roles]]":
    """The broker with all topics and no role yet; everything is stopped on leaving the block."""
    from streams.kafka.provision import provision
    from streams.settings import Settings

    broker.start()
    try:
        settings = Settings(broker=broker.address, state_dir=home, **broker.settings_overrides)  # type: ignore[arg-type]
        await provision(settings)
        with Roles(broker.address, home / "roles", variables(broker.settings_overrides) | dict(environment)) as roles:
            yield settings, roles
    finally:
        broker.stop()


class Roles:
    """The roles of one run against one broker; everything is stopped on leaving the `with` block."""

    def __init__(self, broker: str, home: Path, environment: dict[str, str] | None = None) -> None:
        self._home = home
        self._environment = {"GLUCAST_BROKER": broker} | (environment or {})
        self.all: list[RoleProcess] = []
        self.spares = Spares(home)

    def worker(self, role: str, ordinal: int = 0, *options: str, place: Place | None = None) -> RoleProcess:
        port = HeldPort()
        extra = {"GLUCAST_ORDINAL": str(ordinal), "GLUCAST_HEALTH_PORT": str(port.number)}
        return self._add(f"{role}-{ordinal}", ["worker", role, *options], extra, port, place)

    def api(self, replica: int = 0, place: Place | None = None) -> RoleProcess:
        port = HeldPort()
        return self._add(f"api-{replica}", ["api"], {"GLUCAST_PORT": str(port.number)}, port, place)

    def notify(self, ordinal: int = 0, place: Place | None = None) -> RoleProcess:
        port = HeldPort()
        extra = {"GLUCAST_ORDINAL": str(ordinal), "GLUCAST_HEALTH_PORT": str(port.number)}
        return self._add(f"notify-{ordinal}", ["notify"], extra, port, place)

    def _add(
        self, name: str, arguments: list[str], extra: dict[str, str], port: HeldPort, place: Place | None
    ) -> RoleProcess:
        process = RoleProcess(name, arguments, self._home, self._environment | extra, port, self.spares, place)
        self.all.append(process)
        return process

    def wait_until_ready(self, seconds: float = 60) -> None:
        for process in self.all:
            until(process.is_ready, seconds, f"{process.name} ready")

    def __enter__(self) -> "Roles":
        return self

    def __exit__(self, *_: object) -> None:
        self.spares.close()
        for process in self.all:
            if process.returncode is None:
                process.signal(signal.SIGTERM)
        for process in self.all:
            if process.returncode is None:
                process.stop()
