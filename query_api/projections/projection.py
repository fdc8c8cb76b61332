"""What a projection is: the records of one topic in, rows of the read model and notifications out."""

from collections.abc import Iterable
from typing import Protocol

from schemas.topics import Topic

Notification = tuple[str, object]
"""A key that somebody may have subscribed to, and what has arrived under it."""


class Projection(Protocol):
    """One followed topic. It owns the rows whose keys begin with its own prefixes; views over them are its methods."""

    topic: Topic

    def apply(self, key: str, value: bytes | None) -> Iterable[Notification]:
        """Stage the rows that a record changes, and say who has to know.

        Whatever it raises, the record is skipped and counted, and nothing that it staged counts.
        """
