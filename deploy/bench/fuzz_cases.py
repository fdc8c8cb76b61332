"""What the fuzzing bench sends to every topic that a step or the query role reads: good records, and broken ones.

A case is a function of seed and number alone. Good records of different numbers differ in content, so that none of
them is answered out of a cache.
"""

import dataclasses
import datetime
import functools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from agents.calc.fan_chart import fan_chart
from agents.core import fingerprint
from agents.work import Message
from deploy.bench.fuzz_files import broken_file, rows_of, unified
from deploy.bench.fuzz_values import Chance, broken_arrow, broken_json, damaged
from schemas import topics
from schemas.alert import Alert, AlertState
from schemas.arrival import Arrival
from schemas.arrow_record import ArrowRecord
from schemas.command import CacheCommand, ForecastDemand
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import to_row
from schemas.forecast import Forecast, ForecastRequest, ForecastWindow
from schemas.glucose_day import GlucoseDay
from schemas.grid import CENTI, HORIZON_STEPS, PAST_POINTS, STEP, STEP_SECONDS, STEPS_A_DAY
from schemas.outcome import RequestOutcome
from schemas.reading import Reading, ReadingOutcome
from schemas.record import Record
from schemas.score_state import ScoreState
from schemas.series import Series
from schemas.sources import DecidedPolicy, SourcePolicy, SourceState
from schemas.tables import day_key, handle_key, subject_key
from schemas.topics import Topic
from schemas.upload import ProcessingWarnings, UploadOutcome
from schemas.webhook import Delivery, Webhook
from streams.topology import (
    ALERTS_CHANGELOG,
    CHART_CHANGELOGS,
    DAYS_CHANGELOG,
    SCORES_CHANGELOG,
    SOURCES_CHANGELOG,
    STEPS,
)

NOW = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
NOW_MS = int(NOW.timestamp() * 1000)
BAD_SECONDS = 10
"""Between what is sent of the bad subject: what is accepted of it is one in several, and makes a whole window too."""
MODEL = "d" * 64
GOOD_SUBJECT, BAD_SUBJECT = "good", "bad"
HISTORY_STEPS = 288
ODD_KEYS: tuple[bytes | None, ...] = (None, b"", b"\xff\xfe", b"\0", b"bad", b"gone/*", b"k" * 100_000)
ODD_HEADERS: tuple[Mapping[str, bytes], ...] = (
    {}, {"timezone": b""}, {"timezone": b"\xff\xfe"}, {"timezone": b"Mars/Olympus"}, {"timezone": b"+14:00"},
    {"timezone": b"x" * 5000}, {"timezone": b"../../etc/passwd"}, {"timezone": b"UTC\0"}, {"force": b"1"},
    {"rerouted": b"1"}, {"sources": b"{}"}, {"sources": b"\xff"}, {"sensor-start": b"2026-03-01T11:00:00Z"},
    {"sensor-start": b"now"}, {"h" * 2000: b"\xff" * 2000}, {f"h{number}": b"v" for number in range(100)},
)  # fmt: skip
ODD_TIMES_MS: tuple[int, ...] = (0, -1, 1, 2**31, 253_402_300_799_999, 2**62, -(2**62))


OFFSET_OF_0 = 1_000_000


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
    """Of a hundred cases."""

    def message(self, number: int, *, good: bool = True) -> Message:
        """The record as it should be; not `good`: of those whom only broken records are about."""
        record = self.good(number, good)
        time_ms = _time_ms(number, good)
        return message_of(self.topic, self.key(number, good).encode(), bytes_of(record), number, time_ms)


def message_of(topic: Topic, key: bytes | None, value: bytes | None, number: int, time_ms: int = NOW_MS) -> Message:
    """A message at its place in the log; numbers below 0 are of those that come before the first case."""
    return Message(topic=topic.name, key=key, value=value, offset=number + OFFSET_OF_0, timestamp_ms=time_ms)


def bytes_of(record: Record | ArrowRecord | bytes) -> bytes:
    if isinstance(record, bytes):
        return record
    return record.to_arrow() if isinstance(record, ArrowRecord) else record.to_json()


