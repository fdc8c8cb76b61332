"""The one thread that owns the model. A daemon: a download or a batch that hangs does not keep the process alive."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ModelThread:
    """Runs calls one after another, off the event loop."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="model", daemon=True).start()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result, or what it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                _settle(loop, future, future.set_exception, error)
            else:
                _settle(loop, future, future.set_result, result)

        self._calls.put(run)
        return await future

    async def stream(self, function: Callable[P, Iterable[T]], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        """What the function yields, each item as soon as it is there, or what it raised."""
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[tuple[T] | None] = asyncio.Queue()  # None is the end

        def hand_over() -> None:
            try:
                for item in function(*args, **kwargs):
                    loop.call_soon_threadsafe(items.put_nowait, (item,))
            finally:
                loop.call_soon_threadsafe(items.put_nowait, None)

        end = asyncio.ensure_future(self.call(hand_over))
        while (item := await items.get()) is not None:
            yield item[0]
        await end

    def _run(self) -> None:
        while True:
            self._calls.get()()


def _settle(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", settle: Callable[[Any], None], value: Any
) -> None:
    def unless_cancelled() -> None:
        if not future.done():
            settle(value)

    if not loop.is_closed():
        loop.call_soon_threadsafe(unless_cancelled)
