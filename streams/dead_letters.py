"""What a message becomes when its step cannot process it."""

import base64
import dataclasses
from datetime import UTC, datetime

from agents.work import Message
from schemas.dead_letter import DeadLetter
from schemas.topics import DEAD_LETTERS

TOPIC = DEAD_LETTERS
INLINE_BYTES = 256 * 1024
"""A larger payload stays in its topic, where a replay finds it by partition and offset."""

_REASON_CHARACTERS = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a step gave up on a message: a stable code, words for a person, and how often it was tried."""

    code: str
    reason: str
    attempts: int


def letter_id(message: Message, step: str) -> str:
    """Equal when the same message fails again."""
    return f"{message.topic}/{message.partition}/{message.offset}/{step}"


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
        failed_at=datetime.now(UTC),
        key_base64=None if message.key is None else base64.b64encode(message.key[:INLINE_BYTES]).decode(),
        value_base64=None if carried is None else base64.b64encode(carried).decode(),
        value_bytes=len(value or b""),
        headers={name: text.decode(errors="replace")[:1024] for name, text in list(message.headers.items())[:32]},
    )
