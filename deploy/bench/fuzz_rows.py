"""Rows of the workers' tables, and what a step makes of a broken one when a message comes that needs it.

Only workers write changelogs. A row that is damaged all the same must end no worker: the step fails at the messages
that need it, which become dead letters, or it makes of the row what could be true.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from agents.work import Message
from deploy.bench import fuzz_records as records
from schemas import tables, topics
from schemas.command import ForecastDemand
from schemas.grid import STEP_SECONDS
from schemas.record import SUBJECT_PATTERN
from streams import topology


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A table, the step whose message needs its rows, and that message of a key and number; None for no one's key."""

    table: str
    step: str
    message: Callable[[str, int], Message | None]


def _reading(key: str, number: int) -> Message | None:
    subject = key.split("/")[0]
    if not re.fullmatch(SUBJECT_PATTERN, subject):
        return None
    sent = records.reading(number, True).model_copy(update={"subject_id": subject})
    return _message(topics.READINGS, subject, sent.to_json(), number)


def _demand(key: str, number: int) -> Message | None:
    handle = records.series(number).handle
    try:
        asked = ForecastDemand(demand_id=f"demand-{number}", series_key=key or "-", handle=handle, indexes=(0, -1))
    except ValidationError:  # the key is no name: nobody can ask for what lies under it
        return None
    return _message(topics.DEMANDS, key, asked.to_json(), number)


def _forecast(key: str, number: int) -> Message | None:
    place = tables.ChartKey.parse(key)
    owner = key.split("/")[0] if place is None else place.owner
    if not re.fullmatch(SUBJECT_PATTERN, owner):
        return None
    made = dataclasses.replace(records.forecast(number & ~1, True), subject_id=owner, series_key=owner)
    return _message(topics.FORECASTS["live"], owner, made.to_arrow(), number)


def _arrival(key: str, number: int) -> Message | None:
    if not re.fullmatch(SUBJECT_PATTERN, key):
        return None
    came = records.arrival(number, True).model_copy(update={"subject_id": key})
    return _message(topics.ARRIVALS, key, came.to_json(), number)


def _message(topic: topics.Topic, key: str, value: bytes, number: int) -> Message:
    return records.message_of(topic, key.encode(), value, number, records.NOW_MS + number * 1000 * STEP_SECONDS)


PLACES: Mapping[str, Place] = {
    **{
        topics.changelog(topology.app_id("ingest"), table).name: Place(table, step, message)
        for table, step, message in (
            (tables.SUBJECTS_TABLE, "window", _reading),
            (tables.SOURCES_TABLE, "window", _reading),
            (tables.DAYS_TABLE, "window", _reading),
            (tables.SERIES_TABLE, "request", _demand),
        )
    },
    **{
        topics.changelog(topology.app_id("calc"), table).name: Place(table, step, message)
        for table, step, message in (
            *((table, "calc", _forecast) for table in tables.FAN_CHART_TABLES.values()),
            (tables.SCORES_TABLE, "calc", _forecast),
            (tables.ALERTS_TABLE, "calc", _forecast),
            (tables.WATCH_TABLE, "watch", _arrival),
        )
    },
}
"""By the name of the changelog."""
