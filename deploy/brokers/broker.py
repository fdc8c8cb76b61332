"""What `glucast up` and the tests ask of a broker, whichever it is."""

import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from deploy.orphans import die_with_parent

Report = Callable[[str], None]
"""Takes one line for the person who waits."""


class Broker(Protocol):
    """A Kafka-compatible broker. `address` is what clients take as bootstrap servers, known before the start."""

    name: str
    address: str
    about: str
    durable: bool
    settings_overrides: Mapping[str, object]
    """Settings that every client of this broker needs."""

    def spawn(self, report: Report = ...) -> None:
        """Start the process, without waiting for it. Call it from the main thread: the process dies with the thread."""

    def wait_until_ready(self, report: Report = ..., timeout_seconds: float = ...) -> None:
        """Return when the broker answers. Raises `UnavailableError` if it ends or stays silent."""

    def start(self, report: Report = ...) -> None:
        """`spawn` and `wait_until_ready`."""

    def returncode(self) -> int | None:
        """None while the broker runs, or is not ours to watch."""

    @property
    def pid(self) -> int | None:
        """Of its process; None for a broker that is not ours, or not started."""

    def stop(self, timeout_seconds: float = ...) -> None:
        """Stop it cleanly; kill it after the timeout. Safe to call twice."""


def quiet(line: str) -> None:
    """A `Report` that says nothing."""


def launch(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a server whose output goes to `log`, out of reach of the terminal's Ctrl-C, never outliving its parent."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - see there
        )


def terminate(process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
    """SIGTERM, then SIGKILL if that was not enough."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
