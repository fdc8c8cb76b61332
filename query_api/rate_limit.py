"""How much a caller may ask for: a moving window each, in memory, a replica each."""

import math
import time

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from schemas.errors import ConfigurationError


def parsed(rate: str) -> RateLimitItem:
    """One rate, which lets something through. Raises `ValueError`."""
    items = parse_many(rate)
    if len(items) != 1 or items[0].amount < 1:
        raise ValueError("a rate is like 120/minute")
    return items[0]


class RateLimit:
    """So many requests in a time. Every `…_seconds` is None for a request that may go on."""

    def __init__(self, rate: str) -> None:
        """`rate` like ``120/minute``. Raises `ConfigurationError` for another text."""
        try:
            self._item = parsed(rate)
        except ValueError:
            raise ConfigurationError(
                f"the rate {rate!r} of GLUCAST_RATE_LIMIT or another …_RATE_LIMIT is not like 120/minute"
            ) from None
        self._own: dict[str, RateLimitItem] = {}
        self._limiter: MovingWindowRateLimiter | SlidingWindowCounterRateLimiter = self._new_limiter()

    def _new_limiter(self) -> MovingWindowRateLimiter | SlidingWindowCounterRateLimiter:
        return MovingWindowRateLimiter(MemoryStorage())

    def wait_seconds(self, caller: str, cost: int = 1, own: str | None = None) -> int | None:
        """Counts a request of `caller`; the seconds until the next one is allowed where this one is not.

        `own`: the caller's own rate, in the place of what holds for all.
        """
        item = self._item if own is None else self._item_of(own)
        if self._limiter.hit(item, caller, cost=min(cost, item.amount)):
            return None
        return self._seconds(item, caller)

    def _item_of(self, rate: str) -> RateLimitItem:
        """Parsed once: there are no more than keys in their file."""
        if rate not in self._own:
            self._own[rate] = parsed(rate)
        return self._own[rate]

    def full_seconds(self, caller: str) -> int | None:
        """Counts nothing; the seconds until one is allowed where none is now."""
        return None if self._limiter.test(self._item, caller) else self._seconds(self._item, caller)

    def _seconds(self, item: RateLimitItem, caller: str) -> int:
        reset = self._limiter.get_window_stats(item, caller).reset_time
        return max(1, math.ceil(reset - time.time()))


class AmountLimit(RateLimit):
    """So much in a time, where a request costs more than one: it remembers sums, not each request."""

    def came(self, caller: str, cost: int, own: str | None = None) -> None:
        """Counts what nobody told before it came. More than is left fills the window, so that nothing more comes."""
        item = self._item if own is None else self._item_of(own)
        if not self._limiter.hit(item, caller, cost=min(cost, item.amount)):
            self._limiter.hit(item, caller, cost=self._limiter.get_window_stats(item, caller).remaining)

    def _new_limiter(self) -> SlidingWindowCounterRateLimiter:
        return SlidingWindowCounterRateLimiter(MemoryStorage())
