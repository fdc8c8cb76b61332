"""How many bytes of messages an App may hold, divided so that no flood stops anybody else: pure bookkeeping.

Each topic that an App reads has a part of the room, by how large its messages may be, and each of its partitions a part
of that. So uploads of 12 MiB come a few at a time, one at least, and readings beside them as if there were none.
"""

from collections import Counter
from collections.abc import Mapping

from faust.types import TP

from schemas.topics import largest_message
from streams.kafka.fetched import MOST_TAKEN_BYTES


class Room:
    """For one fetch: what there is room for, given what is held, and less with every message that is taken.

    All together stay within the limit, as long as a topic's part of it has room for `MOST_TAKEN_BYTES` and one message.
    """

    def __init__(self, limit_bytes: int, held: Mapping[TP, int]) -> None:
        """`held`: bytes of each partition that counts, waiting or under way; of others as much is taken as comes."""
        self._held = Counter(held)
        self._partitions = Counter(tp.topic for tp in held)
        self._of_topic: Counter[str] = Counter()
        for tp, size in held.items():
            self._of_topic[tp.topic] += size
        largest = {topic: largest_message(topic) for topic in self._partitions}
        self._parts = {topic: limit_bytes * size // sum(largest.values()) for topic, size in largest.items()}

    def has(self, tp: TP) -> bool:
        """Whether more of the partition may be taken: a topic of which nothing is held always has room for one."""
        part, held = self._parts.get(tp.topic), self._of_topic[tp.topic]
        if part is None or held == 0:
            return True
        if held + MOST_TAKEN_BYTES + largest_message(tp.topic) > part:
            return False
        return self._held[tp] * self._partitions[tp.topic] < part

    def take(self, tp: TP, size: int) -> None:
        """So many bytes of the partition are held from now on."""
        self._held[tp] += size
        self._of_topic[tp.topic] += size
