"""Which model serves, where a person has decided it: what `glucast model` writes and every inference worker follows."""

from typing import Literal

from pydantic import Field

from schemas.record import HexDigest, Record, Time

SERVED = "served"
"""The only key of the topic."""


class ModelChoice(Record):
    """On ``cgm.model-choices``: this model serves from now on, and the one before goes on on trial."""

    record_version: Literal[1] = 1
    model: str = Field(description="Its kind, as fan charts name it.")
    model_fingerprint: HexDigest = Field(description="As it is on the machine where it was chosen.")
    previous_model: str
    previous_fingerprint: HexDigest = Field(description="What a rollback brings back.")
    chosen_at: Time
    model_content: str = Field(
        default="", description="A digest of its files, the same on every machine; empty in a choice of before."
    )
    previous_content: str = Field(default="", description="That of the model before.")
