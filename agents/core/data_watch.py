"""Whether a subject's sensor is still heard of: pure, one arrival or look at a time.

``stale_data``: nothing came for 20 minutes although the last reading was of now when it came (Nightscout warns after 15
and is urgent after 30). It is not told of a subject whose readings always come late, nor of a simulated one, and after
a day nothing is expected any more. ``sensor_error``: three readings in a row are error codes, which is a quarter of an
hour of a sensor that measures every five minutes; an error is heard of too, so the two never speak of the same thing.

An alert is named by the instant that was last heard of before it (stale), or of the error that was one too many: so
what raises it again, after a crash, says the same under the same id, and what comes back within five minutes is another
alert. One alert an episode. It ends with the next reading, a
stale one also with an error code. Who snoozes ``data`` is told when that is over, if it still is so.
"""

import datetime
from typing import Literal, NamedTuple

from agents.core.fast_fall import ended_of
from agents.core.fingerprint import data_alert_id
from agents.core.minutes import Minutes, band_of, in_band
from schemas.alert import AlertSettings, AlertState, Episode, RecentAlert, remembered
from schemas.arrival import WatchState
from schemas.grid import slot_of

DataKind = Literal["stale_data", "sensor_error"]

STALE_MINUTES = 20
ERRORS_IN_A_ROW = 3
LOOK_AGAIN_MS = 300_000
"""Of a subject whose alert waits for the end of a snooze, or for its band of the day."""
EXPECTED_MS = 24 * 3_600_000
"""So long after it was heard of a subject is watched."""


class StaleRule(NamedTuple):
    """Nothing for so many minutes."""

    enabled: bool
    minutes: int
    band: Minutes | None


class ErrorRule(NamedTuple):
    """So many error codes in a row."""

    enabled: bool
    readings: int
    band: Minutes | None


class Watched(NamedTuple):
    """What is remembered after an arrival or a look, and the alerts that it raised or ended."""

    watch: WatchState
    alerts: AlertState
    told: tuple[RecentAlert, ...] = ()


def stale_rule(settings: AlertSettings) -> StaleRule:
    """The default with the subject's changes; the same in every preset."""
    change = settings.stale_data
    return StaleRule(change.enabled is not False, change.minutes or STALE_MINUTES, band_of(change.active))


def error_rule(settings: AlertSettings) -> ErrorRule:
    """The default with the subject's changes; the same in every preset."""
    change = settings.sensor_error
    return ErrorRule(change.enabled is not False, change.readings or ERRORS_IN_A_ROW, band_of(change.active))


def read(watch: WatchState, alerts: AlertState, time: datetime.datetime) -> Watched:
    """A reading of glucose came; one that is not newer than all before it changes nothing.

    One of before the newest error code is the last glucose that is known, and no more: the sensor still shows an error.
    """
    if watch.reading_time is not None and time <= watch.reading_time:
        return Watched(watch, alerts)
    if watch.error_time is not None and time < watch.error_time:
        return Watched(watch.model_copy(update={"reading_time": time}), alerts)
    after = watch.model_copy(update={"reading_time": time, "errors": 0, "stale": False, "erroneous": False})
    return _filed(Watched(after, *_ended(alerts, ("stale_data", "sensor_error"), time)))


def failed(watch: WatchState, alerts: AlertState, subject_id: str, time: datetime.datetime, now_ms: int) -> Watched:
    """An error code came in the place of glucose."""
    if watch.heard is not None and time <= watch.heard:
        return Watched(watch, alerts)
    alerts, told = _ended(alerts, ("stale_data",), time)
    after = watch.model_copy(update={"error_time": time, "errors": watch.errors + 1, "stale": False})
    rule = error_rule(alerts.settings)
    if not after.erroneous and after.errors >= rule.readings and _may(alerts, rule.enabled, rule.band, time, now_ms):
        alerts, alert = _raised(alerts, subject_id, "sensor_error", time, time)
        after, told = after.model_copy(update={"erroneous": True}), (*told, alert)
    return _filed(Watched(after, alerts, told))


