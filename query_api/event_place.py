"""Where a client stands in the followed topics: what an event's ``id`` says, and what `Last-Event-ID` brings back.

An id is text: the first eight digits of the SHA-256 of the Kafka cluster's id, then for each partition whose events the
client is told a dot, the partition's number and, each behind a dash, the next offset of every topic of `SOURCES`, in
their order. So of one person, whose records lie in one partition of each topic:

    5f0c9a3b.2-1733-12-0-1745-1733-1733

Offsets are Kafka's: any replica goes on where another one stopped, once it has come there, also after a restart, and
none tells twice what lies before them. Replicas may tell records of different topics in different orders, which is why
one number is not enough.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Self

from schemas.topics import READING_OUTCOMES
from streams.topology import ALERTS_CHANGELOG, CHART_CHANGELOGS, SCORES_CHANGELOG

SOURCES: tuple[str, ...] = (
    *(CHART_CHANGELOGS[lane].name for lane in ("live", "backfill", "interactive")),
    READING_OUTCOMES.name,
    ALERTS_CHANGELOG.name,
    SCORES_CHANGELOG.name,
)
"""The topics whose records become events. Ids name them by their place here: another order is another cluster's."""

LONGEST_ID = 32 << 10
_OFFSETS = rf"(?:-[0-9]{{1,19}}){{{len(SOURCES)}}}"
_ID = re.compile(rf"[0-9a-f]{{8}}(?:\.[0-9]{{1,3}}{_OFFSETS})+")


def tag_of(cluster: str) -> str:
    """Which cluster's offsets an id holds."""
    return hashlib.sha256(cluster.encode()).hexdigest()[:8]


class Place:
    """The next offset of each source of some partitions. It moves on as events are told."""

    def __init__(self, tag: str, offsets: dict[int, list[int]]) -> None:
        self.tag = tag
        self._offsets = offsets

    @classmethod
    def at(cls, tag: str, partitions: Iterable[int], reached: Callable[[str, int], int]) -> Self:
        """Behind everything that was reached: `reached` tells the next offset of a topic's partition."""
        return cls(tag, {number: [reached(topic, number) for topic in SOURCES] for number in partitions})

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The place that an id names; None for what is no id of this form."""
        if len(text) > LONGEST_ID or not _ID.fullmatch(text):
            return None
        tag, *parts = text.split(".")
        numbers = [[int(number) for number in part.split("-")] for part in parts]
        return cls(tag, {partition: offsets for partition, *offsets in numbers})

    def __str__(self) -> str:
        parts = ("-".join(map(str, (number, *offsets))) for number, offsets in sorted(self._offsets.items()))
        return ".".join((self.tag, *parts))

    @property
    def partitions(self) -> frozenset[int]:
        return frozenset(self._offsets)

    def next(self, source: int, partition: int) -> int:
        """The next offset; 0 of a partition that it does not name."""
        return self._offsets[partition][source] if partition in self._offsets else 0

    def lacks(self, source: int, partition: int, offset: int) -> bool:
        """Whether a record of a partition that it names is yet to be told."""
        return partition in self._offsets and offset >= self._offsets[partition][source]

    def pass_by(self, source: int, partition: int, offset: int) -> None:
        """This offset was told: the next one is the one behind it."""
        self._offsets[partition][source] = max(self._offsets[partition][source], offset + 1)

    def any_exceeds(self, limit: Callable[[str, int], int]) -> bool:
        """Whether a next offset lies beyond that of a topic's partition."""
        return any(
            offset > limit(SOURCES[source], partition)
            for partition, offsets in self._offsets.items()
            for source, offset in enumerate(offsets)
        )
