"""Debian's mosquitto with TLS, a user and a password; skips, with a reason, where there is none."""

import contextlib
import dataclasses
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiomqtt import Client

from deploy.brokers.wire import LOOPBACK, HeldPort, is_free
from tests.kit.certificates import SELF_SIGNED
from tests.kit.waiting import until

USER, PASSWORD = "glucast", "correct-horse-battery"
_SBIN = "/usr/sbin"
_CONFIG = """\
listener {port} {host}
allow_anonymous false
password_file {passwords}
certfile {certificate}
keyfile {key}
persistence true
persistence_location {home}/
log_dest none
"""


@dataclasses.dataclass(slots=True)
class Mosquitto:
    """A broker that can be stopped and started again; what it retains stays."""

    command: str
    home: Path
    held: HeldPort
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.held.number

    @property
    def certificate(self) -> Path:
        return self.home / "certificate.pem"

    def start(self) -> None:
        self.process = subprocess.Popen([self.command, "-c", self.home / "mosquitto.conf"])
        until(lambda: not is_free(self.port, LOOPBACK), "mosquitto listens")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    @contextlib.asynccontextmanager
    async def listening(self, *topics: str) -> AsyncIterator[Client]:
        """A client that gets what is published there, and what is retained."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        async with Client(LOOPBACK, self.port, username=USER, password=PASSWORD, tls_context=context) as client:
            for topic in topics:
                await client.subscribe(topic, 1)
            yield client


@contextlib.contextmanager
def mosquitto(home: Path) -> Iterator[Mosquitto]:
    """A fresh broker."""
    command, passwd = (shutil.which(name, path=f"{_SBIN}:/usr/bin") for name in ("mosquitto", "mosquitto_passwd"))
    if command is None or passwd is None:
        pytest.skip("no mosquitto: apt-get install mosquitto")
    home.mkdir(parents=True, exist_ok=True)
    broker = Mosquitto(command, home, HeldPort())
    key, passwords = home / "key.pem", home / "passwords"
    subprocess.run(
        [*SELF_SIGNED, "-nodes", "-subj", "/CN=localhost",
         "-addext", f"subjectAltName=IP:{LOOPBACK}", "-keyout", key, "-out", broker.certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run([passwd, "-b", "-c", passwords, USER, PASSWORD], check=True, capture_output=True)
    for path in (home, key, passwords, broker.certificate):
        path.chmod(0o755 if path == home else 0o644)  # it becomes another user where root starts it
    (home / "mosquitto.conf").write_text(
        _CONFIG.format(
            port=broker.port, host=LOOPBACK, passwords=passwords, certificate=broker.certificate, key=key, home=home
        )
        + "user root\n"
    )
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
