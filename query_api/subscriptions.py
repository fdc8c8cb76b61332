"""Wakes whoever waits for a record: they subscribe to keys, and projections notify what has arrived under them."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Subscription:
    """What has arrived under the keys of one waiter since it subscribed."""

    def __init__(self) -> None:
        self._items: list[object] = []
        self._event = asyncio.Event()

    def notify(self, item: object) -> None:
        self._items.append(item)
        self._event.set()

    async def next(self) -> list[object]:
        """Everything since the last call; waits for the first. Bound it with ``asyncio.timeout``."""
        await self._event.wait()
        self._event.clear()
        items, self._items = self._items, []
        return items


class Subscriptions:
    """Keys are text that a projection chooses: see the functions ``…_key`` beside each."""

    def __init__(self) -> None:
        self._of_key: defaultdict[str, set[Subscription]] = defaultdict(set)

    @contextmanager
    def subscribe(self, *keys: str) -> Iterator[Subscription]:
        """Subscribe first, look second: what arrives between the two is then not missed."""
        subscription = Subscription()
        for key in keys:
            self._of_key[key].add(subscription)
        try:
            yield subscription
        finally:
            for key in keys:
                self._of_key[key].discard(subscription)
                if not self._of_key[key]:
                    del self._of_key[key]

    def notify(self, key: str, item: object) -> None:
        """Nobody waiting is the normal case and costs one look-up."""
        for subscription in tuple(self._of_key.get(key, ())):
            subscription.notify(item)
