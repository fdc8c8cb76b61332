"""The order to begin anew with a subject, whom a reading of a wrong clock would keep from forecasts for ever.

It is a message of ``cgm.readings``: the subject as its key, no value, the header `reset`. Only there is each reading
before or after it, by its offset, whoever reads it and however often. Readings before it are forgotten and stay so: one
that is delivered again changes nothing. Those after it are what the window holds, also when the order itself is
delivered again. ``reset/<subject id>`` in the table of the windows remembers the offset.
"""

import datetime
import struct

from pydantic import TypeAdapter, ValidationError

from agents.core import fingerprint
from agents.core.rolling_window import RollingWindow
from agents.work import Message, Work
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError
from schemas.reading import RESET, ReadingOutcome
from schemas.record import SubjectId
from schemas.tables import SUBJECTS_TABLE as TABLE
from schemas.topics import CACHE_COMMANDS, READING_OUTCOMES

FORGOTTEN = ("reset", "the subject was reset after this reading: send it again if it shall count")
"""Code and reason of the outcome of a reading that is delivered again after a reset."""

_OFFSET = struct.Struct("<q")


def is_reset(message: Message) -> bool:
    return not message.value and RESET in message.headers


def subject_of(message: Message) -> str:
    """Whom a reset is about. Raises `MalformedRecordError` for a key that names no subject."""
    try:
        return TypeAdapter(SubjectId).validate_python((message.key or b"").decode(), strict=True)
    except (UnicodeDecodeError, ValidationError):
        raise MalformedRecordError("a reset has the subject as its key") from None


def is_forgotten(work: Work, subject_id: str) -> bool:
    """Whether the reading in work came before a reset that was done already."""
    row = work.get(TABLE, _key(subject_id))
    return row is not None and work.message.offset < _OFFSET.unpack(row)[0]


def reset(work: Work, subject_id: str, late_slots: int) -> None:
    """Forget the readings before this message, and have the forecasts that were made of them removed."""
    message = work.message
    if not is_forgotten(work, subject_id):
        work.put(TABLE, _key(subject_id), _OFFSET.pack(message.offset))
        window = RollingWindow.from_bytes(work.get(TABLE, subject_id), late_slots)
        window.slots = {slot: held for slot, held in window.slots.items() if held.message_offset > message.offset}
        window.displaced = [each for each in window.displaced if each.held.message_offset > message.offset]
        window.hours = {}
        if window.slots:
            work.put(TABLE, subject_id, window.to_bytes())
        else:
            work.delete(TABLE, subject_id)
    identity = fingerprint.reset_id(subject_id, message.partition, message.offset)
    outcome = ReadingOutcome(
        outcome_id=identity,
        subject_id=subject_id,
        status="reset",
        reason="the subject was reset: a forecast needs 8 h of readings after it",
        time=datetime.datetime.fromtimestamp(message.timestamp_ms / 1000, datetime.UTC),
    )
    work.send(READING_OUTCOMES, subject_id, outcome.to_json())
    command = CacheCommand(
        action="reset", command_id=identity, up_to_ms=message.timestamp_ms, series_key=subject_id
    )  # fmt: skip
    work.send(CACHE_COMMANDS, subject_id, command.to_json())


def _key(subject_id: str) -> str:
    return f"reset/{subject_id}"  # no subject id holds a slash
