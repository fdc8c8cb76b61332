"""One node of Apache Kafka in KRaft mode from ``KAFKA_HOME``: durable, loopback only, data in the state directory."""

import base64
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from deploy.brokers.broker import Report, launch, quiet, terminate
from deploy.brokers.wire import LOOPBACK, free_port, wait_until_answers
from schemas.errors import ConfigurationError

_CONFIG = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=16777216
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
# a broker that was killed comes back when its session has ended: 9 s by default, and nobody else could lead meanwhile
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=3000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""

_OLDEST_JAVA = 17


class LocalKafka:
    """Formats its storage once, and finds it again at the next start."""

    name = "local"
    durable = True
    settings_overrides: Mapping[str, object] = {"replication_factor": 1}

    def __init__(self, state_dir: Path, kafka_home: Path | None = None, port: int = 0) -> None:
        """Raises `ConfigurationError` where `kafka_home` (default: KAFKA_HOME) or Java is missing or unfit."""
        self._home = _checked_home(kafka_home)
        self._java = _checked_java()
        self.port = free_port(port)
        self.address = f"{LOOPBACK}:{self.port}"
        self._root = (state_dir / "kafka").absolute()
        self._log = state_dir.absolute() / "logs" / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.about = f"Apache Kafka from {self._home}, durable: data in {self._root}"

    @property
    def _config(self) -> Path:
        return self._root / "server.properties"

    def _command(self, *arguments: str) -> list[str]:
        quiet_logs = Path(__file__).with_name("log4j2.properties")
        # The quick compiler alone: half the processor time of a start, and far more throughput than one machine needs.
        return [self._java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                f"-Dlog4j2.configurationFile={quiet_logs}",
                "-cp", f"{self._home}/libs/*", *arguments]  # fmt: skip

    def spawn(self, report: Report = quiet) -> None:
        """Write the configuration, format the storage if it is new, start the server."""
        data = self._root / "data"
        self._root.mkdir(parents=True, exist_ok=True)
        self._config.write_text(
            _CONFIG.format(host=LOOPBACK, port=self.port, controller_port=free_port(), data=data), encoding="utf-8"
        )
        if not (data / "meta.properties").exists():
            report("formatting Kafka's storage (once)")
            self._format(data)
        self._process = launch(self._command("kafka.Kafka", str(self._config)), self._log)

    def _format(self, data: Path) -> None:
        # A format that was cut off leaves files without meta.properties; nothing of value can be there yet.
        shutil.rmtree(data, ignore_errors=True)
        command = self._command("kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", str(self._config))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            raise ConfigurationError(f"Kafka's storage tool failed: {(done.stderr or done.stdout).strip()[-800:]}")

    def wait_until_ready(self, report: Report = quiet, timeout_seconds: float = 90.0) -> None:
        wait_until_answers(self.address, self._process, "Apache Kafka", self._log, report, timeout_seconds)

    def start(self, report: Report = quiet) -> None:
        self.spawn(report)
        self.wait_until_ready(report)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def returncode(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def stop(self, timeout_seconds: float = 8.0) -> None:
        if self._process is not None:
            terminate(self._process, timeout_seconds)

    def kill(self) -> None:
        """SIGKILL, as a crash would: for tests of what survives it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self, timeout_seconds: float = 90.0) -> None:
        """Start again with the same ports and data, after `stop` or `kill`."""
        self._process = launch(self._command("kafka.Kafka", str(self._config)), self._log)
        self.wait_until_ready(timeout_seconds=timeout_seconds)


def _new_cluster_id() -> str:
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


def _checked_java() -> str:
    java_home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{java_home}/bin") if java_home else shutil.which("java")
    if java is None:
        raise ConfigurationError("Apache Kafka needs Java 17 or newer: apt-get install openjdk-17-jre-headless")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30).stderr
    found = re.search(r'version "(\d+)', told)
    if found and int(found[1]) < _OLDEST_JAVA:
        raise ConfigurationError(f"Apache Kafka needs Java 17 or newer; {java} is version {found[1]}")
    return java
