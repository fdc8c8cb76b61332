"""Liveness is progress: a worker that has partitions and lag, and commits nothing for a while, has to end."""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import structlog
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from streams.kafka.acks import Ledger
from streams.kafka.consumer import StrictApp
from streams.kafka.delivery import Fatal
from streams.metrics import Metrics

CHECK_SECONDS = 1.0
ENDS_EVERY, STAMP_EVERY = 3, 60

log = structlog.get_logger(__name__)


class Progress:
    """Decides from successive observations whether a worker stands still: pure, with the clock passed in."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._seen: object = None
        self._since: float | None = None

    def observe(self, now: float, marks: Mapping[TP, int], lagging: frozenset[TP], waiting: int = 0) -> str | None:
        """`marks`: what each partition has committed; `lagging`: those with more to do; `waiting`: while a rebalance
        goes on, one more than the table records that are still to be read, else 0.

        Returns the reason to end once nothing has moved for too long although there was work, else None.
        """
        seen = (dict(marks), waiting)
        if not (lagging or waiting) or seen != self._seen or self._since is None:
            self._seen, self._since = seen, now
            return None
        still = now - self._since
        if still < self._stall_seconds:
            return None
        what = f"{len(lagging)} partitions have messages waiting" if lagging else "a rebalance has not ended"
        return f"no progress for {still:.0f} s although {what}"


class Standing:
    """For how long each partition that has messages waiting has committed none: pure, with the clock passed in.

    It ends no worker: a partition may wait its turn behind others for longer than a worker may stand still.
    """

    def __init__(self) -> None:
        self._since: dict[TP, tuple[int, float]] = {}

    def observe(self, now: float, marks: Mapping[TP, int], lagging: frozenset[TP]) -> None:
        """`marks` and `lagging` as of `Progress`; what is not among the marks is forgotten."""
        known = self._since
        self._since = {
            tp: known[tp] if tp in lagging and known.get(tp, (-1, now))[0] == mark else (mark, now)
            for tp, mark in marks.items()
        }

    def seconds(self, tp: TP, now: float) -> float:
        """0 of one that nothing is known of."""
        return now - self._since.get(tp, (0, now))[1]


class Liveness:
    """Watches the Apps of a worker, publishes their lag, and ends the worker when it makes no progress."""

    def __init__(self, apps: Sequence[StrictApp], metrics: Metrics, fatal: Fatal, stall_seconds: float) -> None:
        self._apps, self._metrics, self._fatal = apps, metrics, fatal
        self._progress = {id(app): Progress(stall_seconds) for app in apps}
        self._standing = {id(app): Standing() for app in apps}
        self._stall_seconds = stall_seconds
        self._ends: dict[TP, int] = {}

    async def watch(self) -> None:
        """Run until cancelled."""
        for turn in itertools.count():
            await asyncio.sleep(CHECK_SECONDS)
            for app in self._apps:
                if turn % ENDS_EVERY == 0:
                    await self._ask_ends(app)
                if turn % STAMP_EVERY == 0:
                    app.stamp_tables()
                self._judge(app)
                await self._rewind(app)
            self._metrics.partitions(self._rows())

    async def _ask_ends(self, app: StrictApp) -> None:
        # Asked of the broker: a fetcher that has stopped does not know how far it is behind. While the broker is away
        # the last known ends go on counting.
        if ledgers := app.ledgers():
            with contextlib.suppress(KafkaError, TimeoutError, ConsumerNotStarted, ConsumerStoppedError):
                async with asyncio.timeout(self._stall_seconds / 3):
                    self._ends.update(await app.strict.highwaters(*ledgers))

    def _lag(self, tp: TP, ledger: Ledger) -> int:
        return max(0, self._ends.get(tp, ledger.next) - ledger.low)

    def _judge(self, app: StrictApp) -> None:
        ledgers = app.ledgers()
        marks = {tp: ledger.low for tp, ledger in ledgers.items()}
        lagging = frozenset(tp for tp, ledger in ledgers.items() if self._lag(tp, ledger) > 0)
        now = time.monotonic()
        self._standing[id(app)].observe(now, marks, lagging)
        if reason := self._progress[id(app)].observe(now, marks, lagging, _waiting(app)):
            self._fatal(reason)

    async def _rewind(self, app: StrictApp) -> None:
        if app.ledgers():
            for tp in await app.strict.rewind_lost():
                log.warning("deliveries were lost; fetching again", topic=tp.topic, partition=tp.partition)
                self._metrics.rewinds.inc()

    def _rows(self) -> Iterator[tuple[str, int, int, int, float]]:
        now = time.monotonic()
        for app in self._apps:
            for tp, ledger in app.ledgers().items():
                standing = self._standing[id(app)].seconds(tp, now)
                yield tp.topic, tp.partition, self._lag(tp, ledger), ledger.outstanding, standing


def _waiting(app: StrictApp) -> int:
    if not app.rebalancing:
        return 0
    recovery = app.tables.recovery  # type: ignore[attr-defined]
    return 1 + max(0, recovery.active_remaining_total() if app.tables else 0)


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
