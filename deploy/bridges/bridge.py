"""Pulls the readings of many people in one process and publishes them, each person at their own pace.

What Kafka has confirmed moves the person's bookmark, so a bridge that was away goes on where it stood, two days back at
most. Readings that a service delivers late are found up to LATE later. Nothing is judged here: every reading has its
outcome on ``cgm.reading-outcomes``. Log lines name people by their number in the file.
"""

import asyncio
import datetime
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from deploy.bridges.bookmarks import Bookmarks
from deploy.bridges.people import Person
from deploy.bridges.source import SignInError, Source, SourceError
from schemas.reading import Reading

EVERY_SECONDS = 60.0
SOONEST_AGAIN_SECONDS, LATEST_AGAIN_SECONDS = 30.0, 900.0
REFUSED_SECONDS = 3600.0
"""After a refused sign-in: services lock accounts that try again and again."""
AT_ONCE = 16
FURTHEST = datetime.timedelta(days=2)
LATE = datetime.timedelta(hours=3)
_MOST_SENT = 6000

log = structlog.get_logger(__name__)
Publish = Callable[[Sequence[Reading]], Awaitable[None]]


class Pull:
    """One person."""

    def __init__(self, number: int, person: Person, source: Source, bookmarks: Bookmarks, publish: Publish) -> None:
        self._number, self._person, self._source = number, person, source
        self._bookmarks, self._publish = bookmarks, publish
        self._sent: dict[datetime.datetime, set[float]] = {}
        """By time what was said of it last: a value that comes back after another one is new."""
        self._failures = 0

    async def once(self) -> float:
        """Publish what is new; returns in how many seconds to ask again."""
        try:
            count = await self._new()
        except SignInError as error:
            log.warning("a person's service lets nobody in", person=self._number, reason=str(error))
            return REFUSED_SECONDS
        except SourceError as error:
            return self._later(str(error))
        except Exception as error:  # whatever an answer leads to is this person's alone
            return self._later(f"the answer could not be worked with ({type(error).__name__})")
        if self._failures:
            log.info("readings come again", person=self._number)
        self._failures = 0
        if count:
            log.info("published", person=self._number, readings=count)
        return EVERY_SECONDS

    def _later(self, reason: str) -> float:
        self._failures += 1
        wait = min(SOONEST_AGAIN_SECONDS * 2.0 ** min(self._failures - 1, 10), LATEST_AGAIN_SECONDS)
        log.warning("no readings now", person=self._number, reason=reason, again_in_seconds=round(wait))
        return wait

    async def _new(self) -> int:
        furthest = datetime.datetime.now(datetime.UTC) - FURTHEST
        bookmark = self._bookmarks.of(self._person.subject)
        since = furthest if bookmark is None else max(furthest, bookmark - LATE)
        # By the instant: of one zone two times are equal where its clock shows the same, also an hour later.
        found = [(each.time.astimezone(datetime.UTC), each) for each in await self._source.readings(since)]
        said: dict[datetime.datetime, set[float]] = {}
        for time, each in found:
            said.setdefault(time, set()).add(each.glucose)
        fresh = {(time, each.glucose): each for time, each in found if each.glucose not in self._sent.get(time, ())}
        new = [each for _, each in sorted(fresh.items(), key=lambda item: item[0][0])]
        if not new:
            return 0
        await self._publish(new)
        self._sent |= said
        for oldest in list(self._sent)[: max(0, len(self._sent) - _MOST_SENT)]:
            del self._sent[oldest]
        # A time ahead, of a wrong clock, would hide what comes until then.
        now = datetime.datetime.now(datetime.UTC)
        if past := [time for time, _ in fresh if time <= now]:
            self._bookmarks.set(self._person.subject, max(past))
        return len(new)


async def follow(pulls: Sequence[Pull]) -> None:
    """Ask for everybody again and again until cancelled, for a few at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def keep_asking(pull: Pull) -> None:
        await asyncio.sleep(random.uniform(0, min(EVERY_SECONDS, 0.1 * len(pulls))))
        while True:
            async with room:
                wait = await pull.once()
            await asyncio.sleep(wait * random.uniform(0.9, 1.1))

    async with asyncio.TaskGroup() as group:
        for pull in pulls:
            group.create_task(keep_asking(pull))


async def ask_once(pulls: Sequence[Pull]) -> bool:
    """Ask for everybody once; whether all were heard."""
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(pull: Pull) -> bool:
        async with room:
            return await pull.once() == EVERY_SECONDS

    return all(await asyncio.gather(*map(ask, pulls)))
