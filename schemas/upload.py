"""What became of an uploaded vendor export."""

from typing import Literal

from pydantic import Field

from schemas.record import BEGAN, HexDigest, Record, SmallInteger, UnixMilliseconds

OWNER = "owner"
"""Header of a file on ``cgm.uploads``: whose it is (`fingerprint.owner_of`); without it the file is everybody's."""
MOST_UPLOADS = 32
"""Files that are known to have given one handle; the oldest go first."""


class ProcessingWarnings(Record):
    """What the cleaning of a file found, as flags and as sentences ``NAME: description``."""

    has_warnings: bool = False
    too_short: bool = False
    calibration: bool = False
    quality: bool = False
    imputation: bool = False
    out_of_range: bool = False
    time_duplicates: bool = False
    messages: tuple[str, ...] = ()


class UploadOutcome(Record):
    """What became of one upload, on ``cgm.upload-outcomes`` (compacted), keyed by `upload_id`; one each."""

    upload_id: HexDigest = Field(description="Hash of the raw bytes and of how they are to be read.")
    status: Literal["accepted", "rejected"]
    code: str | None = None
    reason: str | None = Field(default=None, description="Why it was rejected, for the person who sent it.")
    handle: HexDigest | None = Field(default=None, description="Content hash of the unified series.")
    series_key: str | None = Field(
        default=None, description="The partition key of everything that belongs to the handle."
    )
    began_ms: UnixMilliseconds = Field(default=0, alias="epoch_ms", description=BEGAN)
    points: SmallInteger = 0
    total_samples: SmallInteger = 0
    first_time: str | None = Field(default=None, description="Local time of the first point, as in the file.")
    last_time: str | None = None
    timezone: str = "UTC"
    served_by: HexDigest | None = Field(
        default=None,
        description="A longer series whose verified suffix this one is: its forecasts serve this handle.",
    )
    warnings: ProcessingWarnings = ProcessingWarnings()
    owner: HexDigest | None = Field(
        default=None, description="Whose it is, a digest: set where it was sent with a key of single people."
    )

    @property
    def event_id(self) -> str:
        """A file that is sent again at another time has another outcome."""
        return f"{self.upload_id}/{self.began_ms}/{self.status}"
