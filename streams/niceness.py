"""How far this process gives way to others when the processor is short."""

import contextlib
import os
from pathlib import Path

_THREADS, _AUTOGROUP = Path("/proc/self/task"), Path("/proc/self/autogroup")


def give_way(niceness: int) -> None:
    """Raise the niceness of every thread, and of those that they begin.

    Where Linux groups processes by session (``kernel.sched_autogroup_enabled``), niceness counts only inside a session,
    and between sessions that of the group does (sched(7)): whoever leads a session has it to itself and sets both.
    """
    if not niceness:
        return
    threads = [int(each.name) for each in _THREADS.iterdir()] if _THREADS.exists() else [os.getpid()]
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no Linux, no groups, or one that may change only so often
            _AUTOGROUP.write_text(str(niceness))
