"""A worker as a process on the embedded broker: effects, poison, health, restarts, and its end when nothing moves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import rocksdict

from deploy.brokers.embedded import EmbeddedBroker
from deploy.brokers.wire import HeldPort
from deploy.roles import variables
from schemas.dead_letter import DeadLetter
from streams.kafka.continuity import COMPLETE_KEY
from streams.settings import Settings
from tests.kit.asking import get
from tests.kit.brokers import embedded
from tests.kit.clients import Client
from tests.kit.waiting import until


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with embedded(tmp_path_factory.mktemp("embedded")) as settings:
        yield settings


@contextmanager
def worker(
    settings: Settings, home: Path, behaviour: str, **changes: object
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A step worker and the address of its health server; killed if it is still there at the end."""
    held = HeldPort()
    port = held.number
    chosen = {
        "broker": settings.broker, "state_dir": home, "health_port": port, "log_format": "json",
    } | dict(EmbeddedBroker.settings_overrides) | changes  # fmt: skip
    environment = os.environ | variables(chosen)
    command = [sys.executable, "-m", "tests.kit.step_worker", behaviour]
    with (home / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def is_ready(url: str) -> bool:
    try:
        return get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_effects_poison_health_restart_and_a_clean_stop(settings: Settings, tmp_path: Path) -> None:
    client = Client(settings)
    keys = [b"s%d" % (number % 7) for number in range(100)]
    client.publish("cgm.readings", [*((key, b"reading") for key in keys), (b"s0", b"poison"), (None, b"reading")])
    with worker(settings, tmp_path, "counting") as (process, url):
        until(lambda: is_ready(url), "the worker is ready", 60)
        counts = Counter(keys) + Counter({b"": 1})
        outcomes = client.until("cgm.reading-outcomes", lambda found: len(found) >= 101)
        assert {record.key: int(record.value) for record in outcomes} == counts
        letters = client.until("cgm.dead-letters", lambda found: found)
        letter = DeadLetter.from_json(letters[0].value)
        assert (letter.step, letter.code, letter.attempts) == ("window", "failed", 3)
        assert "poison" not in (tmp_path / "worker.log").read_text()
        assert get(f"{url}/livez").json() == {"alive": True}
        for line in (
            'glucast_events_total{outcome="processed",step="window"} 101.0',
            'glucast_events_total{outcome="dead_lettered",step="window"} 1.0',
            'glucast_lag{partition="0",topic="cgm.readings"} 0.0',
        ):
            until(lambda line=line: line in get(f"{url}/metrics").text, line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    # What was committed does not come again, and the table goes on where it was.
    client.publish("cgm.readings", [(b"s1", b"reading")])
    with worker(settings, tmp_path, "counting") as (process, _):
        outcomes = client.until("cgm.reading-outcomes", lambda found: len(found) >= 102)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert len(outcomes) == 102
        assert max(int(record.value) for record in outcomes if record.key == b"s1") == counts[b"s1"] + 1
    # Without its disk a worker has the whole table again from the changelog, however that was batched.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    client.publish("cgm.readings", [(key, b"reading") for key in sorted(set(keys))])
    with worker(settings, elsewhere, "counting"):
        outcomes = client.until("cgm.reading-outcomes", lambda found: len(found) >= 109)
        last = {record.key: int(record.value) for record in outcomes}
        assert last == counts + Counter(set(keys)) + Counter([b"s1"])


def test_a_table_that_slept_for_a_day_forgets_what_was_deleted_meanwhile(tmp_path: Path) -> None:
    """Kafka no longer tells a deletion then: a row that the changelog lacks must not be counted on."""
    with embedded(tmp_path) as settings:
        client = Client(settings)

        def counted(turn: int) -> int:
            client.publish("cgm.readings", [(b"anna", b"reading")])
            with worker(settings, tmp_path, "counting") as (process, _):
                found = client.until("cgm.reading-outcomes", lambda records: len(records) == turn)
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
            return int(found[-1].value)

        assert counted(1) == 1
        assert all(abs(seconds - time.time()) < 600 for seconds in _slept(tmp_path))
        assert counted(2) == 2
    assert "older than deletions are kept (24 hours); the table is read anew" in (tmp_path / "worker.log").read_text()


def _slept(home: Path) -> list[int]:
    """Make the stopped worker's table a day older, with a row that its changelog lacks; when it was complete before."""
    said = []
    for path in home.rglob("subjects-*.db"):
        table = rocksdict.Rdict(str(path), options=rocksdict.Options(raw_mode=True))
        said.append(int(table[COMPLETE_KEY]))
        table[COMPLETE_KEY] = b"%d" % (said[-1] - 24 * 3600)
        table[b"anna"] = b"99"
        table.close()
    assert said
    return said


@pytest.mark.parametrize(
    ("behaviour", "reason"), [("waiting", "no progress"), ("spinning", "event loop has not answered")]
)
def test_a_worker_that_is_alive_but_makes_no_progress_ends_with_3(tmp_path: Path, behaviour: str, reason: str) -> None:
    with embedded(tmp_path) as settings, worker(settings, tmp_path, behaviour, stall_seconds=4) as (process, url):
        until(lambda: is_ready(url), "the worker is ready", 60)  # joining is over, which may not stall either
        Client(settings).publish("cgm.readings", [(b"stuck", b"reading")])
        assert process.wait(60) == 3
    ends = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines() if '"ending"' in line]
    assert reason in ends[-1]["reason"]


def test_a_worker_refuses_to_start_without_its_topics(settings: Settings, tmp_path: Path) -> None:
    environment = os.environ | {
        "GLUCAST_BROKER": settings.broker, "GLUCAST_STATE_DIR": str(tmp_path), "GLUCAST_PARTITIONS": "7",
    }  # fmt: skip
    command = [sys.executable, "-m", "deploy.cli.main", "worker", "ingest"]
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert b"glucast topics provision" in ended.stdout + ended.stderr
