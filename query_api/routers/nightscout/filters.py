"""What readers ask for in a query: ``count`` and the few ``find[…]`` that they send. Anything else of these is refused.

Other names are left alone: clients add ``rr`` or ``ts`` against caches.
"""

import dataclasses
import datetime
import re
from collections.abc import Iterable
from typing import Any

from query_api.routers.nightscout.incoming import EPOCH
from schemas.errors import RejectedError
from schemas.reading import Reading
from schemas.record import LATEST_MS

MOST = 5760
_FIND = re.compile(r"find\[(\w+)\](?:\[\$(\w+)\])?")
_FIRST = datetime.datetime(1900, 1, 1, tzinfo=datetime.UTC)
_LAST = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)
_STEP = datetime.timedelta(milliseconds=1)
COUNTS = "^[1-9][0-9]{0,8}$"
"""A count as text, for the API's description: `_count` says what is wrong with another one."""
COUNT: dict[str, Any] = {
    "name": "count",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": 10},
}
PARAMETERS = [
    COUNT,
    *(
        {"name": f"find[{field}][${bound}]", "in": "query", "schema": schema}
        for field, schema in (
            ("date", {"type": "number", "minimum": 0, "maximum": LATEST_MS - 1}),
            ("dateString", {"type": "string", "format": "date-time"}),
        )
        for bound in ("gt", "gte", "lt", "lte")
    ),
    *({"name": name, "in": "query", "schema": {"type": "string"}} for name in ("find[type]", "find[device]")),
]
"""For the API's description."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which readings: at most `count`, times in [first, last]."""

    count: int = 10
    first: datetime.datetime | None = None
    last: datetime.datetime | None = None
    glucose: bool = True
    device: str | None = None

    def takes(self, reading: Reading) -> bool:
        """What the time does not tell already."""
        return self.glucose and (self.device is None or reading.device == self.device)


def wanted(query: Iterable[tuple[str, str]]) -> Wanted:
    """Raises `RejectedError` for a count or filter that is none, in words that repeat no value."""
    found = Wanted()
    for name, text in query:
        if name == "count":
            found = dataclasses.replace(found, count=_count(text))
        elif name.startswith("find"):
            match = _FIND.fullmatch(name)
            if match is None:
                raise RejectedError("a filter is like find[date][$gte]")
            found = _narrowed(found, match[1], match[2] or "eq", text)
    return found


def _narrowed(found: Wanted, field: str, how: str, text: str) -> Wanted:
    if field in ("date", "dateString", "created_at", "sysTime"):
        time = _time_of(field, text)
        if how in ("gt", "gte", "eq"):
            first = time + _STEP if how == "gt" else time
            found = dataclasses.replace(found, first=max(first, found.first or first))
        if how in ("lt", "lte", "eq"):
            last = time - _STEP if how == "lt" else time
            found = dataclasses.replace(found, last=min(last, found.last or last))
        if how in ("gt", "gte", "lt", "lte", "eq"):
            return found
    if field == "type" and how in ("eq", "ne"):
        return dataclasses.replace(found, glucose=found.glucose and (text == "sgv") == (how == "eq"))
    if field == "device" and how == "eq":
        return dataclasses.replace(found, device=text)
    raise RejectedError("filters here are find[date] and find[dateString] with $gt, $gte, $lt, $lte, find[type] and "
                        "find[device]")  # fmt: skip


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise RejectedError("count is a number from 1 on")
    return min(int(text), MOST)


def _time_of(field: str, text: str) -> datetime.datetime:
    """Milliseconds since 1970, or a date and time; one without an offset is in UTC."""
    try:
        if field == "date" or re.fullmatch(r"\d{9,16}(\.\d*)?", text):
            value = float(text)
            if not 0 <= value < LATEST_MS:
                raise ValueError
            return EPOCH + datetime.timedelta(milliseconds=value)
        # A plus sign that nobody encoded comes as a space.
        time = datetime.datetime.fromisoformat(re.sub(r" (?=\d\d:?\d\d$)", "+", text))
        time = (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
        return min(max(time, _FIRST), _LAST)
    except (ValueError, OverflowError):
        raise RejectedError(f"find[{field}] is compared with a time, in the form that {field} has") from None
