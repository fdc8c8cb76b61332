"""What holds for every test: one that leaves a thread behind fails, and a run that has nothing left to do ends."""

import faulthandler
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.kit.waiting import until

END_SECONDS = 60.0

LONGEST_FIRST = ("broker", "browser", "api", "contracts", "properties", "unit", "agents")
"""The folders of tests by how long a file of theirs may take."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files of a run, none is left with a long one when the others have done."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONGEST_FIRST.index(_folder(item.path)))


def _folder(path: Path) -> str:
    return path.relative_to(Path(__file__).parent).parts[0]


@pytest.fixture(scope="session", autouse=True)
def no_thread_stays() -> Iterator[None]:
    """One that a test left behind would keep the process alive for ever; processes that share a run are killed."""
    before = set(threading.enumerate())
    yield

    def left() -> list[str]:
        return [each.name for each in threading.enumerate() if each not in before and not _ends_by_itself(each)]

    until(lambda: not left() or None, f"no thread is left: {left()}", 10)


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
