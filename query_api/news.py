"""Wakes whoever waits for a record: waiters listen under keys, the read model tells what arrived under them."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Listener:
    """What has been told under the keys of one waiter since it began to listen."""

    def __init__(self) -> None:
        self._items: list[object] = []
        self._event = asyncio.Event()

    def tell(self, item: object) -> None:
        self._items.append(item)
        self._event.set()

    async def next(self) -> list[object]:
        """Everything told since the last call; waits for the first. Bound it with ``asyncio.timeout``."""
        await self._event.wait()
        self._event.clear()
        items, self._items = self._items, []
        return items


class News:
    """Keys are text chosen by both sides: ``upload/<id>``, ``handle/<handle>``, ``chart/<handle>/<index>``."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)

    @contextmanager
    def listen(self, *keys: str) -> Iterator[Listener]:
        """Listen first, look second: what arrives between the two is then not missed."""
        listener = Listener()
        for key in keys:
            self._listeners[key].add(listener)
        try:
            yield listener
        finally:
            for key in keys:
                self._listeners[key].discard(listener)
                if not self._listeners[key]:
                    del self._listeners[key]

    def tell(self, key: str, item: object) -> None:
        """Nobody listening is the normal case and costs one look-up."""
        for listener in tuple(self._listeners.get(key, ())):
            listener.tell(item)
