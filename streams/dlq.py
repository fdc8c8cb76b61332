"""Reads ``cgm.dead-letters`` and sends chosen messages back to where they came from.

Anybody may write a letter there, so a replay sends only to what a step reads: no letter reaches another topic of the
cluster, or a changelog.

A replay is recorded beside the letter (the same letter with the header `replayed`), so that the next replay skips it.
Should that record be lost, the message is processed twice. It says where it lay first (the header `replay-of`): only
the step that failed takes it, and what came after its letter stays, however late or often it is sent.
"""

import asyncio
import base64
import dataclasses
import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition

from agents.work import Message
from schemas.dead_letter import REPLAY_OF, DeadLetter, Place
from schemas.errors import ConfigurationError, RejectedError, UnavailableError, UndecodableError
from schemas.topics import DEAD_LETTERS
from streams import topology
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.messages import moment_of, of_record
from streams.kafka.whole_topics import everything, placed, started
from streams.settings import Settings

REPLAYED = "replayed"
_FETCH_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Filed:
    """A letter as it lies in the topic; `replayed_at` is the Unix time of its replay."""

    letter: DeadLetter
    key: bytes | None
    replayed_at: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Replay:
    """What became of one letter: sent, or why not."""

    letter_id: str
    sent: bool
    text: str


async def letters(settings: Settings) -> list[Filed]:
    """All letters, oldest first, each once. Raises `UnavailableError` without a broker."""
    filed: dict[str, Filed] = {}
    async for record in everything(settings, DEAD_LETTERS.name):
        try:
            letter = DeadLetter.from_json(record.value)
        except RejectedError:
            continue  # not one of ours; anybody may write to a topic
        before = filed.get(letter.letter_id)
        replayed_at = moment_of(record.timestamp).timestamp() if REPLAYED in dict(record.headers) else None
        if before is not None and replayed_at is None:
            replayed_at = before.replayed_at
        filed[letter.letter_id] = Filed(letter, record.key, replayed_at)
    return sorted(filed.values(), key=lambda item: item.letter.failed_at)


async def replay(settings: Settings, letter_ids: Iterable[str] | None, again: bool = False) -> list[Replay]:
    """Send the messages of these letters (None: of all) back to their topics and partitions, confirmed by the broker.

    `again` repeats replays. Raises `ConfigurationError` for an id that no letter has, before anything is sent.
    """
    filed = {item.letter.letter_id: item for item in await letters(settings)}
    wanted = list(filed) if letter_ids is None else list(dict.fromkeys(letter_ids))
    if unknown := [letter_id for letter_id in wanted if letter_id not in filed]:
        raise ConfigurationError(f"no such letter: {', '.join(unknown)} (glucast dlq list shows them)")
    settings = await placed(settings)
    producer = AIOKafkaProducer(**producer_options(settings))
    await started(producer, settings)
    try:
        return [await _replay_one(settings, producer, filed[letter_id], again) for letter_id in wanted]
    finally:
        await producer.stop()


async def _replay_one(settings: Settings, producer: AIOKafkaProducer, filed: Filed, again: bool) -> Replay:
    letter = filed.letter
    if filed.replayed_at is not None and not again:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(filed.replayed_at))
        return Replay(letter.letter_id, False, f"already replayed at {when}")
    if letter.code == UndecodableError.code:
        return Replay(letter.letter_id, False, "what lies there cannot be decoded, so nothing can be sent again")
    if refusal := refusal_of(settings, letter):
        return Replay(letter.letter_id, False, refusal)
    try:
        original = await _original(settings, letter)
    except UnavailableError as error:
        return Replay(letter.letter_id, False, str(error))
    # To the same partition: commands are addressed by partition, and a key's partition has not changed.
    headers = headers_of(letter, original)
    await producer.send_and_wait(letter.topic, original.value, original.key, letter.partition, headers=headers)
    await producer.send_and_wait(
        DEAD_LETTERS.name, letter.to_json(), filed.key, headers=[(REPLAYED, str(int(time.time())).encode())]
    )
    return Replay(letter.letter_id, True, f"sent to {letter.topic}, partition {letter.partition}")


def refusal_of(settings: Settings, letter: DeadLetter) -> str | None:
    """Why a letter is not replayed, whatever it says: no step could have failed at such a message."""
    if letter.topic not in {
        topic.name for step in topology.STEPS if step.role in topology.WORKER_ROLES for topic in step.reads
    }:
        return f"not sent: no step reads the topic {letter.topic[:249]!r} that the letter names"
    if not 0 <= letter.partition < settings.partitions:
        return f"not sent: {letter.topic} has no partition {letter.partition}"
    if letter.offset < 0 or not (_is_base64(letter.key_base64) and _is_base64(letter.value_base64)):
        return "not sent: the letter is damaged"
    return None


def _is_base64(text: str | None) -> bool:
    try:
        base64.b64decode(text or "")
    except ValueError:
        return False
    return True


class Original(NamedTuple):
    """A letter's message as it was, and when it came (Unix milliseconds)."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    came_ms: int


def headers_of(letter: DeadLetter, original: Original) -> list[tuple[str, bytes]]:
    """Those of the message, and where it lay first: one that failed again was sent from a letter itself."""
    message = Message(
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        key=original.key,
        value=original.value,
        headers=dict(original.headers),
        timestamp_ms=original.came_ms,
    )
    place = message.first or Place(letter.topic, letter.partition, letter.offset, original.came_ms, letter.step)
    kept = [(name, text) for name, text in original.headers if name != REPLAY_OF]
    return [*kept, (REPLAY_OF, place.to_header())]


def carried(letter: DeadLetter) -> Original | None:
    """The message as the letter has it; None where it was too large for it.

    A letter that does not say when its message came says when its step failed at it, which was soon after.
    """
    key = base64.b64decode(letter.key_base64) if letter.key_base64 is not None else None
    headers = [(name, text.encode()) for name, text in letter.headers.items()]
    came_ms = max(0, round((letter.came_at or letter.failed_at).timestamp() * 1000))
    if letter.value_base64 is not None:
        return Original(key, base64.b64decode(letter.value_base64), headers, came_ms)
    if letter.value_bytes == 0 and key is not None:
        return Original(key, None, headers, came_ms)
    return None


async def _original(settings: Settings, letter: DeadLetter) -> Original:
    """As `carried`; fetched from its topic where the letter has them not."""
    if (found := carried(letter)) is not None:
        return found
    consumer = new_consumer(settings)
    await started(consumer, settings)
    source = TopicPartition(letter.topic, letter.partition)
    try:
        consumer.assign([source])
        consumer.seek(source, letter.offset)
        record = await asyncio.wait_for(consumer.getone(), _FETCH_SECONDS)
    except TimeoutError:
        raise _gone(letter) from None
    finally:
        await consumer.stop()
    if record.offset != letter.offset or not _is_the_one(letter, record.value):
        raise _gone(letter)
    return Original(record.key, record.value, list(record.headers), of_record(record).timestamp_ms)


def _is_the_one(letter: DeadLetter, value: bytes | None) -> bool:
    """A Kafka that has lost the end of a log gives its offsets to other messages."""
    return letter.value_sha256 is None or hashlib.sha256(value or b"").hexdigest() == letter.value_sha256


def _gone(letter: DeadLetter) -> UnavailableError:
    return UnavailableError(f"offset {letter.offset} of {letter.topic}/{letter.partition} is no longer kept")
