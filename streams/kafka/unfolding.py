"""Unfolds what producers compress, and never further than a bound: a few kilobytes may say gigabytes of spaces."""

import zlib
from collections.abc import Callable

import cramjam

from schemas.topics import MIB

MOST_UNFOLDED_BYTES = 32 * MIB
"""Of one batch. The largest message is 12 MiB and a producer of ours sends no batch over 13: the rest is room for
batches of others, which Kafka limits by their compressed size alone. A fetched partition stops after as much."""

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
"""Kafka's numbers of the codecs; 0 is none."""

_FIRST_GUESS, _GROWTH = 64 * 1024, 8
_XERIAL = b"\x82SNAPPY\x00"
"""Java clients write snappy in blocks after this, two version numbers, and each block's length."""
_XERIAL_HEADER, _BLOCK_LENGTH = 16, 4
_GZIP_WINDOW = 31  # zlib's number for the gzip format with its largest window


class UnfoldingError(Exception):
    """The data is not what its codec says, or unfolds to more than the bound."""


def unfold(codec: int, data: bytes, most_bytes: int = MOST_UNFOLDED_BYTES) -> bytes:
    """What was compressed, at most `most_bytes` of it. Raises `UnfoldingError`."""
    decode = {GZIP: _gzip, SNAPPY: _snappy, LZ4: _lz4, ZSTD: _zstd}.get(codec)
    if decode is None:
        raise UnfoldingError(f"unknown codec {codec}")
    try:
        return decode(data, most_bytes)
    except (zlib.error, cramjam.DecompressionError) as error:
        raise UnfoldingError(f"damaged, or over {most_bytes} bytes when unfolded: {error}") from None


def _gzip(data: bytes, most_bytes: int) -> bytes:
    found = bytearray()
    while data:  # a file may have several members
        member = zlib.decompressobj(_GZIP_WINDOW)
        found += member.decompress(data, most_bytes + 1 - len(found))
        if len(found) > most_bytes:
            raise UnfoldingError(f"over {most_bytes} bytes when unfolded")
        if not member.eof:
            raise UnfoldingError("cut off")
        data = member.unused_data
    return bytes(found)


def _snappy(data: bytes, most_bytes: int) -> bytes:
    if not data.startswith(_XERIAL):
        return _snappy_block(data, most_bytes)
    found, position = bytearray(), _XERIAL_HEADER
    while position < len(data):
        begin = position + _BLOCK_LENGTH
        position = begin + int.from_bytes(data[position:begin], "big")
        if position > len(data):
            raise UnfoldingError("cut off")
        found += _snappy_block(data[begin:position], most_bytes - len(found))
    return bytes(found)


def _snappy_block(data: bytes, most_bytes: int) -> bytes:
    if int(cramjam.snappy.decompress_raw_len(data)) > most_bytes:
        raise UnfoldingError("over the bound when unfolded")
    return bytes(cramjam.snappy.decompress_raw(data))


def _lz4(data: bytes, most_bytes: int) -> bytes:
    return _into(cramjam.lz4.decompress_into, data, most_bytes)


def _zstd(data: bytes, most_bytes: int) -> bytes:
    return _into(cramjam.zstd.decompress_into, data, most_bytes)


def _into(decode: Callable[[bytes, bytearray], int], data: bytes, most_bytes: int) -> bytes:
    """Into ever larger rooms: a room of the largest size for every batch would cost more than the decoding."""
    size = min(max(_FIRST_GUESS, _GROWTH * len(data)), most_bytes)
    while True:
        room = bytearray(size)
        try:
            count = decode(data, room)
        except cramjam.DecompressionError:
            if size >= most_bytes:
                raise
            size = min(_GROWTH * size, most_bytes)
        else:
            return bytes(memoryview(room)[:count])
