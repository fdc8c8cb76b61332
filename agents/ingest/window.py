"""Readings in; for each one outcome, and a forecast request for every window that it completes or changes.

The present window's request goes to the live lane, those of windows in the past to backfill. An order to begin anew
with a subject, or to erase it, comes among the readings: see `agents.ingest.subject_reset`; so do orders about its
devices and sensors (`agents.ingest.subject_sources`), and ticks, which are passed on to the watch with what arrives
between them: see `schemas.arrival`.
"""

import datetime
import json
from typing import Literal, Protocol

from pydantic import ValidationError

from agents.core import fingerprint
from agents.core.local_time import offset_text
from agents.core.past_hours import HOURS_VERSION
from agents.core.rolling_window import RollingWindow, place, slot_time
from agents.core.sampling import Sampling
from agents.core.slot_windows import Issue
from agents.ingest import glucose_days, subject_expiry, subject_reset, subject_sources
from agents.work import Message, StepFunction, Work
from schemas.arrival import TICK, TICK_KEY, Arrival
from schemas.errors import MalformedRecordError
from schemas.forecast import ForecastRequest
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL, LOWEST_SENSOR_MGDL, PAST_POINTS, PRESENT, STEP_SECONDS
from schemas.reading import REROUTED, Reading, ReadingOutcome
from schemas.record import subject_ids
from schemas.tables import SUBJECTS_TABLE as TABLE
from schemas.topics import ARRIVALS, BACKFILL, LIVE, READING_OUTCOMES, READINGS


class WindowSettings(Protocol):
    """How late or early a reading may be, how long reports look back and who is silent is remembered, and how forecasts
    are sampled."""

    @property
    def max_late_minutes(self) -> int: ...
    @property
    def max_clock_skew_seconds(self) -> float: ...
    @property
    def subject_kept_days(self) -> int: ...

    @property
    def report_days(self) -> int: ...
    @property
    def model(self) -> Sampling: ...


EARLIEST_YEAR, LATEST_YEAR = 1900, 9998