def _time_ms(number: int, good: bool = True) -> int:
    return NOW_MS + number * 1000 * (STEP_SECONDS if good else BAD_SECONDS)


def _hash(*parts: object) -> str:
    return fingerprint.malformed_outcome_id("/".join(map(str, parts)), b"")


# good records


def reading(number: int, good: bool) -> Reading:
    """Five minutes after that of the number before; of the bad subject, some seconds."""
    time = NOW + number * (STEP if good else datetime.timedelta(seconds=BAD_SECONDS))
    return Reading(
        subject_id=GOOD_SUBJECT if good else BAD_SUBJECT,
        time=time,
        glucose=round(130 + 40 * float(np.sin(time.timestamp() / 3000)), 1),
        unit="mg/dL",
        reading_id=str(number),
    )


@functools.lru_cache(maxsize=16)
def series(number: int, good: bool = True) -> Series:
    """Of an upload that no other number has."""
    centi = [round(CENTI * value) for _, value in rows_of(number)]
    start = 1_709_330_400 + STEP_SECONDS * number
    return Series(
        upload_id=_hash("upload", number),
        handle=fingerprint.handle_of("UTC", start, centi),
        series_key=fingerprint.tail_key(fingerprint.suffix_chain(start, centi)),
        timezone="UTC",
        start_seconds=start,
        glucose_centi_mgdl=centi,
        warnings_json=ProcessingWarnings().to_json().decode(),
        began_ms=_time_ms(number),
    )


STORED = -1
"""The number of the series that is stored before the first case."""


def demand(number: int, good: bool) -> ForecastDemand:
    stored = series(STORED)
    return ForecastDemand(
        demand_id=f"demand-{number}", series_key=stored.series_key, handle=stored.handle, indexes=(0, -1)
    )


def request(number: int, good: bool) -> ForecastRequest:
    past = [round(CENTI * (120 + number % 97 + 30 * np.sin(step / 9))) for step in range(PAST_POINTS)]
    end_seconds = int(NOW.timestamp()) + STEP_SECONDS * number
    subject = GOOD_SUBJECT if good else BAD_SUBJECT
    return ForecastRequest(
        request_id=_hash("request", number, good),
        kind="live",
        series_key=subject,
        subject_id=subject,
        began_ms=_time_ms(number),
        timezone="+02:00",
        end_seconds=end_seconds,
        past_centi_mgdl=past,
        truth_centi_mgdl=[],
        input_hash=fingerprint.input_hash(end_seconds, past),
        num_samples=10,
        seed=0,
        warnings=["IMPUTATION: 1 of 96 points are interpolated"],
    )


def sample_request(number: int, good: bool) -> ForecastRequest:
    """For a sample of an upload, with its truth."""
    handle, live = series(number).handle, request(number, good)
    return dataclasses.replace(
        live, kind="sample", series_key=_hash("tail", number), subject_id=None, handle=handle, index=-3,
        truth_centi_mgdl=[*live.past_centi_mgdl[-HORIZON_STEPS:]], demand_id=f"demand-{number}",
    )  # fmt: skip


def forecast(number: int, good: bool) -> Forecast:
    asked = (sample_request if number % 2 else request)(number, good)
    shared = {field.name: getattr(asked, field.name) for field in dataclasses.fields(ForecastWindow)}
    draws = np.random.default_rng(number).normal(0, 4, (asked.num_samples, HORIZON_STEPS))
    return Forecast(
        **shared,
        forecast_id=fingerprint.forecast_id(asked.input_hash, MODEL, asked.num_samples, asked.seed),
        model="fuzz",
        model_fingerprint=MODEL,
        samples_mgdl=(asked.past_centi_mgdl[-1] / CENTI + np.cumsum(draws, axis=1)).ravel().tolist(),
        residual_sd_mgdl=[8.0] * HORIZON_STEPS,
    )


@functools.lru_cache(maxsize=4)
def chart(number: int, good: bool) -> FanChart:
    return fan_chart(forecast(number, good), NOW)


def _row(number: int, good: bool) -> bytes | FanChart:
    """As the table holds it now; every fourth as a version before did, in JSON."""
    kept = chart(number, good)
    return kept if number % 4 == 0 and not good else to_row(kept)


