"""Roles as real processes for benchmarks and tests: each alone, started, paused, killed and stopped by pid."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from schemas.errors import UnavailableError


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first truthy value of `condition`, polled; `UnavailableError` naming `what` when the deadline passes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise UnavailableError(f"not within {seconds:.0f} s: {what}")


class RoleProcess:
    """One role; its output goes to a file that a failing run can show."""

    def __init__(self, name: str, arguments: list[str], home: Path, environment: dict[str, str], port: int) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self.log = home / f"{name}.log"
        home.mkdir(parents=True, exist_ok=True)
        self._command = [sys.executable, "-m", "streams.cli.main", *arguments]
        self._environment = os.environ | {"GLUCAST_STATE_DIR": str(home)} | environment
        self.start()

    def start(self) -> None:
        """Start, or start again under the same identity."""
        with self.log.open("a") as out:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=out, stderr=out)

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def is_ready(self) -> bool:
        if self.returncode is not None:
            raise UnavailableError(f"{self.name} ended with {self.returncode}:\n{self.log.read_text()[-3000:]}")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self, seconds: float = 15) -> int:
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


class Roles:
    """The roles of one run against one broker; everything is stopped on leaving the `with` block."""

    def __init__(self, broker: str, home: Path, environment: dict[str, str] | None = None) -> None:
        self._home = home
        self._environment = {"GLUCAST_BROKER": broker} | (environment or {})
        self.all: list[RoleProcess] = []

    def worker(self, role: str, ordinal: int = 0) -> RoleProcess:
        port = free_port()
        extra = {"GLUCAST_ORDINAL": str(ordinal), "GLUCAST_HEALTH_PORT": str(port)}
        return self._add(f"{role}-{ordinal}", ["worker", role], extra, port)

    def api(self, replica: int = 0) -> RoleProcess:
        port = free_port()
        return self._add(f"api-{replica}", ["api"], {"GLUCAST_PORT": str(port)}, port)

    def _add(self, name: str, arguments: list[str], extra: dict[str, str], port: int) -> RoleProcess:
        process = RoleProcess(name, arguments, self._home, self._environment | extra, port)
        self.all.append(process)
        return process

    def wait_until_ready(self, seconds: float = 60) -> None:
        for process in self.all:
            until(process.is_ready, seconds, f"{process.name} ready")

    def __enter__(self) -> "Roles":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.all:
            if process.returncode is None:
                process.signal(signal.SIGTERM)
        for process in self.all:
            if process.returncode is None:
                process.stop()
