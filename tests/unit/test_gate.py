"""The gate does not pass over what it is there to look at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.sources import ROOT

TESTS = """
import pytest

def test_of_mqtt():
    pytest.skip("no mosquitto: apt-get install mosquitto")

def test_of_kafka():
    pytest.skip("no Apache Kafka: KAFKA_HOME is not set")
"""
WHOLE_FILE = "import pytest\npytest.importorskip('no_such_module', reason='the generator is not installed')\n"


def outcome(folder: Path, **environment: str) -> tuple[int, str]:
    """Exit status and last line of a run."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.kit.gate", "-p", "no:cacheprovider", str(folder)]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout.strip().splitlines()[-1]


def test_a_skipped_test_fails_there_but_where_the_machine_may_lack_something(tmp_path: Path) -> None:
    (tmp_path / "test_services.py").write_text(TESTS)
    status, said = outcome(tmp_path, AT_THE_GATE="1")
    assert (status, "1 failed, 1 skipped" in said) == (1, True), said


def test_elsewhere_tests_are_skipped_and_a_file_that_skips_itself_fails_at_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_client.py").write_text(WHOLE_FILE)
    (tmp_path / "test_services.py").write_text(TESTS)
    monkeypatch.delenv("AT_THE_GATE", raising=False)
    status, said = outcome(tmp_path)
    assert (status, "3 skipped" in said) == (0, True), said
    status, said = outcome(tmp_path, AT_THE_GATE="1")
    assert (status, "1 error" in said) == (2, True), said
