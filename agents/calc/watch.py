"""Arrivals in; an alert where a subject's readings stay away or are errors of its sensor, and its end.

The clock is that of the readings' own log: see `schemas.arrival`. A subject has one row, and one entry that says when
to look at it again; an entry is put off when its time comes and not with each reading, so a tick costs what is due.
"""

import datetime
import itertools

from agents.calc.alert_rows import alerts_of, keep
from agents.core import data_watch
from agents.core.data_watch import Watched
from agents.core.deletions import is_deleted, of_subject
from agents.core.local_time import spoken
from agents.work import StepFunction, Work
from schemas.alert import Alert, AlertState, RecentAlert, time_of_slot
from schemas.arrival import Arrival, WatchState
from schemas.errors import MalformedRecordError
from schemas.metrics import ALERTS_TOLD
from schemas.tables import DELETIONS_TABLE, WATCH_TABLE
from schemas.topics import ALERTS

MOST_A_TICK = 500
"""Subjects that one tick looks at; the next goes on. So a work stays small after a long outage too."""
_DUE = "due/"


def build(_: object) -> StepFunction:
    """The step of ``cgm.arrivals``. Raises `MalformedRecordError` for one that names nobody, or no time."""

    async def step(work: Work) -> None:
        arrival = Arrival.from_json(work.message.value)
        if arrival.what == "tick":
            _look(work, arrival.came_ms)
            return
        subject_id, time = arrival.subject_id, arrival.time
        if subject_id is None or time is None:
            raise MalformedRecordError("an arrival names its subject and the time of its reading")
        if is_deleted(work, DELETIONS_TABLE, of_subject(subject_id), arrival.came_ms):
            return
        before, alerts = _watch(work, subject_id), alerts_of(work, subject_id)
        if arrival.what == "reading":
            found = data_watch.read(before, alerts, time)
            came = {"reading_came_ms": max(before.reading_came_ms, arrival.came_ms)}
        else:
            found = data_watch.failed(before, alerts, subject_id, time, arrival.came_ms)
            came = {"error_came_ms": max(before.error_came_ms, arrival.came_ms)}
        found = found._replace(watch=found.watch.model_copy(update=came))
        _write(work, subject_id, before, alerts, found, arrival.came_ms)

    return step


def follow_settings(work: Work, subject_id: str) -> None:
    """A subject may be looked at earlier by settings that are new."""
    before, alerts = _watch(work, subject_id), alerts_of(work, subject_id)
    _write(work, subject_id, before, alerts, Watched(data_watch.filed_anew(before, alerts), alerts), alerts.began_ms)


def forget_watch(work: Work, subject_id: str, up_to_ms: int) -> None:
    """Nothing is expected of a subject that began anew, or was erased, at that time, until it is heard of again.

    It may have been already: arrivals and commands have no order between them, and a command may come again.
    """
    before, alerts = _watch(work, subject_id), alerts_of(work, subject_id)
    after = _heard_since(before, up_to_ms)
    if after.heard is not None:  # by the settings that are left
        _write(work, subject_id, before, alerts, data_watch.marked_anew(after, alerts), up_to_ms)
        return
    if before.due_ms is not None:
        work.delete(WATCH_TABLE, _entry(before.due_ms, subject_id))
    work.delete(WATCH_TABLE, subject_id)


def _heard_since(watch: WatchState, up_to_ms: int) -> WatchState:
    """Without what came up to then; of a row that does not say when, everything did."""
    gone: dict[str, object] = {}
    if watch.reading_came_ms <= up_to_ms:
        gone |= {"reading_time": None, "reading_came_ms": 0}
    if watch.error_came_ms <= up_to_ms:
        gone |= {"error_time": None, "error_came_ms": 0, "errors": 0, "erroneous": False}
    return watch.model_copy(update=gone)


