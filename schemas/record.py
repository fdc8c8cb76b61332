"""The base of every record that travels as JSON: frozen, strict in writing, tolerant of unknown fields."""

import functools
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from schemas.errors import MalformedRecordError
from schemas.grid import EARLIEST_SLOT, LATEST_SLOT

SUBJECT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@-]*$"
SubjectId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=SUBJECT_PATTERN)]
"""Whose glucose it is: letters, digits and ``. _ : @ -``, at most 128, chosen by the integration."""

HexDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest in lower-case hexadecimal."""

Time = AwareDatetime
"""A point in time with its offset from UTC (RFC 3339 on topics)."""

FIRST_YEAR, LAST_YEAR = 1970, 9998
"""Of a time that hours are added to or that another offset shows: Unix time from its beginning on, as far as a day
behind it still has a date."""

BEGAN = "Unix milliseconds at which what led to this began; a delete ends what began up to its own time."
"""Of the field `began_ms`, which is called epoch_ms on topics."""


def _possible(milliseconds: int) -> int:
    if not 0 <= milliseconds <= LATEST_MS:
        raise ValueError("a Unix time in milliseconds lies between 1970 and 9999")
    return milliseconds


LATEST_MS = 253_402_300_799_999
"""The end of the year 9999 in Unix milliseconds, the last that a date can name."""

UnixMilliseconds = Annotated[int, AfterValidator(_possible)]
"""Checked when a record is read, and not in its schema: older readers' schemas stay valid. So are the next ones."""


def _name(text: str) -> str:
    if not 0 < len(text) <= LONGEST_NAME or "/" in text or not text.isprintable():
        raise ValueError(f"a name has 1 to {LONGEST_NAME} printable characters and no slash")
    return text


LONGEST_NAME = 512

Name = Annotated[str, AfterValidator(_name)]
"""An id or key that others chose: it becomes part of the keys of tables and is repeated in every outcome."""


def _fits(bits: int) -> Callable[[int], int]:
    def check(number: int) -> int:
        if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            raise ValueError(f"the number does not fit {bits} bits")
        return number

    return check


SmallInteger = Annotated[int, AfterValidator(_fits(32))]
"""A count or an index: larger ones are none of ours, and not every reader of JSON knows them."""
LongInteger = Annotated[int, AfterValidator(_fits(64))]
"""A seed."""


def _slot(number: int) -> int:
    if not EARLIEST_SLOT <= number <= LATEST_SLOT:
        raise ValueError("a slot lies between 1900 and 9999")
    return number


Slot = Annotated[int, AfterValidator(_slot)]
"""A UTC 5-minute slot (`schemas.grid.slot_of`)."""


class Record(BaseModel):
    """A value that travels as JSON. Unknown fields are ignored, so that additive changes do not break older readers."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", ser_json_inf_nan="null", allow_inf_nan=False,
        populate_by_name=True, serialize_by_alias=True, hide_input_in_errors=True,
    )  # fmt: skip

    def to_json(self) -> bytes:
        """The record as UTF-8 JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def from_json(cls, data: bytes | None) -> Self:
        """Read a record; raises `MalformedRecordError` with the first few reasons in words, never with the values."""
        if not data:
            raise MalformedRecordError(f"empty message where a {cls.__name__} in JSON was expected")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise cls._malformed(error) from None

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """Read a decoded record, whose names and types are those of its JSON. Raises `MalformedRecordError`."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise cls._malformed(error) from None

    @classmethod
    def _malformed(cls, error: ValidationError) -> MalformedRecordError:
        reasons = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'message'}: {item['msg']}"
            for item in error.errors(include_input=False)[:3]
        )
        return MalformedRecordError(f"not a valid {cls.__name__}: {reasons}")


@functools.cache
def subject_ids() -> TypeAdapter[str]:
    """What tells a subject's id from any other value, outside of a record. Making it takes longer than a reading."""
    return TypeAdapter(SubjectId)
