"""Which deliveries there have been: ids kept for a while after their events ended, in little room.

A process that tells a webhook 40 forecasts a second remembers 180,000 of them: with their texts and times that took
56 MiB, as numbers in a set for each minute in which they are forgotten it takes 17.
"""

import datetime
from collections import defaultdict

_MINUTE = 60
_DIGITS = 32
"""Of an id: half of it is more than enough to tell it from any other."""


class Remembered:
    """Ids in hexadecimal, each until `kept_for` after its end, to the minute."""

    def __init__(self, kept_for: datetime.timedelta) -> None:
        self._kept_for = kept_for
        self._by_minute: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        """By partition and the minute at whose end they are forgotten."""

    def add(self, key: str, end: datetime.datetime, partition: int) -> None:
        """Remember the id of a delivery whose event ends then."""
        minute = int(end.timestamp() + self._kept_for.total_seconds()) // _MINUTE
        self._by_minute[partition, minute].add(number_of(key))

    def __contains__(self, key: str) -> bool:
        number = number_of(key)
        return any(number in numbers for numbers in self._by_minute.values())

    def forget(self, partition: int) -> None:
        """Those of a partition that somebody else takes over."""
        for place in [place for place in self._by_minute if place[0] == partition]:
            del self._by_minute[place]

    def tidy(self, now: datetime.datetime) -> None:
        """Let go what need not be remembered any more."""
        minute = int(now.timestamp()) // _MINUTE
        for place in [place for place in self._by_minute if place[1] < minute]:
            del self._by_minute[place]

    def __len__(self) -> int:
        return sum(map(len, self._by_minute.values()))


def number_of(key: str) -> int:
    """Of an id in hexadecimal: a number that is as good as the whole of it, and takes less room."""
    return int(key[:_DIGITS], 16)
