"""A message that a step could not process: what failed, where and why, so that it can be replayed."""

from pydantic import Field

from schemas.record import HexDigest, Record, Time


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
