"""One computation a key, many waiters, and a bound on all of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from schemas.errors import OverloadedError

T = TypeVar("T")


class SharedComputations:
    """Whoever asks for a key that is being computed waits for the same task.

    A waiter that is cancelled leaves the task to the others; the last one to leave ends it. (What it asked of Kafka
    goes on there: only the waiting ends.)
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._waiting: dict[str, int] = {}

    @property
    def waiters(self) -> int:
        return sum(self._waiting.values())

    @property
    def computations(self) -> int:
        return len(self._tasks)

    async def join(self, key: str, compute: Callable[[], Awaitable[T]]) -> T:
        """The result of `compute` for this key, or what it raised. Raises `OverloadedError` over the limit."""
        if self.waiters >= self._limit:
            raise OverloadedError(f"{self._limit} requests are waiting for forecasts already; try again")
        task: asyncio.Task[T] | None = self._tasks.get(key)
        if task is None:
            task = asyncio.ensure_future(_run(compute))
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._finish(key, done))
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                if not task.done():
                    self._finish(key, task)
                    task.cancel()

    def _finish(self, key: str, task: asyncio.Task[Any]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if task.done() and not task.cancelled():
            task.exception()  # seen: nobody may be left to be told


async def _run(compute: Callable[[], Awaitable[T]]) -> T:
    return await compute()
