"""Server-Sent Events: one client each, from where it stood, as long as it reads, stays and may see what it is told.

FastAPI's own writes the events and names the media type. Its loop is not used: it knows neither a client that is too
slow nor a key that is withdrawn, and answers before a route can refuse.
"""

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import Any, NamedTuple

import orjson
from cachetools import LRUCache
from fastapi.sse import format_sse_event

from query_api.event_log import Event, Reader
from query_api.event_place import SOURCES, Place
from query_api.exact_bytes import exact
from query_api.follow import Follower
from query_api.read_model import ReadModel
from query_api.scorecard import scorecard
from query_api.told_alerts import alerts_answer
from query_api.units import document
from schemas.errors import OverloadedError, UnavailableError
from schemas.lanes import Lane
from schemas.reading import Unit
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS

HEARTBEAT_SECONDS = 15.0
RETRY_MILLISECONDS = 2000
"""After so long a client comes back whose connection has ended."""
WRITTEN_AT_HAND = 64
"""Events as they were written last: of one record every client is told the same."""
STATE_SECONDS = 1.0
"""So long this holds of alerts and scores too, of which an event tells how they are when it is told: a scorecard takes
milliseconds, and hundreds may follow one person."""

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""A proxy that collects an answer until it is complete would never pass one of these on."""

_LANE_OF: dict[str, Lane] = {topic.name: lane for lane, topic in CHART_CHANGELOGS.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """Who follows what. `subjects` None: all; `still_may`: asked at every heartbeat and before every event."""

    caller: str
    subjects: Collection[str] | None
    unit: Unit = "mg/dL"
    still_may: Callable[[], bool] = lambda: True
    heartbeat_seconds: float = dataclasses.field(default_factory=lambda: HEARTBEAT_SECONDS)


class _Written(NamedTuple):
    """What is told of an event, None for nothing any more, and when that was found."""

    at: float
    data: bytes | None


class EventStreams:
    """The clients that follow events now. At most `settings.event_clients`, and of one caller at most half of them."""

    def __init__(self, settings: Settings, read_model: ReadModel, follower: Follower) -> None:
        self._settings, self._model, self._follower = settings, read_model, follower
        self._of_caller: Counter[str] = Counter()
        self._written: LRUCache[tuple[int, Unit], _Written] = LRUCache(WRITTEN_AT_HAND)
        self._has_ended = False

    @property
    def clients(self) -> int:
        return self._of_caller.total()

    def end(self) -> None:
        """The server stops: end all streams, so that it need not wait for them, and begin no other."""
        self._has_ended = True
        self._model.events.cut_readers()

    def stream(self, client: Client, last_event_id: str | None = None) -> AsyncIterator[bytes]:
        """What a client is sent, from the event on that it names as its last, else from now on.

        Raises `OverloadedError` where too many follow already, `UnavailableError` while this replica is behind, or has
        not come to that event: it would pass by without a word what it learns only now, and its other routes do not
        know of yet.
        """
        if self._too_many(client, self.clients + 1):
            raise OverloadedError("too many clients follow events already: close one, or try again")
        if self._has_ended or not self._follower.caught_up:
            raise UnavailableError("this replica is still reading what Kafka holds; try again")
        place, is_resumed = self._place(client.subjects, last_event_id)
        return self._told(client, place, is_reset=last_event_id is not None and not is_resumed)

    def _too_many(self, client: Client, clients: int) -> bool:
        most = self._settings.event_clients
        return clients > most or self._of_caller[client.caller] >= max(1, most // 2)

    def _place(self, subjects: Collection[str] | None, last_event_id: str | None) -> tuple[Place, bool]:
        """Where to go on, and whether that is where the client stood. Raises `UnavailableError`."""
        partitions = self._settings.partitions
        own = range(partitions) if subjects is None else {partition_of(each.encode(), partitions) for each in subjects}
        known = Place.parse(last_event_id) if last_event_id else None
        if (
            known is not None
            and known.tag == self._model.event_tag
            and known.partitions == frozenset(own)
            and not known.any_exceeds(self._follower.known_end)
            and self._model.events.holds_all_since(known)
        ):
            if known.any_exceeds(self._follower.reached):
                raise UnavailableError("this replica has not come to that event yet; try again")
            return known, True
        return Place.at(self._model.event_tag, own, self._follower.reached), False

    async def _told(self, client: Client, place: Place, is_reset: bool) -> AsyncIterator[bytes]:
        # Between the answer's beginning and here others may have come, or the table have been emptied: it is before
        # it is read anew.
        is_emptied = not self._follower.caught_up or place.any_exceeds(self._follower.reached)
        if self._too_many(client, self.clients + 1) or is_emptied:
            return
        if not self._model.events.holds_all_since(place):  # or somebody been erased
            place, is_reset = Place.at(place.tag, place.partitions, self._follower.reached), True
        with self._counted(client.caller), self._model.events.reading(place, client.subjects) as reader:
            yield format_sse_event(id=str(place), retry=RETRY_MILLISECONDS)
            if is_reset:
                yield _reset(place, None, "what came since that event is not held any more")
            while True:
                events = await reader.next(client.heartbeat_seconds)
                if not events and client.still_may() and not reader.is_cut:
                    yield format_sse_event(comment="heartbeat")
                for event in events:
                    if reader.is_cut or not client.still_may():
                        break
                    if (written := self._write(reader, event, client.unit)) is not None:
                        yield written
                if reader.is_cut or not client.still_may():
                    return

    @contextlib.contextmanager
    def _counted(self, caller: str) -> Iterator[None]:
        self._of_caller[caller] += 1
        try:
            yield
        finally:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]

    def _write(self, reader: Reader, event: Event, unit: Unit) -> bytes | None:
        """The event as it is sent, and the reader's place behind it; None where it tells nothing any more."""
        reader.place.pass_by(event.source, event.partition, event.offset)
        if event.kind == "reset":
            self._written.clear()  # somebody may have been erased
            return _reset(reader.place, event.subject_id, event.body.decode())
        key, now = (event.number, unit), time.monotonic()
        written = self._written.get(key)
        if written is None or (event.kind in ("alerts", "scores") and now - written.at > STATE_SECONDS):
            written = self._written[key] = _Written(now, self._data(event, unit))
        if (data := written.data) is None:
            return None
        return format_sse_event(data_str=data.decode(), event=event.kind, id=str(reader.place))

    def _data(self, event: Event, unit: Unit) -> bytes | None:
        if event.kind == "reading":
            return event.body
        if event.kind == "alerts":
            state = self._model.alerts.of(event.subject_id)
            newest = self._model.fan_charts.latest(event.subject_id)
            return alerts_answer(event.subject_id, state, newest).model_dump_json().encode()
        if event.kind == "scores":
            scores = self._model.scores.of(event.subject_id)
            if scores is None or not scores.scored:
                return None
            trial = self._model.scores.on_trial(event.subject_id)
            return scorecard(event.subject_id, scores, trial).model_dump_json().encode()
        chart_id, key = event.chart
        row = self._model.fan_charts.of_key(key, _LANE_OF[SOURCES[event.source]])
        if row is None or row.chart_id != chart_id:
            return None  # another has taken its place, and is an event of its own
        chart: Any = document(row.chart, unit, curves=False)
        return exact(orjson.dumps(chart))


def _reset(place: Place, subject_id: str | None, reason: str) -> bytes:
    data = orjson.dumps({"subject_id": subject_id, "reason": reason}).decode()
    return format_sse_event(data_str=data, event="reset", id=str(place))
