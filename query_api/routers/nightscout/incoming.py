"""An entry as a sender uploads it: the reading that it becomes, and what the sender is told.

Nothing is judged here but whether an entry is one of sensor glucose at all. What cannot be a reading is sent as it is
and comes back as an outcome that says why, so that one bad value never makes a sender repeat the others for ever.
"""

import datetime
import hashlib
import math
from collections.abc import Iterable
from typing import Any, Literal, TypeGuard

import orjson

from agents.core.directions import KNOWN
from agents.core.local_time import zone
from query_api.sent_readings import as_it_is_told
from schemas.record import FIRST_YEAR, LAST_YEAR, LATEST_MS

Entry = dict[str, Any]

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
LONGEST = 128
MOST_OFFSET_MINUTES = 14 * 60
MOST_NOISE = 100


def reading_of(
    entry: Entry,
    subject_id: str,
    timezone: str,
    unit: Literal["mg/dL", "mmol/L"] = "mg/dL",
    default_device: str | None = None,
) -> bytes:
    """The reading on ``cgm.readings`` that an entry is; null stands where it has no time or no number.

    `default_device`: the name of one that the entry does not name, by the key that it came with.
    """
    time = moment_of(entry, timezone)
    sgv, noise, direction, device = (entry.get(name) for name in ("sgv", "noise", "direction", "device"))
    fields = {
        "subject_id": subject_id,
        "time": None if time is None else time.isoformat(),
        "glucose": sgv if _is_number(sgv) else None,
        "unit": unit,
        "noise": noise if isinstance(noise, int) and _is_number(noise) and 0 <= noise <= MOST_NOISE else None,
        "direction": direction if isinstance(direction, str) and direction in KNOWN else None,
        "device": device[:LONGEST] if isinstance(device, str) and device else default_device,
        "reading_id": next((text[:LONGEST] for name in _IDS if isinstance(text := entry.get(name), str)), None),
    }
    return orjson.dumps({name: value for name, value in fields.items() if value is not None or name in _NEEDED})


_IDS = ("_id", "identifier", "id")
_NEEDED = ("time", "glucose")


SENSOR_STARTS = ("Sensor Start", "Sensor Change")
"""Event types of treatments by which a new sensor begins."""
MOST_STARTS = 4
"""Of one request, the latest: earlier ones lie before every window."""


def sensor_starts(documents: Iterable[Any], timezone: str) -> list[datetime.datetime]:
    """When treatments say that sensors were started, oldest first."""
    found = set()
    for each in documents:
        if not isinstance(each, dict) or each.get("eventType") not in SENSOR_STARTS or each.get("isValid") is False:
            continue
        told = {"date": each.get("mills", each.get("date")), "dateString": each.get("created_at"),
                "utcOffset": each.get("utcOffset")}  # fmt: skip
        time = moment_of(told, timezone)
        if time is not None and FIRST_YEAR <= time.year <= LAST_YEAR:
            found.add(time)
    return sorted(found)[-MOST_STARTS:]


def moment_of(entry: Entry, timezone: str) -> datetime.datetime | None:
    """When it was measured, on the clock of the person; None where neither `date` nor `dateString` is a time.

    The offset is the sender's where one is told: in `dateString`, or as `utcOffset`. Z says nothing, nor does an offset
    of 0 minutes beside it, which Nightscout puts there: then the clock is that of `timezone`.
    """
    text = entry.get("dateString")
    said, is_utc = _read(text) if isinstance(text, str) else (None, False)
    time = _of_milliseconds(entry.get("date"))
    try:
        if time is None:
            if said is None:
                return None
            time = said if said.tzinfo else as_it_is_told(said, zone(timezone))
        if said is not None and said.tzinfo and not is_utc:
            return time.astimezone(said.tzinfo)
        minutes = entry.get("utcOffset")
        if _is_number(minutes) and 0 < abs(minutes) <= MOST_OFFSET_MINUTES:
            return time.astimezone(datetime.timezone(datetime.timedelta(minutes=int(minutes))))
        return time.astimezone(zone(timezone))
    except (OverflowError, ValueError):
        return None


def echoed(entry: Any, subject_id: str, timezone: str) -> Entry:
    """What a sender is told of its entry: the entry, with an id that a repeat and a correction keep."""
    if not isinstance(entry, dict):
        return {"_id": digest_of(subject_id, entry)}
    time = moment_of(entry, timezone)
    kind = str(entry.get("type", "sgv" if "sgv" in entry else "entry"))
    if time is None:
        return entry | {"_id": digest_of(subject_id, entry)}
    utc = utc_text(time)
    return entry | {
        "_id": entry_id(subject_id, kind, time),
        "sysTime": utc,
        "dateString": utc,
        "utcOffset": offset_minutes(time),
    }


def entry_id(subject_id: str, kind: str, time: datetime.datetime) -> str:
    """24 hexadecimal digits, as MongoDB's ids have: of whose, which type and when."""
    return hashlib.sha256(f"{subject_id}|{kind}|{milliseconds(time)}".encode()).hexdigest()[:24]


def digest_of(subject_id: str, document: Any) -> str:
    """The same of something that has no time. Raises `orjson.JSONEncodeError` where it is nested too deep."""
    canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(subject_id.encode() + b"|" + canonical).hexdigest()[:24]


def milliseconds(time: datetime.datetime) -> int:
    """Since 1970."""
    return (time - EPOCH) // datetime.timedelta(milliseconds=1)


def utc_text(time: datetime.datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as Nightscout writes it."""
    return time.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def offset_minutes(time: datetime.datetime) -> int:
    return (time.utcoffset() or datetime.timedelta()) // datetime.timedelta(minutes=1)


def _of_milliseconds(date: Any) -> datetime.datetime | None:
    if not _is_number(date) or not 0 < date <= LATEST_MS:
        return None
    return EPOCH + datetime.timedelta(milliseconds=round(date))


def _read(text: str) -> tuple[datetime.datetime | None, bool]:
    """A time in ISO 8601, its offset with or without colon, and whether it is told in UTC by a Z."""
    try:
        return datetime.datetime.fromisoformat(text[:64].upper()), text[-1:] in ("Z", "z")
    except ValueError:
        return None, False


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
