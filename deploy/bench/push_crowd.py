"""The clients of ``glucast bench push``, in a process of their own: what they cost is not counted as glucast's.

It reads a line of JSON, the `Crowd`, answers with the address of its receiver, and asks what others ask from then on.
At the next line its followers connect. The last one, "end", it answers with all that it was told; at a "mend" before
it the webhooks that hung and failed answer from then on.
"""

import asyncio
import dataclasses
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import aiohttp
import orjson

from deploy.bench.push_clients import Delivery, Event, Follower, Receiver

ASKED = ("/health", "/subjects/{person}/forecast", "/subjects/{person}/forecast/plot")
ASK_SECONDS = 0.2
_TIMES = {"reading": "time", "forecast": "issue_time"}


@dataclasses.dataclass(frozen=True, slots=True)
class Crowd:
    """Who is there: so many followers of the people in turn; `hangs` and `fails`: paths of webhooks."""

    url: str
    people: Sequence[str]
    followers: int
    hangs: str
    fails: str


@dataclasses.dataclass(slots=True)
class Seen:
    """What they saw: (kind, subject, of when in Unix seconds, when it came) of events and webhooks.

    `answers` are (path, when it was asked for, seconds, status); `mended` is what came late to the webhooks that
    hung and failed, as (path, when it came, its id).
    """

    events: list[tuple[str, str, int, float]] = dataclasses.field(default_factory=list)
    webhooks: list[tuple[str, str, int, float]] = dataclasses.field(default_factory=list)
    answers: list[tuple[str, float, float, int]] = dataclasses.field(default_factory=list)
    mended: list[tuple[str, float, str]] = dataclasses.field(default_factory=list)
    cut: int = 0
    refused: int = 0
    asked_in_vain: int = 0


class _Clients:
    def __init__(self, crowd: Crowd, session: aiohttp.ClientSession, asking: aiohttp.ClientSession) -> None:
        self._crowd, self._session, self._asking = crowd, session, asking
        self.seen = Seen()
        self.receiver = Receiver(self._webhook, crowd.hangs, crowd.fails)
        people = [crowd.people[number % len(crowd.people)] for number in range(crowd.followers)]
        self.followers = [Follower(session, f"{crowd.url}/subjects/{person}/events", self._event) for person in people]

    def _event(self, event: Event) -> None:
        if (field := _TIMES.get(event.kind)) is not None:
            self.seen.events.append((event.kind, event.data["subject_id"], _seconds(event.data[field]), event.at))

    def _webhook(self, delivery: Delivery) -> None:
        if delivery.path in (self._crowd.hangs, self._crowd.fails):
            self.seen.mended.append((delivery.path, delivery.at, delivery.id))
            return
        if delivery.body["type"] == "forecast.issued":
            chart = delivery.body["data"]
            self.seen.webhooks.append(("forecast", chart["subject_id"], _seconds(chart["issue_time"]), delivery.at))

    async def ask(self) -> None:
        """One question after the other, until cancelled."""
        number = 0
        while True:
            path = ASKED[number % len(ASKED)]
            person = self._crowd.people[number % len(self._crowd.people)]
            began, start = time.time(), time.perf_counter()
            try:
                async with self._asking.get(self._crowd.url + path.format(person=person)) as answer:
                    await answer.read()
                    status = answer.status
            except (aiohttp.ClientError, OSError, TimeoutError):
                status = 0
            self.seen.answers.append((path, began, time.perf_counter() - start, status))
            number += 1
            await asyncio.sleep(ASK_SECONDS)

    def told(self) -> Seen:
        """All, with how the followers fared."""
        self.seen.cut = sum(max(0, each.streams - 1) for each in self.followers)
        self.seen.refused = sum(each.refusals for each in self.followers)
        self.seen.asked_in_vain = self.receiver.asked_in_vain
        return self.seen


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


async def _line() -> Any:
    line = await asyncio.to_thread(sys.stdin.readline)
    return orjson.loads(line or "null")


def _say(answer: object) -> None:
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Until told to end, or standard input does."""
    crowd = Crowd(**await _line())
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as following,
        aiohttp.ClientSession(headers={"Accept": "image/png, application/json"}) as asking,
    ):
        clients = _Clients(crowd, following, asking)
        _say({"receiver": await clients.receiver.start()})
        tasks = [asyncio.create_task(clients.ask())]
        try:
            if await _line() is not None:
                tasks += [asyncio.create_task(each.run()) for each in clients.followers]
                while not all(each.streams for each in clients.followers):  # noqa: ASYNC110 - each is a client apart
                    await asyncio.sleep(0.05)
                _say({"following": len(clients.followers)})
                if await _line() == "mend":
                    clients.receiver.mend()
                    _say({"mended": time.time()})
                    await _line()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await clients.receiver.close()
        _say(dataclasses.asdict(clients.told()))


if __name__ == "__main__":
    asyncio.run(main())
