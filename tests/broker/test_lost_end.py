"""A Kafka that has lost the end of its logs: offsets are used again, and what they hold now is processed."""

import asyncio
import re
import signal
import string
from pathlib import Path

import pytest

from deploy.brokers.local_kafka import LocalKafka
from query_api.follow import Follower
from query_api.read_model import ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas.tables import SUBJECTS_TABLE
from schemas.topics import READING_OUTCOMES, READINGS, UPLOAD_OUTCOMES, changelog
from schemas.upload import UploadOutcome
from streams.settings import Settings
from streams.topology import app_id
from tests.broker.test_worker import is_ready, worker
from tests.kit.brokers import kafka_home, provisioned, soon_forgotten
from tests.kit.clients import Client
from tests.kit.waiting import until, until_async

CHANGELOG = changelog(app_id("ingest"), SUBJECTS_TABLE).name
LENGTH = slice(8, 12)
BEFORE_LENGTH = 12
EXITED_TO_START_AGAIN = 3


def lose_end(kafka: LocalKafka, topic: str, batches: int) -> None:
    """Leave so many batches of the only partition, as an unclean election or a disk may; the broker is stopped."""
    home = kafka._root / "data"
    segment = home / f"{topic}-0" / f"{0:020}.log"
    data, end = segment.read_bytes(), 0
    for _ in range(batches):
        end += BEFORE_LENGTH + int.from_bytes(data[end:][LENGTH], "big")
    segment.write_bytes(data[:end])
    for path in [*segment.parent.glob("*.*index"), *segment.parent.glob("*.snapshot"), *home.glob("*checkpoint")]:
        path.unlink()
    (home / ".kafka_cleanshutdown").unlink(missing_ok=True)


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_what_takes_the_place_of_lost_messages_is_processed(tmp_path: Path) -> None:
    with soon_forgotten():
        kafka = LocalKafka(tmp_path, kafka_home())
        with provisioned(kafka, tmp_path, partitions=1) as settings:
            client = Client(settings)
            kept = {"partitions": 1, "static_membership": True}
            with worker(settings, tmp_path, "counting", **kept) as (process, url):
                until(lambda: is_ready(url), "the worker is ready", 60)
                for number in range(9):  # one after the other: of few batches too few would be lost
                    client.publish(READINGS.name, [(b"before-%d" % number, b"reading")])
                    client.until(READING_OUTCOMES.name, lambda found, wanted=number + 1: len(found) == wanted)
                process.send_signal(signal.SIGSTOP)
                kafka.stop()
                lose_end(kafka, READINGS.name, 5)
                lose_end(kafka, CHANGELOG, 3)
                kafka.restart()
                process.send_signal(signal.SIGCONT)
                assert process.wait(60) == EXITED_TO_START_AGAIN
            client.publish(READINGS.name, [(b"after-%d" % number, b"reading") for number in range(3)])
            after = {b"after-%d" % number for number in range(3)}
            rows = {b"before-%d" % number for number in range(5)} | after
            with worker(settings, tmp_path, "counting", **kept):
                client.until(READING_OUTCOMES.name, lambda found: after <= {each.key for each in found})
                client.until(CHANGELOG, lambda found: rows <= {each.key for each in found})
    log = (tmp_path / "worker.log").read_text()
    assert "cgm.readings/0 ends before offset 9, up to which it was read: Kafka has lost its end" in log
    assert re.search(r"the changelog ends with offset \d, before offset \d that was confirmed: Kafka has lost its", log)
    assert "glucast-ingest-subjects-changelog/0: its sources are read from their beginning" in log


@pytest.mark.kafka
@pytest.mark.timeout(300)
@pytest.mark.parametrize("was_running", [True, False], ids=["frozen meanwhile", "away meanwhile"])
def test_a_log_that_is_longer_again_than_what_was_read_of_it_is_seen_to_have_lost_its_end(
    tmp_path: Path, was_running: bool
) -> None:
    """More messages come than were lost, before anybody looks: offsets alone tell nothing then, leader epochs do."""
    with soon_forgotten():
        kafka = LocalKafka(tmp_path, kafka_home())
        with provisioned(kafka, tmp_path, partitions=1) as settings:
            client = Client(settings)
            kept = {"partitions": 1, "static_membership": True}
            model = ReadModel(Store(tmp_path / "read model", 1 << 20, 1 << 20), Subscriptions())
            upload(client, "abcd")
            asyncio.run(follow_until(settings, model, "d"))
            with worker(settings, tmp_path, "counting", **kept) as (process, url):
                until(lambda: is_ready(url), "the worker is ready", 60)
                for number in range(9):
                    client.publish(READINGS.name, [(b"before-%d" % number, b"reading")])
                    client.until(READING_OUTCOMES.name, lambda found, wanted=number + 1: len(found) == wanted)
                if was_running:
                    process.send_signal(signal.SIGSTOP)
                else:
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(60) == 0
                kafka.stop()
                lose_end(kafka, READINGS.name, 5)
                lose_end(kafka, UPLOAD_OUTCOMES.name, 2)
                kafka.restart()
                client.publish(READINGS.name, [(b"after-%d" % number, b"reading") for number in range(7)])
                upload(client, "ef0")
                if was_running:
                    process.send_signal(signal.SIGCONT)
                    assert process.wait(60) == EXITED_TO_START_AGAIN
            if not was_running:
                with worker(settings, tmp_path, "counting", **kept) as (process, _):
                    assert process.wait(60) == EXITED_TO_START_AGAIN
            wanted = {b"after-%d" % number for number in range(7)}
            with worker(settings, tmp_path, "counting", **kept):
                client.until(READING_OUTCOMES.name, lambda found: wanted <= {each.key for each in found})
            asyncio.run(follow_until(settings, model, "0"))
            known = {letter for letter in string.hexdigits if model.uploads.upload(letter * 64)}
            assert known == set("abef0"), "what Kafka has lost is still shown, or what took its place is not"
            model.close()
    log = (tmp_path / "worker.log").read_text()
    assert re.search(
        r"cgm\.readings/0 holds something else before offset [6-9], up to which it was read: Kafka has", log
    )


def upload(client: Client, letters: str) -> None:
    """One outcome for each, in a batch of its own."""
    for letter in letters:
        outcome = UploadOutcome(upload_id=letter * 64, status="rejected", reason="no")
        client.publish(UPLOAD_OUTCOMES.name, [(outcome.upload_id.encode(), outcome.to_json())])


async def follow_until(settings: Settings, model: ReadModel, letter: str) -> None:
    """As a query API does that is started now, until it knows this upload."""
    running = asyncio.create_task(Follower(settings, model).run())
    try:
        await until_async(lambda: model.uploads.upload(letter * 64), "the outcome is read", 60)
    finally:
        running.cancel()
        await asyncio.wait([running])
