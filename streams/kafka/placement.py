"""Which broker leads which partition: of all topics the same one leads a partition of the same number.

A subject's readings, windows, forecasts and rows have the same partition number in every topic. Left to itself Kafka
begins each topic at another broker, so what one reading leads to goes to all of them in requests of its own; led by one
broker it goes there together, and a broker that fails stops the same people in every topic instead of everybody in one.
"""

from collections.abc import Mapping

Assignments = dict[int, list[int]]
"""By partition: the brokers that hold it, its leader first."""


def assignments(brokers: Mapping[int, str | None], partitions: int, copies: int) -> Assignments | None:
    """Of every new topic; None where Kafka chooses better. `brokers`: their ids, and the rack of each if it has one.

    Kafka spreads copies over racks, and says itself that there are too few brokers.
    """
    if any(brokers.values()) or len(brokers) < max(copies, 2):
        return None
    ids = sorted(brokers)
    return {number: [ids[(number + copy) % len(ids)] for copy in range(copies)] for number in range(partitions)}
