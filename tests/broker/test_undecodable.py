"""What nobody can decode, stored by either broker: it costs itself alone, is told, and stops neither worker nor API."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from deploy.bench.roles import Roles
from deploy.brokers.embedded import EmbeddedBroker
from deploy.roles import variables
from query_api.follow import Follower
from query_api.read_model import ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.dead_letter import DeadLetter
from schemas.reading import ReadingOutcome
from schemas.tables import SUBJECTS_TABLE
from schemas.upload import UploadOutcome
from streams import dlq
from streams.kafka.connection import producer_options
from streams.kafka.unfolding import MOST_UNFOLDED_BYTES
from streams.settings import Settings
from streams.topology import app_id
from tests.kit.asking import get
from tests.kit.batches import batch, record, store
from tests.kit.clients import Client
from tests.kit.waiting import until, until_async

CHANGELOG = topics.changelog(app_id("ingest"), SUBJECTS_TABLE).name
THREE = [record(number, b"k", b"%d" % number) for number in range(3)]
DAMAGED = bytearray(record(1, b"k", b"1"))
DAMAGED[4] = 0x7E  # the length of its key
WRONG_CHECKSUM = bytearray(batch(THREE))
WRONG_CHECKSUM[-1] ^= 1
UNDECODABLE = {
    **{f"damaged-{codec}": batch(THREE, codec, body=b"no codec has written this") for codec in range(1, 5)},
    **{f"bomb-{codec}": batch([record(0, b"k", bytes(MOST_UNFOLDED_BYTES + 1))], codec) for codec in (1, 4)},
    "inside": batch([THREE[0], bytes(DAMAGED), THREE[2]]),
    "checksum": bytes(WRONG_CHECKSUM),
}
"""Kafka looks into batches and takes the bombs alone; the embedded broker takes them all."""


LAG_ZERO = 'glucast_lag{partition="0",topic="cgm.readings"} 0.0'


def reading(subject: str) -> bytes:
    return b'{"subject_id": "%s", "time": "2026-01-01T08:00:00Z", "glucose": 110, "unit": "mg/dL"}' % subject.encode()


async def spoil(settings: Settings, topic: str, good: str) -> list[str]:
    """Everything undecodable that the broker takes, each before a good message in the same partition."""
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    taken = []
    try:
        for what, raw in UNDECODABLE.items():
            try:
                await store(producer, topic, 0, raw)
            except KafkaError:
                continue
            taken.append(what)
            await producer.send_and_wait(topic, reading(f"{good}-{what}"), f"{good}-{what}".encode(), 0)
        odd = record(0, f"{good}-odd".encode(), reading(f"{good}-odd"), [(b"\xff", b"x")])
        await store(producer, topic, 0, batch([odd]))
    finally:
        await producer.stop()
    return taken


@pytest.mark.timeout(300)
def test_what_cannot_be_decoded_is_a_dead_letter_and_all_else_is_processed(settings: Settings, tmp_path: Path) -> None:
    asyncio.run(spoil(settings, CHANGELOG, "row"))
    taken = asyncio.run(spoil(settings, topics.READINGS.name, "reading"))
    assert taken
    client = Client(settings)
    with Roles(settings.broker, tmp_path / "roles", variables(EmbeddedBroker.settings_overrides)) as roles:
        worker = roles.worker("ingest")
        roles.wait_until_ready()
        wanted = {f"reading-{what}" for what in (*taken, "odd")}
        client.until(topics.READING_OUTCOMES.name, lambda found: _subjects(found) >= wanted)
        client.until(topics.DEAD_LETTERS.name, lambda found: len(_undecodable(found)) >= len(taken))
        until(lambda: LAG_ZERO in get(f"{worker.url}/metrics").text, "all of it is committed")
        assert worker.returncode is None
    undecodable = list(_undecodable(client.records(topics.DEAD_LETTERS.name)).values())
    assert len(undecodable) == len(taken)
    assert {(letter.topic, letter.partition, letter.step) for letter in undecodable} == {("cgm.readings", 0, "window")}
    assert all("cannot be decoded" in letter.reason and "SHA-256" in letter.reason for letter in undecodable)
    [answer] = asyncio.run(dlq.replay(settings, [undecodable[0].letter_id]))
    assert (answer.sent, answer.text) == (False, "what lies there cannot be decoded, so nothing can be sent again")


def _undecodable(records: list[ConsumerRecord[bytes, bytes]]) -> dict[str, DeadLetter]:
    """By id: a letter may come again, and others have written to the same broker."""
    letters = (DeadLetter.from_json(record.value) for record in records)
    return {letter.letter_id: letter for letter in letters if letter.code == "undecodable"}


def _subjects(records: list[ConsumerRecord[bytes, bytes]]) -> set[str | None]:
    return {ReadingOutcome.from_json(record.value).subject_id for record in records}


async def test_the_read_model_passes_what_cannot_be_decoded_and_counts_it(settings: Settings, tmp_path: Path) -> None:
    taken = await spoil(settings, topics.UPLOAD_OUTCOMES.name, "upload")
    outcome = UploadOutcome(upload_id="a" * 64, status="rejected", reason="no")
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    await producer.send_and_wait(topics.UPLOAD_OUTCOMES.name, outcome.to_json(), b"a" * 64, 0)
    await producer.stop()
    model = ReadModel(Store(tmp_path / "table", 1 << 20, 1 << 20), Subscriptions())
    follower = Follower(settings, model)
    running = asyncio.create_task(follower.run())
    try:
        await until_async(lambda: model.uploads.upload("a" * 64), "the outcome behind all of it is read")
        assert model.skipped >= len(taken)
        await until_async(lambda: follower.caught_up, "the read model has caught up")
    finally:
        running.cancel()
        await asyncio.wait([running])
        model.close()
