"""What holds for every test: a run that has nothing left to do ends."""

import faulthandler
import sys

import pytest
from hypothesis import settings

END_SECONDS = 60.0


def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that a test left behind would keep the finished run alive for ever: say which one, and fail."""
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(END_SECONDS, exit=True, file=sys.__stderr__)


settings.register_profile("glucast", deadline=None)  # tests do not time: a machine with other work fails none of them
settings.load_profile("glucast")
