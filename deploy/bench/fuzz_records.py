"""Good records of every topic for the fuzzing bench, by number: those of different numbers differ in content."""

import dataclasses
import datetime
import functools

import numpy as np

from agents.calc.fan_chart import fan_chart
from agents.core import fingerprint
from agents.core.rolling_window import RollingWindow
from agents.core.sources import Disagreement
from agents.core.window_row import Displaced, Held
from agents.ingest.stored_series import StoredSeries, Tail
from agents.work import Message
from deploy.bench.fuzz_files import rows_of
from schemas import topics
from schemas.alert import Alert, AlertState
from schemas.arrival import Arrival, WatchState
from schemas.command import CacheCommand, ForecastDemand
from schemas.dead_letter import DeadLetter
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import to_row
from schemas.forecast import Forecast, ForecastRequest, ForecastWindow
from schemas.glucose_day import GlucoseDay
from schemas.grid import CENTI, HORIZON_STEPS, PAST_POINTS, STEP, STEP_SECONDS, STEPS_A_DAY
from schemas.model_choice import ModelChoice
from schemas.outcome import RequestOutcome
from schemas.reading import Reading, ReadingOutcome
from schemas.replay import ReplayedForecast
from schemas.score import HorizonScore, TargetScore
from schemas.score_state import ScoreState
from schemas.series import Series
from schemas.sources import DecidedPolicy, SourcePolicy, SourceState
from schemas.topics import Topic
from schemas.upload import ProcessingWarnings, UploadOutcome
from schemas.webhook import Delivery, Webhook

NOW = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
NOW_MS = int(NOW.timestamp() * 1000)
BAD_SECONDS = 10
"""Between what is sent of the bad subject: what is accepted of it is one in several, and makes a whole window too."""
MODEL = "d" * 64
GOOD_SUBJECT, BAD_SUBJECT = "good", "bad"
OFFSET_OF_0 = 1_000_000


def message_of(topic: Topic, key: bytes | None, value: bytes | None, number: int, time_ms: int = NOW_MS) -> Message:
    """A message at its place in the log; numbers below 0 are of those that come before the first case."""
    return Message(topic=topic.name, key=key, value=value, offset=number + OFFSET_OF_0, timestamp_ms=time_ms)


def time_ms(number: int, good: bool = True) -> int:
    """When the message of a number came: after the reading that it is about."""
    return NOW_MS + number * 1000 * (STEP_SECONDS if good else BAD_SECONDS)


def _hash(*parts: object) -> str:
    return fingerprint.malformed_outcome_id("/".join(map(str, parts)), b"")


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
        began_ms=time_ms(number),
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
        began_ms=time_ms(number),
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


def chart_row(number: int, good: bool) -> bytes | FanChart:
    """As the table holds it now; every fourth as a version before did, in JSON."""
    kept = chart(number, good)
    return kept if number % 4 == 0 and not good else to_row(kept)


def alert_state(number: int, good: bool) -> AlertState:
    return AlertState(since=number, slot=number + 12, raised={"low": number + (0 if good else 2**20)})


def source_state(number: int, good: bool) -> SourceState:
    policy = SourcePolicy(preferred_device=f"device {number if good else 2**20 + number}")
    return SourceState(policies=(DecidedPolicy(offset=number, policy=policy),), devices=("device",))


def arrival(number: int, good: bool) -> Arrival:
    sent = reading(number, good)
    what = "reading" if number % 3 else "sensor_error"
    return Arrival(what=what, came_ms=time_ms(number, good), subject_id=sent.subject_id, time=sent.time)


def score_state(number: int, good: bool) -> bytes:
    state = ScoreState()
    state.newest, state.scored = number + 12, number + (0 if good else 2**31)
    return state.to_bytes()


def glucose_day(number: int, good: bool) -> bytes:
    level = 9_000 + number % 9_000 + (0 if good else 1)
    return GlucoseDay(
        time_ms(number), 60, (level,) * (number % STEPS_A_DAY) + (0,) * (STEPS_A_DAY - number % STEPS_A_DAY)
    ).to_bytes()


