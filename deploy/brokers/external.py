"""A Kafka that somebody else runs: only its address is known, and it is left alone."""

import time
from collections.abc import Mapping

from deploy.brokers.broker import Report, quiet
from deploy.brokers.wire import wait_until_answers
from schemas.errors import ConfigurationError, UnavailableError


class ExternalBroker:
    """`address` is host:port, or several with commas. `tls` leaves the first contact to the clients proper."""

    name = "external"
    durable = True
    settings_overrides: Mapping[str, object] = {}

    def __init__(self, address: str, tls: bool = False) -> None:
        for part in address.split(","):
            host, _, port = part.strip().rpartition(":")
            if not host or not port.isdecimal():
                raise ConfigurationError(f"--broker takes embedded, local or host:port[,host:port…], not {address!r}")
        self.address = address
        self.about = f"Kafka at {address}, not managed by glucast"
        self._tls = tls

    def spawn(self, report: Report = quiet) -> None:
        """Nothing to start."""

    def wait_until_ready(self, report: Report = quiet, timeout_seconds: float = 30.0) -> None:
        """One of the addresses has to answer. Raises `UnavailableError`."""
        if self._tls:
            return
        addresses = [part.strip() for part in self.address.split(",")]
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            for address in addresses:
                try:
                    wait_until_answers(address, (), "Kafka", None, quiet, 1.0)
                    return
                except UnavailableError:
                    report(f"waiting for Kafka at {address}")
        raise UnavailableError(f"no Kafka answers at {self.address}; is it running, and is the address right?")

    def start(self, report: Report = quiet) -> None:
        self.wait_until_ready(report)

    @property
    def pid(self) -> int | None:
        return None

    def returncode(self) -> int | None:
        return None

    def stop(self, timeout_seconds: float = 0.0) -> None:
        """Nothing to stop."""
