"""Which partition a key belongs to, as Java's default partitioner and every client that follows it decide."""

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a keyed message in a topic of so many partitions."""
    return (int(murmur2(key)) & 0x7FFFFFFF) % partitions
