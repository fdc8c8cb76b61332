"""Keeps one spare process at hand for the next worker that dies; see spare.py for what it is."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

from deploy import spare_order

Spawn = Callable[[Sequence[str], Mapping[str, str]], Awaitable[asyncio.subprocess.Process]]
"""Starts a command in an environment, its standard input a pipe."""


class SpareKeeper:
    """At most one spare process. All methods belong to the supervisor's event loop."""

    def __init__(self, spawn: Spawn, environment: Mapping[str, str], delay_seconds: float) -> None:
        self._spawn = spawn
        self._environment = environment
        self._delay_seconds = delay_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the waiting process; None where there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def prepare(self) -> None:
        """See to it that there is a spare process a while from now."""
        if not self._closed and self.pid is None and (self._preparing is None or self._preparing.done()):
            self._preparing = asyncio.create_task(self._prepare())

    def take(self, arguments: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process | None:
        """The spare process, told to be ``glucast ARGUMENTS``; None where there is none. Another one is prepared."""
        process, self._process = self._process, None
        self.prepare()
        if process is None or process.returncode is not None or process.stdin is None:
            return None
        process.stdin.write(spare_order.order(arguments, environment))
        process.stdin.close()
        return process

    async def close(self) -> None:
        """End the spare process."""
        self._closed = True
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _prepare(self) -> None:
        await asyncio.sleep(self._delay_seconds)
        self._process = await self._spawn(spare_order.COMMAND, self._environment)
