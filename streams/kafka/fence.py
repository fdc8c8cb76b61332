"""Holds effects back while the group may have given this worker's partitions to another one."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any


def since_boot() -> float:
    """Seconds, those too in which the machine slept: a monotonic clock stands still then, and the group does not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class Fence:
    """Open while the group has answered within the session timeout.

    A process that was paused (SIGSTOP, a machine that slept) or cut off goes on with its old partitions when it
    wakes up, and would write stale table state after the new owner did. So nothing leaves before the group has
    confirmed again that this worker is a member.
    """

    def __init__(self, session_timeout_seconds: float, clock: Callable[[], float] = since_boot) -> None:
        self._session_timeout_seconds = session_timeout_seconds
        self._clock = clock
        self._proof = clock()

    def prove(self) -> None:
        """The group has just given this worker partitions."""
        self._proof = self._clock()

    async def proven_by(self, beat: Callable[[], Awaitable[Any]], given_away: Callable[[], bool]) -> bool:
        """Send a heartbeat with `beat`; it proves what was so when it was asked, and nothing where it fails.

        In a rebalance the group accepts heartbeats of members whose partitions it is about to give to others, with or
        without them: while these are `given_away`, a heartbeat is none.
        """
        asked = self._clock()
        success = bool(await beat())
        if success and not given_away():
            self._proof = max(self._proof, asked)
        return success

    @property
    def closed(self) -> bool:
        return self._clock() - self._proof > self._session_timeout_seconds

    async def opened(self, while_true: Callable[[], bool] = lambda: True) -> None:
        """Wait until the fence is open, or the condition no longer holds."""
        while self.closed and while_true():  # noqa: ASYNC110 - time closes it, no event does
            await asyncio.sleep(0.05)
