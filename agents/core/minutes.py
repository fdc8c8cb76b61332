"""Bands of the day in which somebody wants to be told: minutes of the local day, from and to, over midnight too."""

from schemas.alert import Band

Minutes = tuple[int, int]


def band_of(active: Band | None) -> Minutes | None:
    """Of ``22:00-07:00``; None is all day."""
    return None if active is None else (_minute(active[:5]), _minute(active[6:]))


def in_band(band: Minutes | None, minute: int) -> bool:
    """Whether a minute of the day lies in a band; one that begins when it ends is all day."""
    if band is None:
        return True
    begin, end = band
    return begin <= minute < end if begin < end else minute >= begin or minute < end


def _minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])