def build(settings: WindowSettings) -> StepFunction:
    """The step of ``cgm.readings``. Raises `MalformedRecordError` for a message that names no subject."""
    late_slots = settings.max_late_minutes * 60 // STEP_SECONDS

    async def step(work: Work) -> None:
        message = work.message
        if (order := subject_reset.order_of(message)) is not None:
            whose = subject_reset.subject_of(message)
            if not _rerouted(work, whose):
                done = subject_reset.carry_out(work, order, whose, late_slots, settings.report_days)
                subject_sources.forget(work, whose, order == "erased", message.first_offset, done)
            return
        if subject_sources.is_order(message):
            whose = subject_reset.subject_of(message)
            if not _rerouted(work, whose):
                is_known = await subject_sources.carry_out(work, whose, settings.max_clock_skew_seconds)
                if is_known:
                    _heard(work, whose)
            return
        if not message.value and TICK in message.headers:
            tick = Arrival(what="tick", came_ms=message.timestamp_ms)
            work.send(ARRIVALS, TICK_KEY, tick.to_json(), partition=message.partition)
            subject_expiry.let_go(work, settings.subject_kept_days)
            return
        try:
            reading = Reading.from_json(message.value)
        except MalformedRecordError as error:
            subject_id = _subject_of(message.value)
            if subject_id is None:
                raise
            outcome_id = fingerprint.malformed_outcome_id(subject_id, message.value or b"")
            if _is_at_home(work, subject_id):
                _rejected(work, outcome_id, subject_id, (error.code, str(error)), None)
            else:  # what is no record is not sent on, and the subject's rows are elsewhere
                _reject(work, outcome_id, subject_id, error.code, str(error), None)
            return
        if _rerouted(work, reading.subject_id):
            return
        outcome_id = fingerprint.outcome_id(reading.subject_id, reading.time, reading.glucose_mgdl)
        refusal = _refusal(reading, message.timestamp_ms) or subject_reset.forgotten(work, reading.subject_id)
        if refusal:
            if reading.is_error_code:
                _arrived(work, "sensor_error", reading)
            _rejected(work, outcome_id, reading.subject_id, refusal, reading)
            return
        window = RollingWindow.from_bytes(work.get(TABLE, reading.subject_id), late_slots)
        if window.must_settle(message.offset, work.committed):
            await work.settled()
        known_sources = subject_sources.guide(work, reading.subject_id, window)
        slot, held = place(reading.time, reading.glucose_mgdl, message.first_offset, reading.device)
        verdict, changed = window.accept(slot, held, work.committed, message.offset)
        if changed:
            work.put(TABLE, reading.subject_id, window.to_bytes())
            began_ms = subject_reset.began_ms(work, reading.subject_id)
            glucose_days.remember(work, reading.subject_id, window, slot, settings.report_days, began_ms)
        subject_sources.remember(work, reading.subject_id, known_sources, reading.device)
        _heard(work, reading.subject_id)
        outcome = ReadingOutcome(
            outcome_id=outcome_id,
            subject_id=reading.subject_id,
            status=verdict.status,
            code=verdict.code,
            reason=verdict.reason,
            expected_time=None if verdict.expected is None else slot_time(verdict.expected, held.zone_minutes),
            reading_id=reading.reading_id,
            time=reading.time,
            issue_times=tuple(slot_time(issue.slot, issue.zone_minutes) for issue in verdict.issues),
            withheld_times=tuple(slot_time(each.slot, each.zone_minutes) for each in verdict.withheld),
            flags=verdict.flags,
            # Of one time the reading that is told last counts, and one from a letter may have been corrected since.
            reading=reading if verdict.kept or message.first is None else None,
        )
        work.publish(READING_OUTCOMES, reading.subject_id, outcome)
        if verdict.status != "duplicate" and slot == verdict.newest:
            _arrived(work, "reading", reading)
        for issue in verdict.issues:
            request = _request(reading, issue, message)
            # A late reading changes up to two hours of forecasts. Nobody waits for any but the last of them, and for
            # that only while it is the present one.
            is_urgent = issue.slot == verdict.newest_heard and message.timestamp_ms <= (request.deadline_ms or 0)
            work.send(LIVE if is_urgent else BACKFILL, reading.subject_id, request.to_arrow())

    def _rejected(
        work: Work, outcome_id: str, subject_id: str, refusal: tuple[str, str], reading: Reading | None
    ) -> None:
        """Say why, and that somebody was heard of: but of who was erased since, nothing is said or kept but that."""
        forgotten = subject_reset.forgotten(work, subject_id)
        if forgotten is None or forgotten[0] != "erased":
            _heard(work, subject_id)
        else:
            refusal = forgotten
        _reject(work, outcome_id, subject_id, *refusal, reading)

    def _heard(work: Work, subject_id: str) -> None:
        """Of a subject, and so of time: those go who were not heard of for long."""
        subject_expiry.hear(work, subject_id)
        subject_expiry.let_go(work, settings.subject_kept_days)

    def _refusal(reading: Reading, timestamp_ms: int) -> tuple[str, str] | None:
        if not (reading.is_error_code or LOWEST_MGDL <= reading.glucose_mgdl <= HIGHEST_MGDL):
            return "implausible", (
                f"{reading.glucose:g} {reading.unit} is impossible: possible is {LOWEST_MGDL:.0f} to "
                f"{HIGHEST_MGDL:.0f} mg/dL; check the unit of the reading"
            )
        if reading.glucose_mgdl < LOWEST_SENSOR_MGDL:
            return "sensor_error", (
                f"{reading.glucose:g} {reading.unit} is an error code or below what a sensor shows "
                f"({LOWEST_SENSOR_MGDL:.0f} mg/dL), and no glucose; check the unit of the reading"
            )
        if not EARLIEST_YEAR <= reading.time.year <= LATEST_YEAR:
            return "implausible", (
                f"the time is not within {EARLIEST_YEAR} to {LATEST_YEAR}: check the clock of the device"
            )
        ahead = reading.time.timestamp() - timestamp_ms / 1000
        if ahead > settings.max_clock_skew_seconds:
            return "future", (
                f"the reading is {ahead:.0f} s ahead, {settings.max_clock_skew_seconds:.0f} s are allowed: "
                "check the clock of the device and the offset of the time"
            )
        return None

    def _request(reading: Reading, issue: Issue, message: Message) -> ForecastRequest:
        subject_id = reading.subject_id
        # A simulation has a clock of its own: what it says now is the present.
        issued_ms = message.timestamp_ms if reading.simulated else issue.slot * STEP_SECONDS * 1000
        digest = issue.input_hash
        place_of_issue = fingerprint.slot_place(issue.slot)
        interpolated = len(issue.interpolated_points)
        imputation = [f"IMPUTATION: {interpolated} of {PAST_POINTS} points are interpolated"]
        return ForecastRequest(
            request_id=fingerprint.request_id(
                "live", subject_id, place_of_issue, digest, settings.model.num_samples, settings.model.seed
            ),
            kind="live",
            series_key=subject_id,
            subject_id=subject_id,
            began_ms=message.timestamp_ms,
            timezone=offset_text(slot_time(issue.slot, issue.zone_minutes)),
            end_seconds=issue.end_seconds,
            past_centi_mgdl=issue.past_centi,
            truth_centi_mgdl=[],
            input_hash=digest,
            num_samples=settings.model.num_samples,
            seed=settings.model.seed,
            simulated=reading.simulated,
            warnings=[*(imputation if interpolated else []), *issue.warnings],
            interpolated_points=issue.interpolated_points,
            changed_points=list(issue.changed_points),
            deadline_ms=issued_ms + PRESENT // datetime.timedelta(milliseconds=1),
            revision=message.offset,
            hours_version=HOURS_VERSION if issue.hours_centi else 0,
            hours_centi_mgdl=list(issue.hours_centi),
        )

    return step