def alert_state(number: int, good: bool) -> AlertState:
    return AlertState(since=number, slot=number + 12, raised={"low": number + (0 if good else 2**40)})


def source_state(number: int, good: bool) -> SourceState:
    policy = SourcePolicy(preferred_device=f"device {number if good else 2**20 + number}")
    return SourceState(policies=(DecidedPolicy(offset=number, policy=policy),), devices=("device",))


def arrival(number: int, good: bool) -> Arrival:
    sent = reading(number, good)
    what = "reading" if number % 3 else "sensor_error"
    return Arrival(what=what, came_ms=_time_ms(number, good), subject_id=sent.subject_id, time=sent.time)


def score_state(number: int, good: bool) -> bytes:
    state = ScoreState()
    state.newest, state.scored = number + 12, number + (0 if good else 2**31)
    return state.to_bytes()


def glucose_day(number: int, good: bool) -> bytes:
    level = 9_000 + number % 9_000 + (0 if good else 1)
    return GlucoseDay(
        _time_ms(number), 60, (level,) * (number % STEPS_A_DAY) + (0,) * (STEPS_A_DAY - number % STEPS_A_DAY)
    ).to_bytes()


def restore(number: int, good: bool) -> CacheCommand:
    kept = chart(number | 1, good)  # of a sample
    return CacheCommand(
        action="restore", command_id=f"command-{number}", up_to_ms=_time_ms(number), series_key=kept.series_key,
        handle=kept.handle, chart=kept,
    )  # fmt: skip


def delete(number: int, good: bool) -> CacheCommand:
    gone = series(10**6 + number)
    return CacheCommand(
        action="delete", command_id=f"command-{number}", up_to_ms=_time_ms(number), series_key=gone.series_key,
        handle=gone.handle,
    )  # fmt: skip


def command(number: int, good: bool) -> CacheCommand:
    return (restore if good or number % 2 else delete)(number, good)


def upload_outcome(number: int, good: bool) -> UploadOutcome:
    accepted = series(number)
    return UploadOutcome(
        upload_id=accepted.upload_id, status="accepted", handle=accepted.handle, series_key=accepted.series_key,
        began_ms=accepted.began_ms, points=112, total_samples=5, first_time="2024-03-01T22:00:00",
        last_time="2024-03-02T07:15:00",
    )  # fmt: skip


def reading_outcome(number: int, good: bool) -> ReadingOutcome:
    sent = reading(number, good)
    return ReadingOutcome(
        outcome_id=fingerprint.outcome_id(sent.subject_id, sent.time, sent.glucose_mgdl), subject_id=sent.subject_id,
        status="forecast_requested", reading_id=sent.reading_id, time=sent.time, issue_times=(sent.time,),
    )  # fmt: skip


def request_outcome(number: int, good: bool) -> RequestOutcome:
    asked = sample_request(number, good)
    return RequestOutcome(
        request_id=asked.request_id, series_key=asked.series_key, status="implausible", reason="a reason in words",
        handle=asked.handle, index=asked.index, demand_id=asked.demand_id,
    )  # fmt: skip


def alert(number: int, good: bool) -> Alert:
    kept = chart(number & ~1, good)
    return Alert(
        alert_id=_hash("alert", number, good), status="raised", kind="low", subject_id=kept.series_key,
        threshold_mgdl=70.0, probability=0.5, horizon_minutes=30, first_crossing=(0.1, 0.2, 0.1, 0.1),
        glucose_mgdl=94.0, issue_time=kept.issue_time, reason="a reason in words",
    )  # fmt: skip


def webhook(number: int, good: bool) -> Webhook:
    return Webhook(
        webhook_id=f"{GOOD_SUBJECT if good else BAD_SUBJECT}-{number % 8}", destination="https://example.org",
        subject_id=GOOD_SUBJECT if good else BAD_SUBJECT, events=("alert",), added_at=NOW, updated_at=NOW,
    )  # fmt: skip


