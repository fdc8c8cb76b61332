import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import deploy.supervisor
from deploy.brokers.wire import HeldPort
from deploy.log_lines import LogLines
from deploy.supervisor import Backoff, Child, Supervisor
from tests.kit.waiting import until, until_async

ANSWERS_READYZ = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2])); self.end_headers()
        self.wfile.write(b'{"ready": false, "reasons": [{"code": "model", "text": "loading the model"}]}')
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SAYS_WHEN = """
import signal, sys, time
def told(*_):
    print(f"{sys.argv[1]} told at {time.monotonic()}", flush=True)
    if sys.argv[1] != "deaf":
        sys.exit()
signal.signal(signal.SIGTERM, told)
print(sys.argv[1], "up", flush=True)
while True:
    time.sleep(60)
"""
SLEEPS = "import time; print('up', flush=True); time.sleep(60)"


def child(name: str, script: str, *arguments: str, port: int | None = None, stop_rank: int = 0) -> Child:
    return Child(name, (sys.executable, "-c", script, *arguments), os.environ, port, stop_rank)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def supervisor(out: io.StringIO) -> Supervisor:
    return Supervisor(LogLines(["a", "b", "longer"], out), Backoff(first_seconds=0.01, most_seconds=0.02))


async def test_a_child_that_dies_is_started_again_and_its_lines_carry_its_name(out: io.StringIO) -> None:
    kept = supervisor(out)
    kept.add(child("a", SLEEPS))
    await until_async(lambda: out.getvalue().count("a      | up") == 1, "a is up")
    first = kept.pid("a")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until_async(lambda: out.getvalue().count("a      | up") == 2, "a is up again")
    assert kept.pid("a") not in (None, first)
    assert "ended with signal SIGKILL; restarting it now" in out.getvalue()
    await kept.stop()


