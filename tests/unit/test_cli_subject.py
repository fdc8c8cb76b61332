"""What `glucast subject` says before it asks Kafka anything, and what becomes of a person's keys."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from agents.core.fingerprint import order_id
from deploy.brokers.wire import LOOPBACK, HeldPort
from deploy.cli import subject
from query_api.key_file import read
from schemas.errors import ConfigurationError
from schemas.reading import ReadingOutcome
from schemas.topics import CACHE_COMMANDS, READING_OUTCOMES, READINGS
from streams import subjects as streams_subjects
from streams.kafka import whole_topics
from streams.kafka.partitioning import partition_of
from streams.notify import webhook_file
from streams.settings import Settings
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


class Cluster:
    """Kafka's clients as `erase` uses them: takes everything, and confirms the order."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []

    async def start(self) -> None:
        """Nothing to start."""

    stop = start

    def assign(self, partitions: list[TopicPartition]) -> None:
        (self.told,) = partitions

    def seek(self, *_: object) -> None:
        """Nothing lies there yet."""

    async def send_and_wait(
        self, topic: str, value: bytes | None, key: bytes | None = None, partition: int = -1, **_: object
    ) -> object:
        self.sent.append((topic, partition))
        return SimpleNamespace(partition=partition, offset=7, timestamp=1)

    async def getone(self) -> object:
        identity = order_id("erased", "ada", self.told.partition, 7)
        outcome = ReadingOutcome(outcome_id=identity, subject_id="ada", status="erased")
        return SimpleNamespace(value=outcome.to_json())


async def test_an_erasure_reaches_every_partition_whatever_the_settings_of_the_shell_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a cluster of 12 partitions the uploads of eight stayed, and the person was said to be erased."""
    cluster = Cluster()

    async def counted(*_: object) -> int:
        return 12

    async def ends(_: object, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    monkeypatch.setattr(whole_topics, "partitions_of", counted)
    monkeypatch.setattr(streams_subjects, "log_ends", ends)
    monkeypatch.setattr(streams_subjects, "new_consumer", lambda _: cluster)
    monkeypatch.setattr(streams_subjects, "AIOKafkaProducer", lambda **_: cluster)
    await streams_subjects.erase(Settings(partitions=4), "ada")
    home = partition_of(b"ada", 12)
    assert home >= 4, "or the test shows nothing"
    assert cluster.sent == [(READINGS.name, home), *((CACHE_COMMANDS.name, number) for number in range(12))]
    assert cluster.told == TopicPartition(READING_OUTCOMES.name, home)
