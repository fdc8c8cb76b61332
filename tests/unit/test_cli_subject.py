"""What `glucast subject` says before it asks Kafka anything, and what becomes of a person's keys."""

from pathlib import Path

import pytest

from deploy.brokers.wire import LOOPBACK, HeldPort
from deploy.cli import subject
from query_api.key_file import read
from schemas.errors import ConfigurationError
from streams.notify import webhook_file
from tests.kit.alerts import endpoint
from tests.kit.keys import key_in
from tests.unit.test_cli import glucast


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    for name, subjects in {"clinic": None, "phone": ["ada"], "watch": ["ada"], "both": ["ada", "eve"]}.items():
        key_in(path, name, subjects=subjects)
    key_in(path, "eves", subjects=["eve"])
    return path


def test_keys_for_the_person_alone_are_revoked_and_the_others_named(keys: Path) -> None:
    told = subject._keys(keys, "ada", revoke=True)
    assert [key.name for key in read(keys)] == ["clinic", "both", "eves"]
    assert told == [
        "key phone is revoked", "key watch is revoked",
        "key both is also for others and stays: make those a new one, then revoke it",
    ]  # fmt: skip


def test_keys_that_stay_are_told(keys: Path) -> None:
    told = subject._keys(keys, "ada", revoke=False)
    assert len(read(keys)) == 5
    assert [line.split()[1] for line in told] == ["phone", "watch", "both"]
    assert "glucast keys revoke phone" in told[0]


def test_without_a_file_there_is_nothing_to_revoke(tmp_path: Path) -> None:
    assert subject._keys(None, "ada", revoke=False) == subject._keys(tmp_path / "none", "ada", revoke=False) == []
    with pytest.raises(ConfigurationError, match="GLUCAST_API_KEYS_FILE"):
        subject._keys(None, "ada", revoke=True)


def test_webhooks_of_the_person_are_told(tmp_path: Path) -> None:
    for name, whose in (("adas", "ada"), ("eves", "eve"), ("everybodys", None)):
        webhook_file.add(tmp_path / "webhooks", endpoint(name, subject_id=whose))
    assert subject._webhooks(tmp_path / "webhooks", "ada") == [
        "webhook adas names this person and stays: glucast webhooks remove adas"
    ]
    assert subject._webhooks(None, "ada") == subject._webhooks(tmp_path / "none", "ada") == []


def test_mistakes_are_one_line_and_leave_nothing(tmp_path: Path) -> None:
    done = glucast("subject", "export", "a/b", "--to", str(tmp_path / "out"))
    assert (done.returncode, "a subject is 1 to 128" in done.stderr) == (2, True)
    nobodys = HeldPort()
    broker = f"{LOOPBACK}:{nobodys.number}"
    done = glucast("subject", "export", "ada", "--to", str(tmp_path / "out"), "--broker", broker)
    assert (done.returncode, "no Kafka answers" in done.stderr, "Traceback" in done.stderr) == (3, True, False)
    assert list(tmp_path.iterdir()) == []
