"""Loopback ports, and the one Kafka request that tells whether a broker answers: no client library needed."""

import socket
import struct
import subprocess
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import psutil

from deploy.brokers.broker import Report
from schemas.errors import ConfigurationError, UnavailableError

LOOPBACK = "127.0.0.1"
_METADATA, _VERSION = 3, 1


class HeldPort:
    """A free loopback port that stays free as long as this lives: the kernel gives it to nobody else meanwhile.

    It is bound and does not listen. So a server that was told the number can listen there, with SO_REUSEADDR as
    servers do; and neither another server that asks for any port nor a client's connection takes it before, or while
    the server is away.
    """

    def __init__(self, preferred: int = 0, tries: int = 20) -> None:
        """`preferred` or the next free one above it; any for 0. Raises `ConfigurationError` where all are taken."""
        probe = socket.socket()
        weakref.finalize(self, probe.close)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, _free_from(preferred, tries) if preferred else 0))
        self.number = int(probe.getsockname()[1])


def _free_from(preferred: int, tries: int) -> int:
    for port in range(preferred, preferred + tries):
        if is_free(port):
            return port
    raise ConfigurationError(f"ports {preferred} to {preferred + tries - 1} are all in use; choose another one")


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def answers(address: str, timeout_seconds: float = 1.0) -> bool:
    """Whether the broker at host:port names at least one live broker in its metadata."""
    host, _, port = address.rpartition(":")
    client = b"glucast"
    body = struct.pack(f">hhih{len(client)}si", _METADATA, _VERSION, 1, len(client), client, 0)
    try:
        with socket.create_connection((host, int(port)), timeout_seconds) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = connection.recv(12, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0


def wait_until_answers(
    address: str,
    processes: Sequence[subprocess.Popen[bytes]],
    what: str,
    log: Path | None,
    report: Report,
    timeout_seconds: float,
) -> None:
    """Poll until the broker answers. Raises `UnavailableError` when one of its processes ends, or after the timeout.

    Of a broker of ours the first process has to be who listens: another one that took the port has other people's data.
    """
    begin, said = time.monotonic(), 0
    while not answers(address) or (processes and not listens(processes[0].pid, address)):
        waited = time.monotonic() - begin
        if (code := next((code for each in processes if (code := each.poll()) is not None), None)) is not None:
            raise UnavailableError(f"{what} ended with exit code {code}{_last_words(log)}")
        if waited > timeout_seconds:
            raise UnavailableError(f"{what} does not answer at {address} after {waited:.0f} s{_last_words(log)}")
        if waited > 3 * (said + 1):
            said += 1
            report(f"waiting for {what} at {address} ({waited:.0f} s)")
        time.sleep(0.02)


def listens(pid: int, address: str) -> bool:
    """Whether this process takes connections at the port of host:port."""
    port = int(address.rpartition(":")[2])
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


def _last_words(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    tail = "\n  ".join(lines[-5:])
    return f"; see {log}" + (f", which ends with\n  {tail}" if tail else "")