def _rerouted(work: Work, subject_id: str) -> bool:
    """Whether a message lay under another key or partition than its subject's, and was sent on to its own."""
    message = work.message
    if REROUTED in message.headers or _is_at_home(work, subject_id):
        return False
    work.send(READINGS, subject_id, message.value, {**message.headers, REROUTED: b"%d" % message.came_ms})
    return True


def _is_at_home(work: Work, subject_id: str) -> bool:
    """Whether a message lies under its subject's key, in the partition of that."""
    key = subject_id.encode()
    return work.message.key == key and work.partition_of(key) == work.message.partition


def _reject(work: Work, outcome_id: str, subject_id: str, code: str, reason: str, reading: Reading | None) -> None:
    outcome = ReadingOutcome(
        outcome_id=outcome_id,
        subject_id=subject_id,
        status="rejected",
        code=code,
        reason=reason,
        reading_id=reading.reading_id if reading else None,
        time=reading.time if reading else None,
    )
    work.publish(READING_OUTCOMES, subject_id, outcome)


def _arrived(work: Work, what: Literal["reading", "sensor_error"], reading: Reading) -> None:
    """For the watch: of now, and of nobody simulated, whose clock is another."""
    came_ms = work.message.timestamp_ms
    if reading.simulated or came_ms / 1000 - reading.time.timestamp() > PRESENT.total_seconds():
        return
    arrival = Arrival(what=what, came_ms=came_ms, subject_id=reading.subject_id, time=reading.time)
    work.send(ARRIVALS, reading.subject_id, arrival.to_json())


def _subject_of(value: bytes | None) -> str | None:
    """The subject that a malformed reading names, if it names one."""
    try:
        document = json.loads(value or b"")
        return subject_ids().validate_python(document["subject_id"], strict=True)
    except (ValueError, TypeError, KeyError, RecursionError, ValidationError):
        return None
