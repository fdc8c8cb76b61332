import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from aiokafka.errors import NodeNotReadyError

from deploy.brokers.wire import LOOPBACK, HeldPort
from deploy.cli import main
from streams.topology import all_topics
from tests.kit.processes import printed

HEAVY = ("torch", "faust", "polars", "numpy", "fastapi", "aiokafka", "pydantic", "plotly", "pyarrow", "httpx")


def glucast(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.cli.main", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_lists_every_command() -> None:
    done = glucast("--help")
    assert done.returncode == 0
    for command in (
        "up",
        "worker",
        "api",
        "topics",
        "upload",
        "simulate",
        "schemas",
        "dlq",
        "keys",
        "subject",
        "bench",
        "train",
        "evaluate",
        "fit-alerts",
    ):
        assert f"\n  {command} " in done.stdout, command


def test_help_loads_nothing_heavy() -> None:
    script = f"import sys, deploy.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert printed(script).strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (("topics", "check"), {"GLUCAST_PORT": "x"}, 2, "GLUCAST_PORT: Input should be a valid integer"),
        (("topics", "check"), {"NUM_SAMPLES": "1"}, 2, "NUM_SAMPLES: Input should be greater"),
        (("topics", "check"), {"GLUCAST_HEARTBEAT_SECONDS": "9"}, 2, "heartbeat_seconds must be at most"),
        (("worker", "baker"), {}, 2, "baker"),
        (("up", "--broker", "nonsense"), {}, 2, "embedded, local or host:port"),
        (("up", "--broker", "local"), {"KAFKA_HOME": "/nonexistent"}, 2, "no libs/*.jar"),
        (("simulate", "--history", "long"), {}, 2, "--history takes hours"),
        (("simulate", "--history", "200h"), {}, 2, "--history has to fit"),
        (("upload", "/nonexistent.csv"), {}, 2, "cannot read /nonexistent.csv: No such file"),
        (("dlq", "replay"), {}, 2, "name letters, or say --all"),
    ],
)
def test_what_a_person_can_change_is_said_in_words(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    code: int,
    words: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    done = glucast(*arguments, GLUCAST_STATE_DIR=str(tmp_path_factory.mktemp("state")), **environment)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("environment", [{}, {"GLUCAST_PORT": "x"}], ids=["well", "misconfigured"])
def test_every_topic_is_listed_whatever_the_settings(environment: dict[str, str]) -> None:
    done = glucast("topics", "list", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert [topic.name for topic in all_topics() if topic.name not in done.stdout] == []


@pytest.mark.parametrize(
    "arguments",
    [("topics", "provision"), ("topics", "check"), ("dlq", "list"), ("simulate",), ("upload", __file__)],
)
def test_a_server_that_does_not_answer_is_one_line_and_another_code(arguments: tuple[str, ...]) -> None:
    held = HeldPort()
    port = held.number
    options = ("--api", f"http://{LOOPBACK}:{port}") if arguments[0] == "upload" else ("--broker", f"{LOOPBACK}:{port}")
    done = glucast(*arguments, *options)
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert str(port) in done.stderr


def test_up_on_a_port_that_is_taken_says_so_before_it_starts_anything(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = glucast("up", "--port", port, "--state-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} is in use; choose another one with --port" in done.stderr


def test_an_upload_prints_its_handle_and_what_the_api_says_against_it(tmp_path: Path) -> None:
    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.headers["x-api-key"]))
            status, body = answers[self.path]
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    asked: list[tuple[str, str]] = []
    accepted = b'{"handle": "ab", "total_samples": 14, "warnings": {"messages": ["GAP: one"]}}'
    answers = {"/process_unified": (200, accepted), "/draw_a_plot": (200, b"\x89PNG")}
    (tmp_path / "a.csv").write_text("glucose")
    with HTTPServer((LOOPBACK, 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        upload = ("upload", str(tmp_path / "a.csv"), "--api", f"http://{LOOPBACK}:{server.server_port}", "--key", "k")
        done = glucast(*upload, "--plot", str(tmp_path / "a.png"))
        assert done.returncode == 0, done.stderr
        for line in ("handle   ab", "samples  14 (index -13 to 12)", "warning  GAP: one", "plot     "):
            assert line in done.stdout
        assert (tmp_path / "a.png").read_bytes() == b"\x89PNG"
        assert asked == [("/process_unified", "k"), ("/draw_a_plot", "k")]
        done = glucast(*upload, "--plot", str(tmp_path / "nowhere" / "a.png"))
        assert (done.returncode, "handle   ab" in done.stdout, len(done.stderr.splitlines())) == (2, True, 1)
        assert "the file is stored; cannot write" in done.stderr
        for status, body, words in (
            (422, b'{"detail": "too short"}', "answered 422: too short"),
            (302, b"elsewhere", "answered 302: elsewhere"),
            (502, b"<html>", "answered 502: <html>"),
        ):
            answers["/process_unified"] = status, body
            done = glucast(*upload)
            assert (done.returncode, words in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)
        server.shutdown()


def test_a_broker_that_goes_halfway_is_no_finding_of_a_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was a traceback and code 1, by which scripts know that topics differ or a replay has found something."""

    def gone(**_: object) -> None:
        raise NodeNotReadyError("node 1 has gone")

    monkeypatch.setattr(main, "app", gone)
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert (ended.value.code, len(capsys.readouterr().err.splitlines())) == (3, 1)
