"""What happens around every step, outermost first: measured, named in the log, meant, buried, readable, tried, sized.

A middleware gets the work and what follows; it may look at the work before and after, call what follows again, or turn
what it raises into something else. `around` puts them in the order of this page, the same for every step and lane.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import structlog

from agents.work import Failure, StepFunction, Work, check_size
from schemas.errors import RejectedError, UnavailableError, UndecodableError
from streams import dead_letters
from streams.kafka.decoding import Undecodable
from streams.kafka.tables import ConfirmedTable
from streams.metrics import StepMetrics

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
FAILED = "failed"

log = structlog.get_logger(__name__)


class Middleware(Protocol):
    """One concern of all steps."""

    async def __call__(self, work: Work, following: StepFunction) -> None:
        """Do what it does around `following`."""


def around(
    function: StepFunction, attempts: int, metrics: StepMetrics, tables: Mapping[str, ConfirmedTable]
) -> StepFunction:
    """The step as it runs. It never raises, but for being cancelled or given back: how it ended is in the work."""
    return chained(
        (Measured(metrics), Named(), Meant(), Buried(), Readable(), TriedAgain(attempts, metrics), Sized(tables)),
        function,
    )


def chained(middlewares: Sequence[Middleware], function: StepFunction) -> StepFunction:
    """`function` inside the middlewares, the first of them outermost."""
    for middleware in reversed(middlewares):
        function = partial(middleware, following=function)
    return function


class Measured:
    """Counts how messages end, the time of those that were processed, and what their steps have measured."""

    def __init__(self, metrics: StepMetrics) -> None:
        self._metrics = metrics

    async def __call__(self, work: Work, following: StepFunction) -> None:
        began = time.perf_counter()
        await following(work)
        if work.failure is None:
            self._metrics.ended("processed")
            self._metrics.measured(work.measured)
            self._metrics.step_seconds(time.perf_counter() - began)
        else:
            self._metrics.ended("dead_lettered" if work.failure.code == FAILED else "rejected")


class Named:
    """Log lines of a step say which message they are about, by its place and never by its content."""

    async def __call__(self, work: Work, following: StepFunction) -> None:
        message = work.message
        with structlog.contextvars.bound_contextvars(
            step=work.step.name, topic=message.topic, partition=message.partition, offset=message.offset
        ):
            await following(work)


class Meant:
    """What is sent again from a dead letter is for the step that failed at it: the others that read it have done it."""

    async def __call__(self, work: Work, following: StepFunction) -> None:
        first = work.message.first
        if first is None or first.step == work.step.name:
            await following(work)


class Buried:
    """A message that cannot be processed becomes a dead letter; what its step collected before it raised is dropped."""

    async def __call__(self, work: Work, following: StepFunction) -> None:
        try:
            await following(work)
        except RejectedError as error:
            work.clear()
            work.failure = Failure(error.code, str(error), 1)
        except _GivenUpError as error:
            log.error("step failed", error=type(error.cause).__name__, attempts=error.attempts)
            work.clear()
            work.failure = Failure(FAILED, f"{type(error.cause).__name__}: {error.cause}", error.attempts)
        if work.failure is not None:
            key, letter = dead_letters.message_of(work.message, work.step.name, work.failure)
            work.bury(key, letter, dead_letters.headers_of(work.message, work.step.name, work.failure))


class Readable:
    """What stands in the place of undecodable records reaches no step; its letter says which they are."""

    async def __call__(self, work: Work, following: StepFunction) -> None:
        if isinstance(work.message.value, Undecodable):
            log.error("records cannot be decoded", first_offset=work.message.value.first)
            raise UndecodableError(str(work.message.value))
        await following(work)


class TriedAgain:
    """Whatever is no rejection may pass: a few attempts, each after a longer wait, without what an earlier one left.

    `UnavailableError` says that somebody else has to mend something first, and nothing about the message: then it is
    tried for as long as the worker has it, and its partition waits with it.
    """

    def __init__(self, attempts: int, metrics: StepMetrics) -> None:
        self._attempts, self._metrics = attempts, metrics

    async def __call__(self, work: Work, following: StepFunction) -> None:
        failed = waits = 0
        while True:
            try:
                await following(work)
            except RejectedError:
                raise
            except UnavailableError as error:
                log.warning("step waits", reason=str(error))
                if not work.goes_on:
                    raise GivenBackError from error
            except Exception as error:
                failed += 1
                if failed == self._attempts:
                    raise _GivenUpError(error, failed) from error
            else:
                return
            work.clear()
            self._metrics.ended("retried")
            await asyncio.sleep(min(FIRST_BACKOFF_SECONDS * 2 ** min(waits, 16), LONGEST_BACKOFF_SECONDS))
            waits += 1


class Sized:
    """Nothing leaves that its topic or changelog would refuse: the broker's refusal would end the worker."""

    def __init__(self, tables: Mapping[str, ConfirmedTable]) -> None:
        self._tables = tables

    async def __call__(self, work: Work, following: StepFunction) -> None:
        await following(work)
        for (table, key), value in work.writes.items():
            self._tables[table].check(key, value)
        for send in work.sends:
            check_size(send.topic, send.key, send.value, send.headers)


class GivenBackError(Exception):
    """The step still waits for somebody else, and its message is to be released."""


class _GivenUpError(Exception):
    """Every attempt failed."""

    def __init__(self, cause: Exception, attempts: int) -> None:
        super().__init__(str(cause))
        self.cause, self.attempts = cause, attempts
