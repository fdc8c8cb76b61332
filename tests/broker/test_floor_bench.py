"""The bench of what the machine allows: each part is really done, small."""

import re

import pytest
from typer.testing import CliRunner

from deploy.bench import floor
from deploy.cli.bench import app


def test_every_part_is_done_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in {"MESSAGES": 6, "BULK": 50, "REPEATS": 4, "LOAD_SECONDS": 0.2, "ANSWERS_BYTES": (5000,)}.items():
        monkeypatch.setattr(floor, name, small)
    monkeypatch.setattr(floor, "IMPORTS", {"a test": "json"})
    monkeypatch.setattr(floor, "WARM_UP", 2)
    done = CliRunner().invoke(app, ["floor", "--broker", "embedded"])
    assert done.exit_code == 0, done.output
    figures = {line[:28].strip(): line[28:].strip() for line in done.output.splitlines()}
    assert "n=6" in figures["a message, 40/s"]
    assert "n=20" in figures["products of 1 x 10"]  # a process of its own
    for name in ("Kafka alone, start", "4 messages in turn", "a file of 2.4 MB, read", "a picture, Chromium alone"):
        assert re.match(r"p50 \d", figures[name]), name
    assert re.match(r"\d+ /s", figures["messages of 1 kB in bulk"])
    assert re.match(r"[1-9]\d* /s", figures["5 kB, 8 clients"])
    assert re.match(r"\d+\.\d\d s, [1-9]\d* MiB", figures["imports of a test"])
