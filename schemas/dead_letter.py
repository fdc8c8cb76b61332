"""A message that a step could not process: what failed, where and why, so that it can be replayed."""

import re
from typing import NamedTuple

from pydantic import Field

from schemas.record import HexDigest, Record, Time

REPLAY_OF = "replay-of"
"""The header of a message that was sent again from a letter: the `Place` of the letter's message."""

_PLACE = re.compile(rb"([\w.-]{1,249})/(\d{1,9})/(\d{1,18})/(\d{1,15})/(\w{1,64})", re.ASCII)


class Place(NamedTuple):
    """Where a message lay, when it came there (Unix milliseconds), and which step failed at it."""

    topic: str
    partition: int
    offset: int
    came_ms: int
    step: str

    def to_header(self) -> bytes:
        """The value of `REPLAY_OF`."""
        return "/".join(map(str, self)).encode()

    @classmethod
    def from_header(cls, header: bytes) -> "Place | None":
        """Inverse of `to_header`; None where it says nothing of the kind: anybody may write it."""
        found = _PLACE.fullmatch(header)
        if found is None:
            return None
        topic, partition, offset, came_ms, step = (part.decode() for part in found.groups())
        return cls(topic, int(partition), int(offset), int(came_ms), step)


class DeadLetter(Record):
    """On ``cgm.dead-letters``, keyed by the original key. The payload is kept up to 256 KiB, else fetched at replay."""

    letter_id: str = Field(description="topic/partition/offset/step of the message: equal when it fails again.")
    step: str
    code: str
    reason: str
    topic: str
    partition: int
    offset: int
    attempts: int
    came_at: Time | None = Field(
        default=None, description="When the message came; null in a letter of a version that did not say it."
    )
    failed_at: Time
    key_base64: str | None = None
    value_base64: str | None = Field(
        default=None, description="None where the message was empty or too large to carry."
    )
    value_bytes: int = 0
    value_sha256: HexDigest | None = Field(
        default=None, description="SHA-256 of a value that is not carried: by it the message is known where it lies."
    )
    headers: dict[str, str] = Field(default_factory=dict)

    @property
    def event_id(self) -> str:
        """Of a message that fails again at the same step the same."""
        return self.letter_id
