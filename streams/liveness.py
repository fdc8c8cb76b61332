"""Liveness is progress: a worker that has partitions and lag, and commits nothing for a while, has to end."""

import asyncio
import threading
import time
from collections.abc import Mapping

from faust.types import TP

from streams.consumer import StrictApp
from streams.delivery import Fatal
from streams.metrics import Metrics

CHECK_SECONDS = 1.0
HIGHWATER_EVERY = 3


class Progress:
    """Decides from successive observations whether a worker stands still: pure, with the clock passed in."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._seen: object = None
        self._since: float | None = None

    def observe(self, now: float, marks: Mapping[TP, int], lagging: frozenset[TP], waiting: int = 0) -> str | None:
        """`marks`: what each partition has committed; `lagging`: those with more to do; `waiting`: recovery left.

        Returns the reason to end once nothing has moved for too long although there was work, else None.
        """
        seen = (dict(marks), waiting)
        if not (lagging or waiting) or seen != self._seen or self._since is None:
            self._seen, self._since = seen, now
            return None
        still = now - self._since
        if still < self._stall_seconds:
            return None
        what = f"{len(lagging)} partitions have messages waiting" if lagging else f"{waiting} table records are missing"
        return f"no progress for {still:.0f} s although {what}"


class Liveness:
    """Watches the Apps of a worker, publishes their lag, and ends the worker when it makes no progress."""

    def __init__(self, apps: list[StrictApp], metrics: Metrics, fatal: Fatal, stall_seconds: float) -> None:
        self._apps, self._metrics, self._fatal = apps, metrics, fatal
        self._progress = {id(app): Progress(stall_seconds) for app in apps}
        self._stall_seconds = stall_seconds
        self._ends: dict[TP, int] = {}
        self.stalled: str | None = None

    async def watch(self) -> None:
        """Run until cancelled."""
        turn = 0
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            rows: list[tuple[str, int, int, int]] = []
            for app in self._apps:
                if app._consumer is None or not app._consumer.started:
                    continue
                if turn % HIGHWATER_EVERY == 0:
                    await self._fetch_ends(app)
                await self._look(app, rows)
            self._metrics.partitions(rows)
            turn += 1

    async def _fetch_ends(self, app: StrictApp) -> None:
        # Asked of the broker: a fetcher that has stopped does not know how far it is behind.
        try:
            async with asyncio.timeout(self._stall_seconds / 3):
                self._ends.update(await app.consumer.highwaters(*app.consumer.ledgers))
        except Exception as error:  # the broker is away: the last known ends go on counting
            del error

    async def _look(self, app: StrictApp, rows: list[tuple[str, int, int, int]]) -> None:
        ledgers = app.consumer.ledgers
        marks = {tp: ledger.low for tp, ledger in ledgers.items()}
        lags = {tp: max(0, self._ends.get(tp, ledger.next) - ledger.low) for tp, ledger in ledgers.items()}
        rows.extend((tp.topic, tp.partition, lags[tp], ledger.outstanding) for tp, ledger in ledgers.items())
        lagging = frozenset(tp for tp, lag in lags.items() if lag > 0)
        waiting = app.tables.recovery.active_remaining_total() if app.rebalancing and app.tables else 0
        self.stalled = self._progress[id(app)].observe(time.monotonic(), marks, lagging, max(0, waiting))
        if self.stalled:
            self._fatal(self.stalled)
        try:
            for tp in await app.consumer.rewind_lost():
                self._metrics.rewinds.inc()
                del tp
        except Exception as error:  # revoked meanwhile
            del error


class LoopWatchdog:
    """A thread that ends the process when its event loop answers nobody any more: a step that never returns."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stall_seconds: float, fatal: Fatal) -> None:
        self._loop, self._stall_seconds, self._fatal = loop, stall_seconds, fatal
        self._stop = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="loop-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _watch(self) -> None:
        step = min(1.0, self._stall_seconds / 5)
        silent = 0.0
        while not self._stop.wait(step):
            answered = threading.Event()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                return  # the loop is closed
            # Counting own steps, not the clock: a process that was paused gets its time after it goes on.
            silent = 0.0
            while not answered.wait(step):
                silent += step
                if self._stop.is_set():
                    return
                if silent >= self._stall_seconds:
                    self._fatal(f"the event loop has not answered for {silent:.0f} s")
                    return
