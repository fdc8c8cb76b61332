"""What a message becomes when its step cannot process it."""

import base64
import dataclasses
import hashlib
from datetime import UTC, datetime

from agents.work import Failure, Message, check_size
from schemas.dead_letter import DeadLetter
from schemas.errors import MessageTooLargeError
from schemas.event import cloud_event
from schemas.topics import DEAD_LETTERS

INLINE_BYTES = 256 * 1024
"""A larger payload stays in its topic, where a replay finds it by partition and offset."""

MOST_HEADERS, LONGEST_HEADER = 32, 1024
"""What a letter carries of headers."""
_REASON_CHARACTERS = 2000


def letter_id(message: Message, step: str) -> str:
    """Equal when the same message fails again."""
    return f"{message.topic}/{message.partition}/{message.offset}/{step}"


def message_of(message: Message, step: str, failure: Failure) -> tuple[bytes | None, bytes]:
    """Key and value for ``cgm.dead-letters``: of the whole letter, or of a bare one where it could not tell all.

    Keys and headers are anybody's, of any size and content. A letter that would have to shorten or alter them leaves
    them in the topic, where a replay finds the message as it was, and is keyed by a hash.
    """
    whole = letter(message, step, failure) if _can_be_told(message) else None
    if whole is not None:
        try:
            check_size(DEAD_LETTERS, message.key, whole.to_json(), {})
        except MessageTooLargeError:
            whole = None
    if whole is not None:
        return message.key, whole.to_json()
    bare = letter(dataclasses.replace(message, key=None, headers={}), step, failure)
    left_out = {"value_base64": None, "value_sha256": _hash_of(message.value)}
    return hashlib.sha256(message.key or b"").hexdigest().encode(), bare.model_copy(update=left_out).to_json()


def headers_of(message: Message, step: str, failure: Failure) -> dict[str, bytes]:
    """What failed and where, as tools that read Kafka Connect's dead letters find it without reading the letter."""
    return cloud_event(DEAD_LETTERS.record, letter_id(message, step), step) | {
        f"{_CONNECT}.{name}": str(text).encode()
        for name, text in (
            ("topic", message.topic),
            ("partition", message.partition),
            ("offset", message.offset),
            ("connector.name", "glucast"),
            ("stage", step),
            ("exception.class.name", failure.code),
            ("exception.message", failure.reason[:_REASON_CHARACTERS]),
        )
    }


_CONNECT = "__connect.errors"


def _can_be_told(message: Message) -> bool:
    """Whether key and headers fit a letter unaltered. A large value may stay behind: the letter says so."""
    if len(message.key or b"") > INLINE_BYTES or len(message.headers) > MOST_HEADERS:
        return False
    try:
        texts = [text.decode() for text in message.headers.values()]
    except UnicodeDecodeError:
        return False
    return all(len(text) <= LONGEST_HEADER for text in texts)


def letter(message: Message, step: str, failure: Failure) -> DeadLetter:
    """The record for ``cgm.dead-letters``."""
    value = message.value
    carried = value if value is not None and len(value) <= INLINE_BYTES else None
    return DeadLetter(
        letter_id=letter_id(message, step),
        step=step,
        code=failure.code,
        reason=failure.reason[:_REASON_CHARACTERS],
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        attempts=failure.attempts,
        came_at=datetime.fromtimestamp(message.timestamp_ms / 1000, UTC),
        failed_at=datetime.now(UTC),
        key_base64=None if message.key is None else base64.b64encode(message.key).decode(),
        value_base64=None if carried is None else base64.b64encode(carried).decode(),
        value_bytes=len(value or b""),
        value_sha256=_hash_of(value) if carried is None else None,
        headers={name: text.decode() for name, text in message.headers.items()},
    )


def _hash_of(value: bytes | None) -> str | None:
    return None if value is None else hashlib.sha256(value).hexdigest()