def restore(number: int, good: bool) -> CacheCommand:
    kept = chart(number | 1, good)  # of a sample
    return CacheCommand(
        action="restore", command_id=f"command-{number}", up_to_ms=time_ms(number), series_key=kept.series_key,
        handle=kept.handle, chart=kept,
    )  # fmt: skip


def delete(number: int, good: bool) -> CacheCommand:
    gone = series(10**6 + number)
    return CacheCommand(
        action="delete", command_id=f"command-{number}", up_to_ms=time_ms(number), series_key=gone.series_key,
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
        reading=sent,
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
        glucose_mgdl=94.0, issue_time=kept.issue_time, began_ms=kept.began_ms, reason="a reason in words",
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


def dead_letter(number: int, good: bool) -> DeadLetter:
    return DeadLetter(
        letter_id=f"{topics.SERIES.name}/{number % 4}/{number}/handle", step="handle", code="malformed",
        reason="the message's key is not the series key of its record", topic=topics.SERIES.name, partition=number % 4,
        offset=number, attempts=1, came_at=NOW, failed_at=NOW + number * STEP, key_base64="YW5uYQ==",
        value_base64="e30=", value_bytes=2, headers={"timezone": "UTC"},
    )  # fmt: skip


def model_choice(number: int, good: bool) -> ModelChoice:
    return ModelChoice(
        model="fuzz", model_fingerprint=_hash("model", number), previous_model="fuzz", previous_fingerprint=MODEL,
        chosen_at=NOW + number * STEP,
    )  # fmt: skip


def replayed(number: int, good: bool) -> ReplayedForecast:
    kept = chart(number & ~1, good)
    return ReplayedForecast(
        replay_id=f"replay-{number}", request_id=_hash("request", number, good), series_key=kept.series_key,
        status="charted", chart=kept,
    )  # fmt: skip


def target_score(number: int, good: bool) -> TargetScore:
    kept = chart(number & ~1, good)
    horizon = HorizonScore(
        minutes_ahead=30, chart=kept.chart_id[:16], median_mgdl=120.0, error_mgdl=4.0, crps_mgdl=3.0, in_50=True,
        in_80=True, in_90=True, in_95=True, width_90_mgdl=60.0, pit=0.4, log_score_below_70=0.1,
        log_score_above_180=0.1, clarke="A", parkes="A",
    )  # fmt: skip
    return TargetScore(
        score_id=_hash("score", number, good), series_key=kept.series_key, subject_id=kept.subject_id,
        target_time=kept.issue_time, truth_mgdl=116.0, model=kept.model, model_fingerprint=MODEL, scores=(horizon,),
    )  # fmt: skip


def window_row(number: int, good: bool) -> bytes:
    """The eight hours before the reading of the number, with what left its slots since and sums of earlier hours."""
    newest = int((NOW + number * STEP).timestamp()) // STEP_SECONDS - 1
    level = 9_000 + number % 5_000 + (0 if good else 1)
    slots = {newest - place: Held(0, level + 10 * place, 100 - place, 60) for place in range(PAST_POINTS)}
    window = RollingWindow(slots, late_slots=12)
    window.displaced = [Displaced(newest, Held(1_000_000, level, 90, 60), 99)]
    window.hours = {newest // 12 - 10 - hour: (12 * level, 12) for hour in range(20)}
    window.disagreements = [Disagreement(newest, 90, 200)]
    return window.to_bytes()


def tail_row(number: int, good: bool) -> bytes:
    """A stored series."""
    stored = StoredSeries.of(series(number))
    stored.came_again(series(number))
    return Tail([stored]).to_bytes()


def watch_row(number: int, good: bool) -> WatchState:
    return WatchState(reading_time=NOW + number * STEP, errors=number % 3, due_ms=NOW_MS + number)
