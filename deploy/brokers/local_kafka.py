"""One node of Apache Kafka in KRaft mode from ``KAFKA_HOME``: durable, loopback only, data in the state directory."""

import base64
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from deploy.brokers.broker import Report, launch, quiet, terminate
from deploy.brokers.class_archive import ClassArchive
from deploy.brokers.wire import LOOPBACK, HeldPort, wait_until_answers
from schemas.errors import ConfigurationError

_CONFIG = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners={advertised},CONTROLLER://{host}:{controller_port}
advertised.listeners={advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECOND:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=16777216
broker.session.timeout.ms={session_milliseconds}
broker.heartbeat.interval.ms={heartbeat_milliseconds}
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=3000
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
"""

_OLDEST_JAVA = 17
_JVM_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""The quick compiler alone: half the processor time of a start, and far more throughput than one machine needs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Membership:
    """A node's place in a cluster of several: its number from 1, the controllers' ports of all, whose cluster it is."""

    number: int
    controller_ports: tuple[int, ...]
    cluster_id: str
    second_address: str | None = None
    """host:port of this machine where clients of another network find the node."""

    @property
    def heap_mib(self) -> int:
        """Several have to fit where one has room."""
        return 512 if len(self.controller_ports) == 1 else 256


class LocalKafka:
    """Formats its storage once, and finds it again at the next start. Alone, or with `membership` one of several."""

    name = "local"
    durable = True
    settings_overrides: Mapping[str, object] = {"replication_factor": 1}

    def __init__(
        self, state_dir: Path, kafka_home: Path | None = None, port: int = 0, membership: Membership | None = None
    ) -> None:
        """Raises `ConfigurationError` where `kafka_home` (default: KAFKA_HOME) or Java is missing or unfit."""
        self._home = _checked_home(kafka_home)
        self._java, version = _checked_java()
        self._classes = ClassArchive(self._java, version, _JVM_OPTIONS, self._home / "libs")
        self._held, self._controller = HeldPort(port), HeldPort()
        self.port = self._held.number
        self.address = f"{LOOPBACK}:{self.port}"
        self._root = (state_dir / "kafka").absolute()
        self.log = state_dir.absolute() / "logs" / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._making_classes: subprocess.Popen[bytes] | None = None
        self._membership = membership
        self.about = f"Apache Kafka from {self._home}, durable: data in {self._root}"

    @property
    def _config(self) -> Path:
        return self._root / "server.properties"

    @property
    def data(self) -> Path:
        """All that the node keeps."""
        return self._root / "data"

    @property
    def _class_list(self) -> Path:
        return self._root / "classes.list"

    def _command(self, *arguments: str, class_list: Path | None = None) -> list[str]:
        quiet_logs = Path(__file__).with_name("log4j2.properties")
        heap_mib = 512 if self._membership is None else self._membership.heap_mib
        return [self._java, f"-Xmx{heap_mib}m", *_JVM_OPTIONS, *self._classes.using(class_list),
                f"-Dlog4j2.configurationFile={quiet_logs}",
                "-cp", f"{self._home}/libs/*", *arguments]  # fmt: skip

    def spawn(self, report: Report = quiet) -> None:
        """Write the configuration, format the storage if it is new, start the server."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._config.write_text(self._properties(), encoding="utf-8")
        if not (self.data / "meta.properties").exists():
            report("formatting Kafka's storage (once)")
            self.format_storage()
        self._process = self._launched()

    def _launched(self) -> subprocess.Popen[bytes]:
        return launch(self._command("kafka.Kafka", str(self._config), class_list=self._class_list), self.log)

    def _properties(self) -> str:
        member = self._membership or Membership(1, (self._controller.number,), "")
        voters = [f"{number}@{LOOPBACK}:{port}" for number, port in enumerate(member.controller_ports, 1)]
        copies = min(3, len(voters))
        advertised = f"PLAINTEXT://{LOOPBACK}:{self.port}"
        if member.second_address is not None:
            advertised += f",SECOND://{member.second_address}"
        return _CONFIG.format(
            host=LOOPBACK,
            advertised=advertised,
            node=member.number,
            controller_port=member.controller_ports[member.number - 1],
            voters=",".join(voters),
            copies=copies,
            in_sync=copies // 2 + 1,
            # A broker that was killed comes back when its session has ended. The default is 9 s, and where it is alone
            # nobody else could lead meanwhile.
            session_milliseconds=4000 if len(voters) == 1 else 9000,
            heartbeat_milliseconds=1000 if len(voters) == 1 else 2000,
            data=self.data,
        )

    def format_storage(self) -> None:
        """An empty storage, whatever was there; while the node is down.

        Raises `ConfigurationError` with what Kafka's tool says.
        """
        # A format that was cut off leaves files without meta.properties; nothing of value can be there yet.
        for entry in self.data.glob("*"):  # the directory itself may be a disk
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        cluster_id = new_cluster_id() if self._membership is None else self._membership.cluster_id
        command = self._command("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._config))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            raise ConfigurationError(f"Kafka's storage tool failed: {(done.stderr or done.stdout).strip()[-800:]}")

    def wait_until_ready(self, report: Report = quiet, timeout_seconds: float = 90.0) -> None:
        processes = [self._process] if self._process is not None else []
        wait_until_answers(self.address, processes, "Apache Kafka", self.log, report, timeout_seconds)
        self._make_class_archive(report)

    def _make_class_archive(self, report: Report) -> None:
        """In the background; not again, whatever came of it, before the next start."""
        if self._making_classes is None or self._making_classes.poll() is not None:
            self._making_classes = self._classes.make(self._class_list, self.log.with_name("kafka-classes.log"))
            if self._making_classes is not None:
                report("keeping Kafka's classes, so that it starts in half the time from now on (once)")

    def start(self, report: Report = quiet) -> None:
        self.spawn(report)
        self.wait_until_ready(report)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def returncode(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def stop(self, timeout_seconds: float = 8.0) -> None:
        self._give_up_classes()
        if self._process is not None:
            terminate(self._process, timeout_seconds)

    def kill(self) -> None:
        """SIGKILL, as a crash would: for tests of what survives it."""
        self._give_up_classes()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _give_up_classes(self) -> None:
        if self._making_classes is not None:
            terminate(self._making_classes, timeout_seconds=1.0)

    def signal(self, number: signal.Signals) -> None:
        """To the process, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def restart(self, timeout_seconds: float = 90.0) -> None:
        """Start again with the same ports and data, after `stop` or `kill`."""
        self._process = self._launched()
        self.wait_until_ready(timeout_seconds=timeout_seconds)


def new_cluster_id() -> str:
    """As Kafka's tools make one."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass  # the tool would take it for an option
    return text


def _checked_home(kafka_home: Path | None) -> Path:
    home = kafka_home or (Path(text) if (text := os.environ.get("KAFKA_HOME")) else None)
    if home is None:
        raise ConfigurationError(
            "KAFKA_HOME is not set: unpack Apache Kafka 4 from kafka.apache.org and set KAFKA_HOME to its directory, "
            "or use --broker embedded"
        )
    if not any((home / "libs").glob("*.jar")):
        raise ConfigurationError(f"KAFKA_HOME={home} holds no libs/*.jar; it has to be Apache Kafka's directory")
    return home.absolute()


def _checked_java() -> tuple[str, str]:
    """The program, and what it says of itself."""
    java_home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{java_home}/bin") if java_home else shutil.which("java")
    if java is None:
        raise ConfigurationError("Apache Kafka needs Java 17 or newer: apt-get install openjdk-17-jre-headless")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30).stderr
    found = re.search(r'version "(\d+)', told)
    if found and int(found[1]) < _OLDEST_JAVA:
        raise ConfigurationError(f"Apache Kafka needs Java 17 or newer; {java} is version {found[1]}")
    return java, told
