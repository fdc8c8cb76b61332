"""Orders about a subject: begin anew with whom a reading of a wrong clock blocks, or erase all that tables know of one.

An order is a message of ``cgm.readings``: the subject as its key, no value, the header `reset` or `erase`. Only there
is each reading before or after it, by its offset, whoever reads it and however often. Readings before it are forgotten
and stay so: one that is delivered again changes nothing. Those after it are what the window holds, also when the order
itself is delivered again, be it days later, because the group was set back: that repeats what a crash may have lost of
it, and ends nothing that began behind it.

``forgotten/<digest of the subject>`` in the table of the windows remembers the order, without the name: who has been
erased is in no table. It goes with a later order, once no reading from before it can be left on the topic;
``forgotten-since/<time>/<digest>`` keeps these in order of time.
"""

import datetime
import struct
from typing import Literal, NamedTuple

from pydantic import ValidationError

from agents.core import fingerprint
from agents.core.rolling_window import RollingWindow
from agents.ingest import glucose_days, subject_expiry
from agents.work import Message, Work
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError
from schemas.reading import ERASE, REROUTED, RESET, ReadingOutcome
from schemas.record import subject_ids
from schemas.tables import SUBJECTS_TABLE as TABLE
from schemas.topics import CACHE_COMMANDS, DAY_MS, READING_OUTCOMES, READINGS, longest_kept_ms

Order = Literal["reset", "erased"]
Done = Literal["now", "before", "superseded"]
"""Whether an order is carried out for the first time, is the last that was, or there has been a later one since."""

_REASONS: dict[Order, str] = {
    "reset": "the subject was reset: a forecast needs 8 h of readings after it",
    "erased": "the subject was erased from all tables; records on topics stay there until they expire",
}
_FORGOTTEN: dict[Order, str] = {
    "reset": "the subject was reset after this reading: send it again if it shall count",
    "erased": "the subject was erased after this reading",
}

MARKERS_KEPT_MS = longest_kept_ms(READINGS) + DAY_MS
"""A reading that is delivered again, even after Kafka has lost the end of a log, is no older than that."""

_MARKER = struct.Struct("<qq?")
_MARKERS, _BY_TIME = "forgotten/", "forgotten-since/"


class _Marker(NamedTuple):
    """The last order about a subject: its offset and time, and whether the subject was erased."""

    offset: int
    time_ms: int
    erased: bool


def order_of(message: Message) -> Order | None:
    """What a message of the topic orders; None for a reading."""
    if message.value:
        return None
    return "erased" if ERASE in message.headers else "reset" if RESET in message.headers else None


def subject_of(message: Message) -> str:
    """Whom an order is about. Raises `MalformedRecordError` for a key that names no subject."""
    try:
        return subject_ids().validate_python((message.key or b"").decode(), strict=True)
    except (UnicodeDecodeError, ValidationError):
        raise MalformedRecordError("an order to reset or erase a subject has the subject as its key") from None


def forgotten(work: Work, subject_id: str) -> tuple[str, str] | None:
    """Code and reason of the outcome of a reading that came before an order that was done already.

    One that was sent on from another partition came when it was there.
    """
    marker = _marker(work, subject_id)
    if marker is None:
        return None
    sent_on = work.message.headers.get(REROUTED)
    if work.message.first_offset >= marker.offset and (sent_on is None or _milliseconds(sent_on) > marker.time_ms):
        return None
    order: Order = "erased" if marker.erased else "reset"
    return order, _FORGOTTEN[order]


def is_erased(work: Work, subject_id: str, came_ms: int) -> bool:
    """Whether somebody was erased after something of them came at this time."""
    marker = _marker(work, subject_id)
    return marker is not None and marker.erased and came_ms <= marker.time_ms


def began_ms(work: Work, subject_id: str) -> int:
    """When what begins with this message begins: by its time, and after the last order whatever that says."""
    marker = _marker(work, subject_id)
    return max(work.message.came_ms, 0 if marker is None else marker.time_ms + 1)


