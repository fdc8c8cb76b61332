"""Waiting for a condition: the one way in which tests wait for what another thread, process or task is to do."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")

LEAST_PAUSE_SECONDS = 0.01
"""Between two questions lies as long as the first one took, so that what waits leaves the machine to what works."""


def until(condition: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """The first truthy value of `condition`; AssertionError naming `what` did not come about in time.

    It is asked once more after the deadline: a machine that was busy elsewhere fails no test.
    """
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if value := condition():
            return value
        if asked >= deadline:
            raise _missed(what, seconds, value)
        time.sleep(_pause(asked))


async def until_async(condition: Callable[[], T | Awaitable[T]], what: str, seconds: float = 30.0) -> T:
    """The same in an event loop, of a function or a coroutine function; one that does not return in time is false."""
    value: object = "not known"
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            while True:
                asked = time.monotonic()
                answer = condition()
                value = await answer if inspect.isawaitable(answer) else answer
                if value:
                    return cast(T, value)
                await asyncio.sleep(_pause(asked))
    except TimeoutError:
        if not limit.expired():  # the condition's own
            raise
    raise _missed(what, seconds, value)


def _pause(asked: float) -> float:
    return max(LEAST_PAUSE_SECONDS, time.monotonic() - asked)


def _missed(what: str, seconds: float, last: object) -> AssertionError:
    return AssertionError(f"not within {seconds:g} s: {what} (at last: {repr(last)[:200]})")
