"""A worker that gives way does so with all its threads, and where niceness counts between sessions too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, threading
from pathlib import Path
from streams.niceness import give_way
stop = threading.Event()
threading.Thread(target=stop.wait, daemon=True).start()
before = os.getpriority(os.PRIO_PROCESS, 0)
give_way(3)
threading.Thread(target=stop.wait, daemon=True).start()
print(sorted({os.getpriority(os.PRIO_PROCESS, int(each)) - before for each in os.listdir("/proc/self/task")}))
print(Path("/proc/self/autogroup").read_text() if os.path.exists("/proc/self/autogroup") else "none")
stop.set()
"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads have niceness on Linux only")


def _group_of_session() -> str:
    """The line Linux gives: none without the option, an empty one where the process belongs to no group."""
    autogroup = Path("/proc/self/autogroup")
    return autogroup.read_text().strip() if autogroup.exists() else ""


def _told(leads_session: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, start_new_session=leads_session
    )
    return done.stdout.splitlines()


def test_every_thread_gives_way() -> None:
    assert _told(leads_session=False)[0] == "[3]"


@pytest.mark.skipif(not _group_of_session(), reason="this kernel has no groups of sessions, or not for us")
def test_the_group_of_a_session_gives_way_only_with_its_leader() -> None:
    before = _group_of_session()
    assert _told(leads_session=True)[1].endswith(" nice 3")
    _told(leads_session=False)
    assert _group_of_session() == before


def test_who_gives_no_way_is_left_as_it_is() -> None:
    from streams.niceness import give_way

    before = os.getpriority(os.PRIO_PROCESS, 0)
    give_way(0)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