def delivery(number: int, good: bool) -> Delivery:
    to = webhook(number, good)
    return Delivery(
        delivery_id=_hash("delivery", number, good), webhook_id=to.webhook_id, event_id=f"alert_{number}_raised",
        event_type="alert.raised", subject_id=to.subject_id or "", status="queued", queued_at=NOW + number * STEP,
        updated_at=NOW + number * STEP, valid_until=NOW + (number + 12) * STEP, body="{}",
    )  # fmt: skip


def _chart_key(number: int, good: bool) -> str:
    kept = chart(number, good)
    if kept.handle is not None and kept.index is not None:
        return str(handle_key(kept.handle, kept.index, MODEL))
    slot = int(kept.issue_time.timestamp()) // STEP_SECONDS
    return str(subject_key(kept.series_key, slot, HISTORY_STEPS, MODEL))


def _of(make: Callable[[int, bool], Any], field: str) -> Callable[[int, bool], str]:
    """The key of a record is one of its fields."""
    return lambda number, good: str(getattr(make(number, good), field))


KINDS: Sequence[Kind] = (
    Kind(topics.READINGS, _of(reading, "subject_id"), reading, 20),
    Kind(topics.UPLOADS, lambda number, good: str(number), lambda number, good: unified(rows_of(number)), 5),
    Kind(topics.SERIES, _of(series, "series_key"), series, 12),
    Kind(topics.DEMANDS, _of(demand, "series_key"), demand, 10),
    Kind(topics.CACHE_COMMANDS, _of(command, "series_key"), command, 7),
    Kind(topics.INTERACTIVE, _of(sample_request, "series_key"), sample_request, 4),
    Kind(topics.LIVE, _of(request, "series_key"), request, 5),
    Kind(topics.BACKFILL, _of(sample_request, "series_key"), sample_request, 3),
    *(Kind(topic, _of(forecast, "series_key"), forecast, 4) for topic in topics.FORECASTS.values()),
    *(Kind(topic, _chart_key, _row, 3) for topic in CHART_CHANGELOGS.values()),
    Kind(topics.ARRIVALS, _of(arrival, "subject_id"), arrival, 4),
    Kind(SCORES_CHANGELOG, lambda number, good: f"subject-{number}", score_state, 2),
    Kind(ALERTS_CHANGELOG, lambda number, good: f"subject-{number}", alert_state, 2),
    Kind(SOURCES_CHANGELOG, lambda number, good: f"subject-{number}", source_state, 2),
    Kind(DAYS_CHANGELOG, lambda number, good: day_key(f"subject-{number}", 20_000), glucose_day, 2),
    Kind(topics.UPLOAD_OUTCOMES, _of(upload_outcome, "upload_id"), upload_outcome, 4),
    Kind(topics.READING_OUTCOMES, _of(reading_outcome, "subject_id"), reading_outcome, 4),
    Kind(topics.FAN_CHARTS, _of(chart, "series_key"), chart, 2),
    Kind(topics.ALERTS, _of(alert, "subject_id"), alert, 2),
    Kind(topics.WEBHOOKS, _of(webhook, "webhook_id"), webhook, 2),
    Kind(topics.WEBHOOK_DELIVERIES, _of(delivery, "subject_id"), delivery, 2),
    Kind(topics.REQUEST_OUTCOMES, _of(request_outcome, "series_key"), request_outcome, 4),
)
"""Every topic that the page gives to a reader."""


def check_complete() -> None:
    """Raises KeyError for a topic that something reads and no case is made for."""
    missing = {topic.name for step in STEPS for topic in step.reads} - {kind.topic.name for kind in KINDS}
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
    return damaged(record, chance)


def _around(message: Message, chance: Chance) -> tuple[Message, str]:
    """The value stays, what is around it does not."""
    what = chance.choice(("key", "headers", "time"))
    if what == "key":
        return dataclasses.replace(message, key=chance.choice(ODD_KEYS)), "odd key"
    if what == "headers":
        return dataclasses.replace(message, headers=chance.choice(ODD_HEADERS)), "odd headers"
    return dataclasses.replace(message, timestamp_ms=chance.choice(ODD_TIMES_MS)), "odd time of the message"
