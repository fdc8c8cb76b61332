"""What the fuzzing bench sends to every topic and finds in every table: good records, and broken ones.

A case is a function of seed and number alone. Good records of different numbers differ in content, so that none of
them is answered out of a cache.
"""

import dataclasses
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents.work import Message
from deploy.bench import fuzz_records as records
from deploy.bench.fuzz_files import broken_file, rows_of, unified
from deploy.bench.fuzz_records import MODEL, NOW_MS, message_of, time_ms
from deploy.bench.fuzz_values import Chance, broken_arrow, broken_json, damaged
from schemas import topics
from schemas.arrow_record import ArrowRecord
from schemas.grid import STEP_SECONDS
from schemas.model_choice import SERVED
from schemas.record import Record
from schemas.tables import SERIES_TABLE, SUBJECTS_TABLE, WATCH_TABLE, day_key, handle_key, subject_key
from schemas.topics import Topic, changelog
from streams import topology
from streams.topology import (
    ALERTS_CHANGELOG,
    CHART_CHANGELOGS,
    DAYS_CHANGELOG,
    SCORES_CHANGELOG,
    SOURCES_CHANGELOG,
    app_id,
)

HISTORY_STEPS = 288
ODD_KEYS: tuple[bytes | None, ...] = (None, b"", b"\xff\xfe", b"\0", b"bad", b"gone/*", b"k" * 100_000)
ODD_HEADERS: tuple[Mapping[str, bytes], ...] = (
    {}, {"timezone": b""}, {"timezone": b"\xff\xfe"}, {"timezone": b"Mars/Olympus"}, {"timezone": b"+14:00"},
    {"timezone": b"x" * 5000}, {"timezone": b"../../etc/passwd"}, {"timezone": b"UTC\0"}, {"force": b"1"},
    {"rerouted": b"1"}, {"sources": b"{}"}, {"sources": b"\xff"}, {"sensor-start": b"2026-03-01T11:00:00Z"},
    {"replay-of": b"cgm.readings/0/0/0/window"}, {"replay-of": b"\xff/9"}, {"sensor-start": b"now"},
    {"h" * 2000: b"\xff" * 2000}, {f"h{number}": b"v" for number in range(100)},
)  # fmt: skip
ODD_TIMES_MS: tuple[int, ...] = (0, -1, 1, 2**31, 253_402_300_799_999, 2**62, -(2**62))


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One message and what is wrong with it."""

    number: int
    topic: Topic
    message: Message
    about: str


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What one topic carries: its good record of a number, and how it is broken."""

    topic: Topic
    key: Callable[[int, bool], str]
    good: Callable[[int, bool], Record | ArrowRecord | bytes]
    weight: int
    """Beside those of the others."""

    def message(self, number: int, *, good: bool = True) -> Message:
        """The record as it should be; not `good`: of those whom only broken records are about."""
        record = self.good(number, good)
        came_ms = time_ms(number, good)
        return message_of(self.topic, self.key(number, good).encode(), bytes_of(record), number, came_ms)


def bytes_of(record: Record | ArrowRecord | bytes) -> bytes:
    if isinstance(record, bytes):
        return record
    return record.to_arrow() if isinstance(record, ArrowRecord) else record.to_json()


def _chart_key(number: int, good: bool) -> str:
    kept = records.chart(number, good)
    if kept.handle is not None and kept.index is not None:
        return str(handle_key(kept.handle, kept.index, MODEL))
    slot = int(kept.issue_time.timestamp()) // STEP_SECONDS
    return str(subject_key(kept.series_key, slot, HISTORY_STEPS, MODEL))


def _subject(number: int, good: bool) -> str:
    """Somebody of whom nothing else is known."""
    return f"subject-{number}"


