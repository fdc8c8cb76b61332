"""A reading out of what was sent of it: on every door but the Nightscout site, which judges nothing itself.

A key of one person says more than its sender: by which clock they live, where a time is told in UTC or without an
offset, and what the device is called that has no name.
"""

import datetime
from typing import Any

import orjson
from pydantic import ValidationError

from agents.core.local_time import zone
from query_api.key_file import Key
from schemas.errors import RejectedError
from schemas.grid import HIGHEST_MGDL, LOWEST_SENSOR_MGDL
from schemas.reading import Reading

LONGEST_TIME = 64
_NONE, _LATE, _AHEAD = (datetime.timedelta(minutes=minutes) for minutes in (0, 30, 10))
"""So long after it was measured a reading comes that is told as it is measured, or before, by a clock that is ahead."""


def judged(subject_id: str, item: Any, key: Key | None = None) -> tuple[Reading | None, RejectedError | None]:
    """What is published of a reading that was sent, and what its sender has to change: of an error code both."""
    try:
        reading = reading_of(subject_id, item, key)
    except RejectedError as error:
        return None, error
    if LOWEST_SENSOR_MGDL <= reading.glucose_mgdl <= HIGHEST_MGDL:
        return reading, None
    refusal = RejectedError(
        f"glucose outside {LOWEST_SENSOR_MGDL:.0f} to {HIGHEST_MGDL:.0f} mg/dL is impossible or a sensor's error "
        "code; check unit (mg/dL or mmol/L)"
    )
    return reading if reading.is_error_code else None, refusal


def reading_of(subject_id: str, item: Any, key: Key | None = None) -> Reading:
    """The reading, whatever its glucose; `key` is the one that it came with.

    Raises `RejectedError` with what has to change.
    """
    if not isinstance(item, dict):
        raise RejectedError("a reading is an object with time and glucose")
    if item.get("subject_id", subject_id) != subject_id:
        raise RejectedError("subject_id differs from the one in the path")
    time = item.get("time")
    if isinstance(time, str) and time and not {"-", ":"} & {*time[1:]}:
        # It would be taken for seconds since 1970, or for milliseconds, by its size.
        raise RejectedError("time: a date and time as RFC 3339 has it, like 2026-01-01T08:00:00Z")
    if key is not None and key.subjects == (subject_id,):
        item = _as_the_key_says(item, key)
    try:
        # Strictly: a number in quotes or a truth value may be anything.
        return Reading.model_validate_json(orjson.dumps({**item, "subject_id": subject_id}), strict=True)
    except orjson.JSONEncodeError:
        raise RejectedError("a reading is nested too deep") from None
    except ValidationError as error:
        reasons = [
            f"{'.'.join(map(str, it['loc'])) or 'reading'}: {it['msg']}" for it in error.errors(include_input=False)[:3]
        ]
        raise RejectedError("; ".join(reasons)) from None


def _as_the_key_says(item: dict[str, Any], key: Key) -> dict[str, Any]:
    time, told = item.get("time"), {}
    if isinstance(time, str) and key.timezone is not None:
        told["time"] = _on_clock(time, key.timezone)
    if item.get("device") is None and key.device is not None:
        told["device"] = key.device
    return item | told


def _on_clock(text: str, timezone: str) -> str:
    """The same moment on this clock where it is told by a Z; without an offset it is this clock's time already.

    An offset is the sender's own word, and what is no time is left to be refused as it is.
    """
    if len(text) > LONGEST_TIME or not {"T", "t", " "} & {*text}:
        return text
    try:
        time = datetime.datetime.fromisoformat(text.upper())  # it knows no small t and z
        if time.tzinfo is None:
            return as_it_is_told(time, zone(timezone)).isoformat()
        return time.astimezone(zone(timezone)).isoformat() if text[-1] in "Zz" else text
    except (ValueError, OverflowError):
        return text


def as_it_is_told(shown: datetime.datetime, place: datetime.tzinfo) -> datetime.datetime:
    """When a clock showed this that tells no offset, of somebody who tells it now.

    In the hour that clocks show twice it is the second pass where that is about now, else the first. Taken for the
    first, all of the second would stand in the place of what was measured an hour before, and nothing would be of now.
    """
    first, second = (shown.replace(tzinfo=place, fold=fold) for fold in (0, 1))
    if (first.utcoffset() or _NONE) <= (second.utcoffset() or _NONE):  # shown once, or skipped
        return first
    return second if -_AHEAD <= _now() - second <= _LATE else first


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