def _look(work: Work, now_ms: int) -> None:
    """At every subject whose time has come."""
    for entry in itertools.islice(work.keys(WATCH_TABLE, _DUE), MOST_A_TICK):
        due_ms, subject_id = entry.removeprefix(_DUE).split("/")
        if int(due_ms) > now_ms:
            return
        before = _watch(work, subject_id)
        if before.due_ms != int(due_ms):  # of a row that could not be read, or an earlier life
            work.delete(WATCH_TABLE, entry)
            continue
        alerts = alerts_of(work, subject_id)
        _write(work, subject_id, before, alerts, data_watch.looked_at(before, alerts, subject_id, now_ms), now_ms)


def _write(work: Work, subject_id: str, before: WatchState, alerts: AlertState, found: Watched, now_ms: int) -> None:
    """What differs from `before` and `alerts`, and what is told of it."""
    watch = found.watch
    if watch == before:
        return
    if before.due_ms is not None and before.due_ms != watch.due_ms:
        work.delete(WATCH_TABLE, _entry(before.due_ms, subject_id))
    if watch.due_ms is not None and before.due_ms != watch.due_ms:
        work.put(WATCH_TABLE, _entry(watch.due_ms, subject_id), b"1")
    work.put(WATCH_TABLE, subject_id, watch.to_row())
    if found.alerts is alerts:
        return
    told = [_alert(each, subject_id, before, watch, now_ms) for each in found.told]
    keep(work, subject_id, found.alerts, max(alerts.began_ms, now_ms), told)
    work.sends_first = work.sends_first or bool(told)  # the state says that they were sent
    for each in told:
        work.publish(ALERTS, subject_id, each)
        work.measure(ALERTS_TOLD, each.kind, each.status)


def _watch(work: Work, subject_id: str) -> WatchState:
    """Of nobody, and of a row that a later version wrote, the beginning."""
    row = work.get(WATCH_TABLE, subject_id)
    try:
        return WatchState.from_json(row) if row else WatchState()
    except MalformedRecordError:
        return WatchState()


def _entry(due_ms: int, subject_id: str) -> str:
    return f"{_DUE}{due_ms:015d}/{subject_id}"


def _alert(told: RecentAlert, subject_id: str, before: WatchState, after: WatchState, now_ms: int) -> Alert:
    zone = after.heard.tzinfo if after.heard else None
    ended = None if told.ended_slot is None else time_of_slot(told.ended_slot).astimezone(zone)
    return Alert(
        alert_id=told.alert_id, status=told.status, kind=told.kind, subject_id=subject_id, threshold_mgdl=None,
        probability=None, horizon_minutes=None, glucose_mgdl=None, issue_time=time_of_slot(told.slot).astimezone(zone),
        last_reading_time=before.reading_time, ended_time=ended, began_ms=max(now_ms, told.began_ms),
        reason=_reason(told, before, after, now_ms),
    )  # fmt: skip


def _reason(told: RecentAlert, before: WatchState, after: WatchState, now_ms: int) -> str:
    if told.status == "ended":
        if told.kind == "sensor_error":
            return "the sensor shows glucose again"
        between = _between(before.heard, after.heard)
        return f"the sensor is heard of again, after {spoken(between)}" if between else "the sensor is heard of again"
    last = "" if before.reading_time is None else f"; the last glucose is of {_clock(before.reading_time)}"
    if told.kind == "sensor_error":
        return (
            f"{after.errors} readings in a row are error codes of the sensor and no glucose{last}: no forecast and no "
            "alert of a low comes meanwhile"
        )
    waited = _between(before.heard, datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC))
    return f"nothing from the sensor for {spoken(waited)}{last}: no forecast and no alert of a low comes meanwhile"


def _clock(time: datetime.datetime) -> str:
    """On the reading's own clock, which it names: whoever reads it may have another."""
    return f"{time:%Y-%m-%d %H:%M} UTC" + (time.isoformat(timespec="minutes")[16:] if time.utcoffset() else "")


def _between(first: datetime.datetime | None, last: datetime.datetime | None) -> int:
    """Minutes, rounded."""
    return 0 if first is None or last is None else round((last - first).total_seconds() / 60)