def _day(number: int, good: bool) -> str:
    return day_key(_subject(number, good), (NOW_MS // 1000 + STEP_SECONDS * number) // 86_400)


def _of(make: Callable[[int, bool], Any], field: str) -> Callable[[int, bool], str]:
    """The key of a record is one of its fields."""
    return lambda number, good: str(getattr(make(number, good), field))


KINDS: Sequence[Kind] = (
    Kind(topics.READINGS, _of(records.reading, "subject_id"), records.reading, 20),
    Kind(topics.UPLOADS, lambda number, good: str(number), lambda number, good: unified(rows_of(number)), 32),
    Kind(topics.SERIES, _of(records.series, "series_key"), records.series, 12),
    Kind(topics.DEMANDS, _of(records.demand, "series_key"), records.demand, 10),
    Kind(topics.CACHE_COMMANDS, _of(records.command, "series_key"), records.command, 7),
    Kind(topics.INTERACTIVE, _of(records.sample_request, "series_key"), records.sample_request, 4),
    Kind(topics.LIVE, _of(records.request, "series_key"), records.request, 5),
    Kind(topics.BACKFILL, _of(records.sample_request, "series_key"), records.sample_request, 3),
    *(Kind(topic, _of(records.forecast, "series_key"), records.forecast, 4) for topic in topics.FORECASTS.values()),
    *(Kind(topic, _chart_key, records.chart_row, 3) for topic in CHART_CHANGELOGS.values()),
    Kind(topics.ARRIVALS, _of(records.arrival, "subject_id"), records.arrival, 4),
    Kind(SCORES_CHANGELOG, _subject, records.score_state, 2),
    Kind(ALERTS_CHANGELOG, _subject, records.alert_state, 2),
    Kind(SOURCES_CHANGELOG, _subject, records.source_state, 2),
    Kind(DAYS_CHANGELOG, _day, records.glucose_day, 2),
    Kind(topics.UPLOAD_OUTCOMES, _of(records.upload_outcome, "upload_id"), records.upload_outcome, 4),
    Kind(topics.READING_OUTCOMES, _of(records.reading_outcome, "subject_id"), records.reading_outcome, 4),
    Kind(topics.FAN_CHARTS, _of(records.chart, "series_key"), records.chart, 2),
    Kind(topics.ALERTS, _of(records.alert, "subject_id"), records.alert, 2),
    Kind(topics.WEBHOOKS, _of(records.webhook, "webhook_id"), records.webhook, 2),
    Kind(topics.WEBHOOK_DELIVERIES, _of(records.delivery, "subject_id"), records.delivery, 2),
    Kind(topics.REQUEST_OUTCOMES, _of(records.request_outcome, "series_key"), records.request_outcome, 4),
    Kind(topics.SCORES, _of(records.target_score, "series_key"), records.target_score, 2),
    Kind(topics.REPLAYS, _of(records.replayed, "series_key"), records.replayed, 2),
    Kind(topics.MODEL_CHOICES, lambda number, good: SERVED, records.model_choice, 2),
    Kind(topics.DEAD_LETTERS, lambda number, good: "anna", records.dead_letter, 3),
    Kind(changelog(app_id("ingest"), SUBJECTS_TABLE), _subject, records.window_row, 3),
    Kind(changelog(app_id("ingest"), SERIES_TABLE), _of(records.series, "series_key"), records.tail_row, 3),
    Kind(changelog(app_id("calc"), WATCH_TABLE), _subject, records.watch_row, 2),
)
"""Every topic, with its share of the cases: a fifth are files."""


def check_complete() -> None:
    """Raises KeyError for a topic, or the changelog of a table, that no case is made for."""
    missing = {topic.name for topic in topology.all_topics()} - {kind.topic.name for kind in KINDS}
    if missing:
        raise KeyError(f"no cases for {', '.join(sorted(missing))}: add them to KINDS")


def case_of(seed: int, number: int) -> Case:
    """The same for the same seed and number."""
    chance = random.Random(f"glucast-fuzz/{seed}/{number}")
    kind = chance.choices(KINDS, [each.weight for each in KINDS])[0]
    good = kind.message(number, good=False)
    where = chance.choices(("field", "bytes", "around", "restless"), (70, 20, 7, 3))[0]
    if where == "around" or good.value is None:
        return Case(number, kind.topic, *_around(good, chance))
    if kind.topic == topics.UPLOADS:
        value, about = broken_file(number, chance)
    elif where == "bytes":
        value, about = damaged(good.value, chance)
    else:
        value, about = _broken(kind.good(number, False), chance)
    message = dataclasses.replace(good, value=value)
    if where == "restless":
        message, more = _around(message, chance)
        about = f"{about}, {more}"
    return Case(number, kind.topic, message, about)


def _broken(record: Record | ArrowRecord | bytes, chance: Chance) -> tuple[bytes | None, str]:
    if isinstance(record, ArrowRecord):
        return broken_arrow(record, chance)
    if isinstance(record, Record):
        return broken_json(json.loads(record.to_json()), chance)
    if record.startswith(b"{"):
        return broken_json(json.loads(record), chance)
    return damaged(record, chance)


def _around(message: Message, chance: Chance) -> tuple[Message, str]:
    """The value stays, what is around it does not."""
    what = chance.choice(("key", "headers", "time"))
    if what == "key":
        return dataclasses.replace(message, key=chance.choice(ODD_KEYS)), "odd key"
    if what == "headers":
        return dataclasses.replace(message, headers=chance.choice(ODD_HEADERS)), "odd headers"
    return dataclasses.replace(message, timestamp_ms=chance.choice(ODD_TIMES_MS)), "odd time of the message"
