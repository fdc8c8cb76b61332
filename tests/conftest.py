"""What holds for every test: one that leaves a thread behind fails, and a run that has nothing left to do ends."""

import faulthandler
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.kit.gate import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 - hooks
from tests.kit.waiting import until

END_SECONDS = 300.0
"""Of a machine with other work: to collect the garbage of a whole run took a minute on one."""

WAITING = ("broker", "browser")
COMPUTING = ("api", "properties", "contracts", "agents", "unit")
"""The folders of tests by what their files do most; of those that compute, the ones with the longest files first."""
WAITING_END = 0.8


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files of a run, they are mixed: one computes while another waits.

    What waits has the longest files: none of them is among the last fifth, or one process would end long after.
    """
    if not hasattr(config, "workerinput"):
        return
    files = list(dict.fromkeys(item.path for item in items))
    waiting = [path for path in files if _folder(path) in WAITING]
    computing = sorted((path for path in files if path not in waiting), key=lambda path: COMPUTING.index(_folder(path)))
    places = {path: place / len(computing) for place, path in enumerate(computing)}
    places |= {path: WAITING_END * place / len(waiting) for place, path in enumerate(waiting)}
    items.sort(key=lambda item: places[item.path])


def _folder(path: Path) -> str:
    return path.relative_to(Path(__file__).parent).parts[0]


@pytest.fixture(scope="session", autouse=True)
def no_thread_stays() -> Iterator[None]:
    """One that a test left behind would keep the process alive for ever; processes that share a run are killed."""
    before = set(threading.enumerate())
    yield

    def left() -> list[str]:
        return [each.name for each in threading.enumerate() if each not in before and not _ends_by_itself(each)]

    until(lambda: not left() or None, f"no thread is left: {left()}")


def _ends_by_itself(thread: threading.Thread) -> bool:
    """A daemon, or one of a pool that waits for work: the interpreter tells pools that it ends."""
    frame = sys._current_frames().get(thread.ident or 0)
    return thread.daemon or frame is None or frame.f_code.co_filename.endswith("concurrent/futures/thread.py")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Whatever else keeps the finished run alive: say where it stands, and fail."""
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(END_SECONDS, exit=True, file=sys.__stderr__)


settings.register_profile("glucast", deadline=None)  # tests do not time: a machine with other work fails none of them
settings.load_profile("glucast")
