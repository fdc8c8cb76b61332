import socket
from pathlib import Path

import pytest

from deploy.brokers.choice import choose
from deploy.brokers.embedded import EmbeddedBroker
from deploy.brokers.local_kafka import LocalKafka
from deploy.brokers.wire import LOOPBACK, HeldPort, answers, is_free
from schemas.errors import ConfigurationError, UnavailableError


def test_the_embedded_broker_starts_answers_and_stops(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    assert not answers(broker.address)
    broker.start()
    try:
        assert answers(broker.address)
        assert broker.returncode() is None
    finally:
        broker.stop()
    assert broker.returncode() is not None
    assert not answers(broker.address)
    broker.stop()


def test_a_broker_that_ends_at_once_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broker"
    broken.write_text("#!/bin/sh\necho no memory left >&2\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(broken))
    with pytest.raises(UnavailableError, match=r"exit code 7(.|\n)*no memory left"):
        EmbeddedBroker(tmp_path).start()


def test_a_broker_of_somebody_else_at_the_same_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    theirs, ours = EmbeddedBroker(tmp_path / "theirs"), EmbeddedBroker(tmp_path / "ours")
    ours.address = theirs.address  # both found it free, at the same moment
    theirs.start()
    try:
        with pytest.raises(UnavailableError, match="address already in use"):
            ours.start()
        assert answers(theirs.address)
    finally:
        theirs.stop()


def test_every_run_of_the_embedded_broker_is_a_new_cluster(tmp_path: Path) -> None:
    assert EmbeddedBroker(tmp_path).cluster_id != EmbeddedBroker(tmp_path).cluster_id


@pytest.mark.parametrize("text", ["kafka", "host", "host:port", ":9092", "", "one:1,two"])
def test_a_broker_that_is_no_address_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="embedded, local or host:port"):
        choose(text, tmp_path)


def test_an_external_broker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    nobodys = HeldPort()
    address = f"{LOOPBACK}:{nobodys.number}"
    said: list[str] = []
    with pytest.raises(UnavailableError, match=address):
        choose(address, tmp_path).wait_until_ready(said.append, timeout_seconds=0.1)


@pytest.mark.parametrize(("home", "words"), [(None, "KAFKA_HOME is not set"), ("empty", "no libs")])
def test_local_kafka_without_kafka_says_what_to_do(
    home: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    with pytest.raises(ConfigurationError, match=words):
        LocalKafka(tmp_path, tmp_path / home if home else None)


@pytest.mark.parametrize(("java", "words"), [(None, "needs Java 17"), ('openjdk version "11.0.2"', "is version 11")])
def test_local_kafka_with_an_old_java_or_none_says_so(
    java: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka.jar").touch()
    (tmp_path / "bin").mkdir()
    if java:
        fake = tmp_path / "bin" / "java"
        fake.write_text(f"#!/bin/sh\necho '{java}' >&2\n")
        fake.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match=words):
        LocalKafka(tmp_path, tmp_path)


def test_a_taken_port_gives_way_to_the_next() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert port < HeldPort(port).number <= port + 20
        with pytest.raises(ConfigurationError, match=f"ports {port} to {port}"):
            HeldPort(port, tries=1)


def test_a_held_port_is_given_to_nobody_else_and_its_server_comes_and_goes() -> None:
    held = HeldPort()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError), socket.create_connection((LOOPBACK, held.number)):
            """Nobody listens."""
        with socket.create_server((LOOPBACK, held.number)) as server, socket.create_connection(server.getsockname()):
            assert not is_free(held.number)
    several = [HeldPort() for _ in range(300)]
    assert len({each.number for each in (held, *several)}) == 301
    with socket.socket() as strange, pytest.raises(OSError, match="in use"):
        strange.bind((LOOPBACK, held.number))
