"""`glucast up` as a newcomer runs it: the embedded broker, every role, a simulated person, one signal to end it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.kit.waiting import until

UP = (sys.executable, "-m", "deploy.cli.main", "up")


class Up:
    """A running `glucast up`; `said` is everything that it has printed."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.log = home / "up.log"
        environment = {name: text for name, text in os.environ.items() if not name.startswith("GLUCAST_")}
        with self.log.open("w") as out:
            command = (*UP, "--port", "0", "--state-dir", str(home / "state"), *arguments)
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Wait, as long as it lives; where that is in vain, what it has printed belongs to the error."""

        def holds() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}"
            return condition()

        try:
            until(holds, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said}") from None

    def titles(self) -> list[str]:
        """What a list of processes shows of the children."""
        return [title.strip() for title, _ in self._titled()]

    def children(self) -> dict[str, psutil.Process]:
        """By role, as far as it is a worker or the API."""
        return {title.split()[-1]: child for title, child in self._titled() if title.split()}

    def _titled(self) -> Iterator[tuple[str, psutil.Process]]:
        """Of those that live: one may end while it is asked."""
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    yield " ".join(child.cmdline()), child


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def test_a_newcomer_sees_a_forecast_a_dead_role_comes_back_and_one_signal_ends_all(up: Up, tmp_path: Path) -> None:
    up.until(lambda: "ready in" in up.said, "ready", 90)
    own = psutil.Process().nice()
    nice = {
        role: child.nice() for role, child in up.children().items() if role in ("api", "ingest", "inference", "calc")
    }
    assert nice == {"api": own, "ingest": own, "inference": own + 5, "calc": own + 5}
    assert "in memory only" in up.said
    assert "Not a medical device" in up.said
    up.until(lambda: "first live forecast" in up.said, "a live forecast")
    found = re.search(r"(http://127\.0\.0\.1:\d+)(/subjects/[\w-]+/forecast)/plot", up.said)
    assert found is not None
    chart = httpx.get(found[1] + found[2], timeout=30).json()
    assert len(chart["median_mgdl"]) == 12

    second = subprocess.run(
        [*UP, "--state-dir", tmp_path / "state"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (second.returncode, "already up on" in second.stderr) == (2, True), second.stderr

    up.until(lambda: "glucast spare" in up.titles(), "a spare process")
    victim = up.children()["calc"]
    victim.send_signal(signal.SIGKILL)
    up.until(lambda: "ended with signal SIGKILL; restarting it now" in up.said, "the restart")
    up.until(lambda: "which has its code loaded, takes over" in up.said, "the spare process in its place")
    up.until(lambda: up.said.count("role=calc") == 2, "calc is ready again")
    assert up.children()["calc"].pid != victim.pid

    family = psutil.Process(up.process.pid).children(recursive=True)
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0
    assert up.said.rstrip().endswith("stopped")
    assert "did not stop in time" not in up.said
    until(lambda: not any(map(_runs, family)), "all of its processes have ended")


def _runs(process: psutil.Process) -> bool:
    """Whether it lives; a browser's helpers may wait for init to collect them."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