def carry_out(work: Work, order: Order, subject_id: str, late_slots: int, report_days: int) -> Done:
    """Forget the readings before this message, and have the forecasts that were made of them removed.

    The marker is written behind all else that this table loses: where it lies, the rest was done.
    """
    message, offset, came_ms = work.message, work.message.first_offset, work.message.came_ms
    work.erases = order == "erased"
    marker = _marker(work, subject_id)
    own = _Marker(offset, max(0, came_ms), order == "erased")
    done: Done = "now" if marker is None or offset >= marker.offset else "superseded"
    if marker == own:  # and no other order at an offset that a Kafka which lost something gave out again
        done = "before"
    if marker is not None and message.first and done == "superseded" and (marker.erased or order == "reset"):
        return done  # of a dead letter nobody is told, who would forget what came after the order that did as much
    window = RollingWindow.from_bytes(work.get(TABLE, subject_id), late_slots)
    if done == "now":
        window.slots = {slot: held for slot, held in window.slots.items() if held.message_offset > offset}
        window.displaced = [each for each in window.displaced if each.held.message_offset > offset]
        window.disagreements = [each for each in window.disagreements if each.by_offset > offset]
        window.hours = {}
        if window.slots:
            work.put(TABLE, subject_id, window.to_bytes())
        else:
            work.delete(TABLE, subject_id)
            if order == "erased":
                subject_expiry.forget(work, subject_id)
        _mark(work, subject_id, own)
    if done != "superseded":
        glucose_days.make_anew(work, subject_id, window, report_days, began_ms(work, subject_id))
    if message.first is not None:
        work.sends_first = True  # so where the marker lies, it was told
        if done == "before":
            return done
    identity = fingerprint.order_id(order, subject_id, message.partition, offset)
    outcome = ReadingOutcome(
        outcome_id=identity,
        subject_id=subject_id,
        status=order,
        reason=_REASONS[order],
        time=datetime.datetime.fromtimestamp(came_ms / 1000, datetime.UTC),
    )
    work.publish(READING_OUTCOMES, subject_id, outcome)
    command = CacheCommand(
        action="reset",
        command_id=identity,
        up_to_ms=came_ms,
        series_key=subject_id,
        erases=order == "erased",
    )
    work.send(CACHE_COMMANDS, subject_id, command.to_json())
    return done


def read_marker(key: str, row: bytes) -> tuple[str, int] | None:
    """Of a row of the table: whose order it remembers (`fingerprint.subject_digest`) and of when (Unix ms), if any."""
    if not key.startswith(_MARKERS) or len(row) != _MARKER.size:
        return None
    return key.removeprefix(_MARKERS), _Marker(*_MARKER.unpack(row)).time_ms


def _marker(work: Work, subject_id: str) -> _Marker | None:
    row = work.get(TABLE, _MARKERS + fingerprint.subject_digest(subject_id))
    return None if row is None else _Marker(*_MARKER.unpack(row))


def _mark(work: Work, subject_id: str, marker: _Marker) -> None:
    """Remember an order; orders that nothing needs any more go."""
    digest = fingerprint.subject_digest(subject_id)
    for entry in work.keys(TABLE, _BY_TIME):
        time, _, of = entry.removeprefix(_BY_TIME).partition("/")
        if not of or int(time) >= marker.time_ms - MARKERS_KEPT_MS:  # behind all times lies a subject of this name
            break
        work.delete(TABLE, entry)
        work.delete(TABLE, _MARKERS + of)
    earlier = _marker(work, subject_id)
    if earlier is not None:
        work.delete(TABLE, _entry(earlier, digest))
    work.put(TABLE, _MARKERS + digest, _MARKER.pack(*marker))
    work.put(TABLE, _entry(marker, digest), b"1")


def _entry(marker: _Marker, digest: str) -> str:
    return f"{_BY_TIME}{marker.time_ms:015d}/{digest}"


def _milliseconds(sent_on: bytes) -> int:
    """When a message that was sent on had come; anybody may write the header, and then it came before everything."""
    return int(sent_on) if sent_on.isdigit() and len(sent_on) <= len("253402300799999") else -1
