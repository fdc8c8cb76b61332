"""How many requests a caller may make: a moving window a key, in memory, a replica each."""

import math
import time

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from schemas.errors import ConfigurationError


class RateLimit:
    """`wait_seconds` is None for a request that may go on."""

    def __init__(self, rate: str) -> None:
        """`rate` like ``120/minute``. Raises `ConfigurationError` for another text."""
        try:
            self._item = parse(rate)
        except ValueError:
            raise ConfigurationError(
                f"the rate {rate!r} of GLUCAST_RATE_LIMIT or GLUCAST_CONVERT_RATE_LIMIT is not like 120/minute"
            ) from None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def wait_seconds(self, caller: str) -> int | None:
        """Counts a request of `caller`; the seconds until the next one is allowed where this one is not."""
        if self._limiter.hit(self._item, caller):
            return None
        reset = self._limiter.get_window_stats(self._item, caller).reset_time
        return max(1, math.ceil(reset - time.time()))
