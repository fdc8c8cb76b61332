"""A kept reading as Nightscout's readers expect an entry."""

import datetime
from collections.abc import Sequence
from typing import Any

from agents.core.directions import change_of, direction_of
from query_api.routers.nightscout.incoming import entry_id, milliseconds, offset_minutes, utc_text
from schemas.grid import MGDL_PER_MMOLL
from schemas.reading import Reading


def entry_of(newest_first: Sequence[Reading]) -> dict[str, Any]:
    """The entry of the first of two readings; the other, which came before it, tells the change where it is near."""
    reading, change = newest_first[0], change_of(newest_first)
    time = utc_text(reading.time)
    entry = {
        "_id": entry_id(reading.subject_id, "sgv", reading.time),
        "type": "sgv",
        "sgv": sgv_of(reading),
        "date": milliseconds(reading.time),
        "dateString": time,
        "sysTime": time,
        "utcOffset": offset_minutes(reading.time),
        "direction": direction_of(newest_first),
        "delta": 0 if change is None else round(change, 1),  # py-nightscout, so Home Assistant, fails without a number
    }
    return entry | {name: value for name in ("device", "noise") if (value := getattr(reading, name)) is not None}


def sgv_of(reading: Reading) -> int | float:
    """mg/dL as it was sent; what was sent in mmol/L to the nearest whole number, which is all that readers know."""
    if reading.unit == "mmol/L":
        return round(reading.glucose_mgdl)
    return int(reading.glucose) if reading.glucose.is_integer() else reading.glucose


def in_unit(mgdl: float, mmol: bool) -> float | int:
    """For a display."""
    return round(mgdl / MGDL_PER_MMOLL, 1) if mmol else int(mgdl) if float(mgdl).is_integer() else round(mgdl, 1)


def http_time(time: datetime.datetime) -> str:
    """For Last-Modified: whole seconds, rounded up, so that nothing is newer than it says."""
    whole = time.astimezone(datetime.UTC).replace(microsecond=0)
    if whole < time:
        whole += datetime.timedelta(seconds=1)
    return whole.strftime("%a, %d %b %Y %H:%M:%S GMT")