def looked_at(watch: WatchState, alerts: AlertState, subject_id: str, now_ms: int) -> Watched:
    """The time has come to look whether something is missing; `now_ms`: all that came before is known."""
    unfiled = watch.model_copy(update={"due_ms": None})
    if watch.heard is None or watch.stale:
        return Watched(unfiled, alerts)
    rule, heard_ms = stale_rule(alerts.settings), _ms(watch.heard)
    expected = watch.heard + datetime.timedelta(minutes=rule.minutes)
    if _ms(expected) > now_ms:
        return Watched(watch.model_copy(update={"due_ms": _ms(expected)}), alerts)
    if now_ms - heard_ms > EXPECTED_MS + rule.minutes * 60_000:
        return Watched(unfiled, alerts)
    now = datetime.datetime.fromtimestamp(now_ms / 1000, watch.heard.tzinfo)
    if not _may(alerts, rule.enabled, rule.band, now, now_ms):
        return Watched(watch.model_copy(update={"due_ms": now_ms + LOOK_AGAIN_MS}), alerts)
    alerts, alert = _raised(alerts, subject_id, "stale_data", watch.heard, expected)
    return Watched(unfiled.model_copy(update={"stale": True}), alerts, (alert,))


def filed_anew(watch: WatchState, alerts: AlertState) -> WatchState:
    """By settings that may be others: a look that is filed for later than it is due by them is filed anew."""
    return watch if watch.due_ms is None else _filed(Watched(watch, alerts)).watch


def marked_anew(watch: WatchState, alerts: AlertState) -> Watched:
    """By the alerts that an order left: one that it took is told of no more, and may be raised again."""
    stale = watch.stale and "stale_data" in alerts.episodes
    erroneous = watch.erroneous and "sensor_error" in alerts.episodes
    return _filed(Watched(watch.model_copy(update={"stale": stale, "erroneous": erroneous}), alerts))


def _filed(found: Watched) -> Watched:
    """Whoever was heard of is looked at once that is too long ago. A look that is filed for before finds out itself."""
    heard, filed_ms = found.watch.heard, found.watch.due_ms
    if heard is None:
        return found
    due_ms = _ms(heard + datetime.timedelta(minutes=stale_rule(found.alerts.settings).minutes))
    if filed_ms is not None and filed_ms <= due_ms:
        return found
    return found._replace(watch=found.watch.model_copy(update={"due_ms": due_ms}))


def _may(alerts: AlertState, enabled: bool, band: Minutes | None, now: datetime.datetime, now_ms: int) -> bool:
    awake = alerts.snoozed_until_ms.get("data", 0) <= now_ms
    return enabled and awake and in_band(band, now.hour * 60 + now.minute)


def _raised(
    alerts: AlertState, subject_id: str, kind: DataKind, named_by: datetime.datetime, issued: datetime.datetime
) -> tuple[AlertState, RecentAlert]:
    alert = RecentAlert(
        alert_id=data_alert_id(subject_id, kind, named_by), kind=kind, status="raised", slot=slot_of(issued)
    )
    update = {
        "episodes": {**alerts.episodes, kind: Episode(alert_id=alert.alert_id, slot=alert.slot)},
        "recent": remembered((*alerts.recent, alert)),
    }
    return alerts.model_copy(update=update), alert


def _ended(
    alerts: AlertState, kinds: tuple[DataKind, ...], time: datetime.datetime
) -> tuple[AlertState, tuple[RecentAlert, ...]]:
    told: list[RecentAlert] = []
    for kind in kinds:
        if (episode := alerts.episodes.get(kind)) is not None:
            alerts, ended = ended_of(alerts, episode, slot_of(time))
            told += ended
    return alerts, tuple(told)


def _ms(time: datetime.datetime) -> int:
    return round(time.timestamp() * 1000)
