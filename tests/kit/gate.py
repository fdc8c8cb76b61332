"""At the gate a test that is skipped fails, but where a machine may lack what it is about.

Else the gate is green where nobody has looked: at the types of the page's scripts without Node, at MQTT without
mosquitto. `.ci/run` sets AT_THE_GATE; who works on something else runs the tests without it.
"""

import os
import re
from collections.abc import Generator
from typing import TypeVar

import pytest

MAY_BE_MISSING = re.compile(
    "Apache Kafka|KAFKA_HOME|Java|GPU|CUDA|trial exports|no git checkout|C library|on Linux only|this kernel"
)
"""In the reason of a test that the gate passes over: what ``deploy/setup.sh --test`` does not bring."""

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Of a file that skips itself as a whole."""
    return _judged((yield))


def _judged(report: Report) -> Report:
    if "AT_THE_GATE" in os.environ and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not MAY_BE_MISSING.search(reason):
            report.outcome = "failed"
            report.longrepr = f"{reason}. The gate asks for it: bash deploy/setup.sh --test"
    return report
