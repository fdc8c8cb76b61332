"""Bytes that are kept for longer take no more memory than they have."""


def exact(data: bytes) -> bytes:
    """A copy. orjson hands out the buffer that it wrote into, which can be sixteen times as long as what stands there
    (3.13: eight bytes for each character of a text, doubled); nobody sees that but the memory of the process."""
    return bytes(memoryview(data))
