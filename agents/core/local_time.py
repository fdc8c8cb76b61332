"""Local times: vendor files say only what the wall clock showed; a timezone name turns that into an instant."""

import datetime
import re
import zoneinfo

from schemas.errors import ImplausibleError

_OFFSET = re.compile(r"([+-])(\d{2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_WALL_EPOCH = datetime.datetime(1970, 1, 1)


def zone(timezone: str) -> datetime.tzinfo:
    """An IANA name or an offset like ``+02:00`` as tzinfo. Raises `ImplausibleError` for anything else."""
    offset = _OFFSET.fullmatch(timezone)
    if offset:
        sign, hours, minutes, seconds = offset.groups(default="0")
        shift = datetime.timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds))
        if shift < datetime.timedelta(days=1):
            return datetime.timezone(-shift if sign == "-" else shift)
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise ImplausibleError(
            f"unknown timezone {timezone[:64]!r}: use an IANA name such as Europe/Berlin, or UTC"
        ) from None


def offset_text(time: datetime.datetime) -> str:
    """The UTC offset of an aware time as ``+02:00``."""
    seconds = int((time.utcoffset() or datetime.timedelta()).total_seconds())
    hours, rest = divmod(abs(seconds), 3600)
    text = f"{'-' if seconds < 0 else '+'}{hours:02}:{rest // 60:02}"
    return f"{text}:{rest % 60:02}" if rest % 60 else text


def wall_clock(local_seconds: int) -> datetime.datetime:
    """Seconds of local time since 1970-01-01T00:00 as a naive time."""
    return _WALL_EPOCH + datetime.timedelta(seconds=local_seconds)


def wall_seconds(time: datetime.datetime) -> int:
    """What the wall clock of a time shows, as seconds since 1970-01-01T00:00, whatever its offset."""
    return (time.replace(tzinfo=None) - _WALL_EPOCH) // datetime.timedelta(seconds=1)


def utc_seconds(local_seconds: int, timezone: str) -> int:
    """The Unix time of what the wall clock of a timezone shows. Raises `ImplausibleError` where it has no such time."""
    try:
        shift = zone(timezone).utcoffset(wall_clock(local_seconds)) or datetime.timedelta()
    except OverflowError:
        raise ImplausibleError("the time is before the year 1 or after 9999") from None
    return local_seconds - int(shift.total_seconds())


def spoken(minutes: int) -> str:
    """A duration for a person: ``8 h 55 min``."""
    hours, rest = divmod(minutes, 60)
    return " ".join([f"{hours} h"] * bool(hours) + [f"{rest} min"] * bool(rest or not hours))
