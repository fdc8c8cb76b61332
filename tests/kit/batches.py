"""Record batches made by hand, as no client of ours writes them, and a way to have a broker store them."""

import struct
import zlib
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.errors import NotLeaderForPartitionError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c, encode_varint

from tests.kit.waiting import until_async

ENCODERS: dict[int, Callable[[bytes], bytes]] = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
"""By Kafka's number of the codec."""

_BEFORE_CHECKSUM = struct.Struct(">qiibI")
_AFTER_CHECKSUM = struct.Struct(">hiqqqhii")


def varint(number: int) -> bytes:
    found = bytearray()
    encode_varint(number, found.append)
    return bytes(found)


def field(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def record(
    offset_delta: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """One record of format 2, with its length."""
    told = b"".join(field(name) + field(content) for name, content in headers)
    body = b"\0" + varint(0) + varint(offset_delta) + field(key) + field(value) + varint(len(headers)) + told
    return varint(len(body)) + body


def batch(
    records: Sequence[bytes], codec: int = 0, base_offset: int = 0, body: bytes | None = None, epoch: int = 0
) -> bytes:
    """A batch of format 2 with the right checksum. `body` stands for what follows its header, compressed or not."""
    if body is None:
        body = b"".join(records)
        body = ENCODERS[codec](body) if codec in ENCODERS else body
    count = len(records)
    signed = _AFTER_CHECKSUM.pack(codec, count - 1, 1_700_000_000_000, 1_700_000_000_000, -1, -1, -1, count) + body
    return _BEFORE_CHECKSUM.pack(base_offset, len(signed) + 9, epoch, 2, calc_crc32c(signed)) + signed


def legacy(value: bytes, codec: int = 0, base_offset: int = 0, magic: int = 1) -> bytes:
    """A message of before Kafka 0.11 without a key."""
    stamp = struct.pack(">q", 1_700_000_000_000) if magic else b""
    signed = bytes((magic, codec)) + stamp + struct.pack(">ii", -1, len(value)) + value
    return struct.pack(">qiI", base_offset, len(signed) + 4, zlib.crc32(signed)) + signed


async def store(producer: AIOKafkaProducer, topic: str, partition: int, raw: bytes) -> int:
    """Have the broker store a batch as it is; its first offset. Raises `KafkaError` where it refuses."""
    await producer.partitions_for(topic)

    async def asked() -> tuple[int, int] | None:
        node = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        response = await producer.client.send(node, ProduceRequest(None, -1, 10_000, [(topic, [(partition, raw)])]))
        _, error, offset, *_ = response.topics[0][1][0]
        return None if error == NotLeaderForPartitionError.errno else (error, offset)

    error, offset = await until_async(asked, f"{topic} has a leader")
    if error:
        raise for_code(error)
    return offset
