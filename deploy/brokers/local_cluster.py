"""Several nodes of Apache Kafka on this machine: what is kept three times, and served while one of them is away."""

import signal
from collections.abc import Mapping
from pathlib import Path

from deploy.brokers.broker import Report, quiet
from deploy.brokers.local_kafka import LocalKafka, Membership, new_cluster_id
from deploy.brokers.wire import HeldPort


class LocalCluster:
    """Brokers that are controllers too, each a process with a small heap, loopback only. For tests and benchmarks.

    Every topic has a copy on each of three; two of them have to confirm what is written.
    """

    name = "local cluster"
    durable = True

    def __init__(
        self, state_dir: Path, brokers: int = 3, kafka_home: Path | None = None, second_host: str | None = None
    ) -> None:
        """`second_host`: an address of this machine where clients of another network find the nodes.

        Raises `ConfigurationError` where `kafka_home` (default: KAFKA_HOME) or Java is missing or unfit.
        """
        cluster_id = new_cluster_id()
        self._held = [HeldPort() for _ in range(2 * brokers)]
        ports = [held.number for held in self._held]
        controllers, others = tuple(ports[:brokers]), ports[brokers:]
        second = [f"{second_host}:{port}" if second_host else None for port in others]
        self.nodes = tuple(
            LocalKafka(
                state_dir / f"broker-{number}",
                kafka_home,
                membership=Membership(number, controllers, cluster_id, second[number - 1]),
            )
            for number in range(1, brokers + 1)
        )
        self.second_address = ",".join(address for address in second if address)
        """What clients of the other network take as bootstrap servers."""
        self.address = ",".join(node.address for node in self.nodes)
        self.about = f"{brokers} brokers of Apache Kafka, data in {state_dir}"
        self.settings_overrides: Mapping[str, object] = {"replication_factor": min(3, brokers)}

    def spawn(self, report: Report = quiet) -> None:
        for node in self.nodes:
            node.spawn(report)

    def wait_until_ready(self, report: Report = quiet, timeout_seconds: float = 120.0) -> None:
        for node in self.nodes:
            node.wait_until_ready(report, timeout_seconds)

    def start(self, report: Report = quiet) -> None:
        self.spawn(report)
        self.wait_until_ready(report)

    def returncode(self) -> int | None:
        """Of the first that has ended; None while all run."""
        return next((code for node in self.nodes if (code := node.returncode()) is not None), None)

    def stop(self, timeout_seconds: float = 8.0) -> None:
        """All at the same time: the last ones would wait for a majority that there is no more."""
        for node in self.nodes:
            node.signal(signal.SIGTERM)
        for node in self.nodes:
            node.stop(timeout_seconds)