async def test_a_child_that_cannot_be_started_is_tried_again(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory or process is left for it: it was missing from then on, and `up` went on without it."""
    spawn, refused = deploy.supervisor._spawn, [OSError(12, "Cannot allocate memory"), subprocess.SubprocessError()]

    async def spawned(*arguments: Any) -> asyncio.subprocess.Process:
        if refused:
            raise refused.pop(0)
        return await spawn(*arguments)

    monkeypatch.setattr(deploy.supervisor, "_spawn", spawned)
    kept = supervisor(out)
    kept.add(child("a", SLEEPS))
    await until_async(lambda: "a      | up" in out.getvalue(), "a is up")
    assert "could not be started ([Errno 12] Cannot allocate memory); trying again now" in out.getvalue()
    assert (kept.restarts["a"], kept.failed.done()) == (2, False)
    await kept.stop()


async def test_a_spare_process_takes_the_place_of_a_child_that_dies_and_another_one_is_prepared(
    out: io.StringIO,
) -> None:
    kept = supervisor(out)
    kept.add(child("b", SLEEPS))
    settings = os.environ | {"GLUCAST_PARTITIONS": "many"}  # what the spare process obeys must come from the child
    first = Child("a", (sys.executable, "-c", SLEEPS), settings, spare_arguments=("worker", "calc"))
    kept.add(first)
    await until_async(lambda: "a      | up" in out.getvalue() and "b      | up" in out.getvalue(), "a and b are up")
    kept.keep_spare(os.environ, delay_seconds=0)
    await until_async(lambda: kept.spare_pid, "a spare process")
    waiting, victim, without = kept.spare_pid, kept.pid("a"), kept.pid("b")
    assert waiting is not None
    assert victim is not None
    assert without is not None

    os.kill(without, signal.SIGKILL)  # nothing says how a spare process would become this one
    await until_async(lambda: out.getvalue().count("b      | up") == 2, "b is up again")
    assert kept.spare_pid == waiting

    os.kill(victim, signal.SIGKILL)
    failed = await asyncio.wait_for(asyncio.shield(kept.failed), 60)
    assert failed.name == "a"
    said = out.getvalue()
    assert f"a      | process {waiting}, which has its code loaded, takes over" in said
    assert "a      | glucast: these settings do not work:" in said
    assert "GLUCAST_PARTITIONS" in said
    await until_async(lambda: kept.spare_pid not in (None, waiting), "another spare process")
    last = kept.spare_pid
    await kept.stop()
    assert last is not None
    assert not is_alive(last)


async def test_a_spare_process_that_dies_is_not_missed(out: io.StringIO) -> None:
    kept = supervisor(out)
    kept.add(Child("a", (sys.executable, "-c", SLEEPS), os.environ, spare_arguments=("worker", "calc")))
    await until_async(lambda: "a      | up" in out.getvalue(), "a is up")
    kept.keep_spare(os.environ, delay_seconds=0)
    await until_async(lambda: kept.spare_pid, "a spare process")
    waiting, victim = kept.spare_pid, kept.pid("a")
    assert waiting is not None
    assert victim is not None
    os.kill(waiting, signal.SIGKILL)
    await until_async(lambda: kept.spare_pid is None, "the dead spare process is noticed")
    os.kill(victim, signal.SIGKILL)
    await until_async(lambda: out.getvalue().count("a      | up") == 2, "a is up again")
    await kept.stop()


async def test_a_child_with_a_wrong_configuration_is_not_started_again(out: io.StringIO) -> None:
    kept = supervisor(out)
    kept.add(child("a", "import sys; print('set this'); sys.exit(2)"))
    assert (await asyncio.wait_for(asyncio.shield(kept.failed), 60)).name == "a"
    assert "set this" in out.getvalue()
    assert kept.restarts["a"] == 0
    await kept.stop()


async def test_stop_goes_rank_by_rank_and_kills_what_does_not_listen(out: io.StringIO) -> None:
    kept = supervisor(out)
    kept.add(child("b", SAYS_WHEN, "heeds", stop_rank=1))
    kept.add(child("a", SAYS_WHEN, "deaf", stop_rank=0))
    await until_async(lambda: "deaf up" in out.getvalue() and "heeds up" in out.getvalue(), "a and b are up")
    pids = [kept.pid("a"), kept.pid("b")]
    assert None not in pids
    begin = time.monotonic()
    await kept.stop(within_seconds=3.0, patience_seconds=0.3)  # who listens has the rest of it on a busy machine
    assert time.monotonic() - begin < 30
    assert not any(is_alive(pid) for pid in pids if pid)
    first, second = (float(re.search(rf"{name} told at (.+)", out.getvalue())[1]) for name in ("deaf", "heeds"))
    assert first < second
    assert second - begin > 0.3, "the next rank is told when the one before it has had its time"
    assert "a      | did not stop in time; killing it" in out.getvalue()
    assert "b      | did not stop" not in out.getvalue()
    assert sum(kept.restarts.values()) == 0


async def test_readiness_names_what_is_missing_until_all_are_ready(out: io.StringIO) -> None:
    kept = supervisor(out)
    held = HeldPort(), HeldPort()
    ready, unready = (port.number for port in held)
    kept.add(child("a", ANSWERS_READYZ, str(ready), "200", port=ready))
    await asyncio.wait_for(kept.wait_until_ready(lambda _: None), 60)
    kept.add(child("b", ANSWERS_READYZ, str(unready), "503", port=unready))
    said: list[str] = []
    waiting = asyncio.create_task(kept.wait_until_ready(said.append, every_seconds=0.1))
    await until_async(lambda: any("b: loading the model" in line for line in said), "b's reason")
    assert not waiting.done()
    waiting.cancel()
    await kept.stop()


def test_backoff_is_immediate_once_and_bounded() -> None:
    backoff = Backoff(1.0, 30.0)
    assert [backoff.delay(n) for n in (1, 2, 3, 4, 8, 5000)] == [0, 1, 2, 4, 30, 30]


def test_children_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, sys
from deploy.log_lines import LogLines
from deploy.supervisor import Child, Supervisor
async def main():
    kept = Supervisor(LogLines(["a"]))
    kept.add(Child("a", (sys.executable, "-c", {SLEEPS!r}), os.environ))
    while kept.pid("a") is None:
        await asyncio.sleep(0.01)
    print(kept.pid("a"), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        pid = int(next(line for line in outer.stdout if line.strip().isdecimal()))
        assert is_alive(pid)
        outer.kill()
        until(lambda: not is_alive(pid), "the child dies too")
