import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.state_lock import state_lock
from schemas.errors import ConfigurationError

HOLDS = """
import pathlib, subprocess, sys, time
from deploy.state_lock import state_lock
with state_lock(pathlib.Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: None)  # forked as the supervisor forks
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_second_up_on_the_same_state_directory_is_refused(tmp_path: Path) -> None:
    own = rf"already up on {tmp_path} \(process {os.getpid()}\)"
    with state_lock(tmp_path), pytest.raises(ConfigurationError, match=own), state_lock(tmp_path):
        pass
    with state_lock(tmp_path):
        pass


def test_the_holder_is_named_and_the_lock_goes_with_it_even_when_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(ConfigurationError, match=f"process {holder.pid}"), state_lock(tmp_path):
                pass
            holder.kill()
            holder.wait()
            os.kill(child, 0)  # what it started lives on, and does not keep the directory
            with state_lock(tmp_path):
                pass
        finally:
            holder.kill()
            os.kill(child, signal.SIGKILL)


def test_only_its_owner_can_read_the_lock(tmp_path: Path) -> None:
    with state_lock(tmp_path / "new" / "state"):
        assert (tmp_path / "new" / "state" / "up.lock").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match=r"cannot use the state directory .*file"),
        state_lock(tmp_path / "file"),
    ):
        pass
