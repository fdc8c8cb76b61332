"""Server-Sent Events as a client reads them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson


class Told(NamedTuple):
    """One event; `kind` is empty where a block brought only an id, ``comment`` for a comment."""

    kind: str
    id: str
    data: Any


async def events(stream: AsyncIterator[bytes]) -> AsyncIterator[Told]:
    """Every block of a stream, however it was cut into pieces."""
    text = b""
    async for piece in stream:
        text += piece
        while b"\n\n" in text:
            block, text = text.split(b"\n\n", 1)
            yield told(block.decode())


def told(block: str) -> Told:
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        fields[name or "comment"] = value.removeprefix(" ")
    kind = "comment" if "comment" in fields else fields.get("event", "")
    return Told(kind, fields.get("id", ""), orjson.loads(fields["data"]) if "data" in fields else None)


async def some(stream: AsyncIterator[bytes], count: int, seconds: float = 60.0) -> list[Told]:
    """The next events that are neither comments nor bare ids, in order; fewer where the stream ends before."""
    found: list[Told] = []
    async with asyncio.timeout(seconds):
        async for each in events(stream):
            if each.kind not in ("", "comment"):
                found.append(each)
            if len(found) == count:
                break
    return found
