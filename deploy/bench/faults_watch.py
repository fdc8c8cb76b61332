"""What clients see of a fault run: a consumer of the results, and a person with a browser at the query API."""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import datetime

import httpx
import orjson
from aiokafka import TopicPartition

from deploy.bench.faults_load import Key, key_of, reading_of
from schemas.grid import PAST_POINTS
from streams.kafka.connection import new_consumer
from streams.settings import Settings

ASK_SECONDS = 0.25
PERSON = "fault-person"
_NUMBERS = re.compile(r"\d+([-:. ]\d+)*")


class Watch:
    """A client of a topic of results: when which of them came. `arrivals`: Unix time, partition, key."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self.arrivals: list[tuple[float, int, Key]] = []

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        consumer = new_consumer(self._settings)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(self._topic, number) for number in range(self._settings.partitions)])
            while True:
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    now = time.time()
                    keys = (_key(record.value) for record in records)
                    self.arrivals += [(now, partition.partition, key) for key in keys if key[0]]  # none of an upload
        finally:
            await consumer.stop()

    def pauses(self, since: float, until: float) -> dict[int, float]:
        """Longest pause of each partition that had a part in a stretch of time, seconds."""
        times: dict[int, list[float]] = {number: [] for number in range(self._settings.partitions)}
        for moment, partition, _ in self.arrivals:
            times[partition].append(moment)
        return {partition: longest_pause(moments, since, until) for partition, moments in times.items()}

    def waits(self, sent: Mapping[Key, float]) -> list[float]:
        """Seconds from each reading that was sent to the first that was seen of it, in order of their length."""
        first: dict[Key, float] = {}
        for moment, _, key in self.arrivals:
            first.setdefault(key, moment)
        return sorted(first[key] - at for key, at in sent.items() if key in first)

    def back(self, over: float, sent: Mapping[Key, float]) -> float:
        """Seconds from `over` until every partition has shown what became of a reading that was sent after it."""
        first: dict[int, float] = {}
        for moment, partition, key in self.arrivals:
            if sent.get(key, 0.0) >= over:
                first.setdefault(partition, moment)
        if len(first) < self._settings.partitions:
            return float("inf")
        return max(first.values()) - over


def _key(value: bytes | None) -> Key:
    record = orjson.loads(value or b"{}")
    when = record.get("issue_time") or record.get("time") or "1970-01-01T00:00:00Z"
    return record.get("subject_id") or "", int(datetime.fromisoformat(when).timestamp())


def longest_pause(moments: Iterable[float], since: float, until: float) -> float:
    """Longest stretch without any of the `moments` (in order) that reaches into [since, until)."""
    longest, before = 0.0, None
    for moment in moments:
        if before is not None and before < until and moment > since:
            longest = max(longest, moment - before)
        before = moment
    return longest


class Person:
    """Somebody who publishes a reading a second over HTTP and asks for the present forecast four times a second.

    `accepted` and `fresh` are the Unix times at which a reading was taken and a new forecast seen; `refusals` counts
    the other answers by what they say, but for its numbers.
    """

    def __init__(self, url: str, sent: MutableMapping[Key, float]) -> None:
        self._url, self._sent = url, sent
        self.accepted: list[float] = []
        self.fresh: list[float] = []
        self.refusals: Counter[str] = Counter()
        self._is_stopping = False

    def stop(self) -> None:
        """Publish nothing new: `run` ends once the reading under way was taken, for it may arrive in any case."""
        self._is_stopping = True

    async def run(self) -> None:
        """Until stopped or cancelled."""
        async with httpx.AsyncClient(base_url=f"{self._url}/subjects/{PERSON}", timeout=15) as client:
            asking = asyncio.create_task(self._ask(client))
            try:
                await self._publish(client)
            finally:
                asking.cancel()
                await asyncio.wait([asking])

    async def _publish(self, client: httpx.AsyncClient) -> None:
        number = 0
        while True:
            count = PAST_POINTS if number == 0 else 1
            readings = [reading_of(PERSON, 0.5, number + later) for later in range(count)]
            body = b"[" + b",".join(reading.to_json() for reading in readings) + b"]"
            began = time.time()
            if await self._answer(client, "POST", "/readings", 202, body) is not None:
                self._sent.update((key_of(reading), began) for reading in readings)
                self.accepted.append(time.time())
                number += count
                if self._is_stopping:
                    return
            await asyncio.sleep(max(0.0, began + 1 - time.time()))

    async def _ask(self, client: httpx.AsyncClient) -> None:
        seen = ""
        while True:
            answer = await self._answer(client, "GET", "/forecast", 200)
            if answer is not None and answer["chart_id"] != seen:
                seen = answer["chart_id"]
                self.fresh.append(time.time())
            await asyncio.sleep(ASK_SECONDS)

    async def _answer(
        self, client: httpx.AsyncClient, method: str, path: str, wanted: int, body: bytes | None = None
    ) -> dict[str, str] | None:
        try:
            answer = await client.request(method, path, content=body, headers={"content-type": "application/json"})
        except httpx.HTTPError as error:
            self.refusals[f"{method} {path}: {type(error).__name__}"] += 1
            return None
        found: dict[str, str] = {}
        with contextlib.suppress(orjson.JSONDecodeError):
            found = orjson.loads(answer.content)
        if answer.status_code == wanted:
            return found
        if self.accepted:  # before the first readings there is nothing to be had
            said = _NUMBERS.sub("#", found.get("detail", ""))
            self.refusals[f"{method} {path}: {answer.status_code} {said}"] += 1
        return None
