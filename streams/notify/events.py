"""What is worth telling somebody outside Kafka: public records in, events with an id and an end out. Pure.

==================  =====================================  ===============================  ====================
type                of                                     id                               holds until
==================  =====================================  ===============================  ====================
alert.raised        an `Alert` that begins                 alert_<alert id>_raised_<began>  1 h after issue time
alert.repeated      the same, said again                   alert_<alert id>_repeated_<…>    1 h after issue time
alert.hit, …        what became of it                      alert_<alert id>_<status>_<…>    12 h after it came
forecast.issued     a live `FanChart` of the served model  forecast_<chart id>_<began>      as it is served
==================  =====================================  ===============================  ====================

``<began>`` is `began_ms`: an alert's id names whose it is, its kind and its time, a chart's its readings and
forecaster. After a reset the same may be told anew, of readings that came again. An alert that is repeated has its
issue time before it, in seconds; one of an earlier version has no `began_ms`, and none in its id. Ids hold no full
stop: the signature of Standard Webhooks has them between its parts.

An alert about data (no readings, a sensor's errors) says what is so until it has ended: it is told for 12 h. Of a
simulation the hour counts from when the alert came.
"""

import dataclasses
import datetime
from typing import NamedTuple

import orjson

from agents.work import CLOCKS_DIFFER_MS
from schemas.alert import Alert
from schemas.errors import MalformedRecordError, UndecodableError
from schemas.fan_chart import FanChart
from schemas.grid import PRESENT
from schemas.record import Record
from schemas.topics import ALERTS, FAN_CHARTS
from schemas.webhook import Delivery, EventGroup
from streams.kafka.decoding import Undecodable

ALERT_HOLDS = datetime.timedelta(hours=1)
"""What an alert of a level, or of a fast fall, speaks of: after it calc ends either."""
LONGEST_HOLDS = datetime.timedelta(hours=12)
"""Of what became of an alert, and of one that holds until it has ended."""
UNTIL_ENDED = ("stale_data", "sensor_error")
LARGEST_BODY_BYTES = 64 << 10
"""A chart has 3 kB. What is kept on a topic must never be too large for it."""
TELLING = ("raised", "repeated")
"""The statuses of an alert that holds; all others say what became of it."""


class Place(NamedTuple):
    """Where a forecast stands among those of its subject: the greatest is the newest, as `agents.calc.chart_rows` has
    it. Of one time it is the one that began last, or that was made last.
    """

    issue_time: datetime.datetime
    began_at: datetime.datetime
    revision: int


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One thing to tell. `about`: events about the same thing end each other, see `why_ended`."""

    event_id: str
    type: str
    group: EventGroup
    subject_id: str
    came_at: datetime.datetime
    valid_until: datetime.datetime
    about: str
    """Of alerts the alert, of forecasts the subject."""
    body: bytes
    """As it is sent: ``{"type": …, "timestamp": …, "data": the record}``."""
    began_at: datetime.datetime
    """When the reading came that it is made of: an order to forget ends what began before."""
    simulated: bool = False
    place: Place | None = None
    """Of forecasts."""


def event_of(topic: str, value: bytes | None, came_at: datetime.datetime) -> Event | None:
    """The event that a message of ``cgm.alerts`` or ``cgm.fan-charts`` tells; None for a chart that nobody is told of.

    Raises `MalformedRecordError` and `UndecodableError`.
    """
    if isinstance(value, Undecodable):
        raise UndecodableError(str(value))
    try:
        if topic == ALERTS.name:
            return event_of_alert(Alert.from_json(value), came_at)
        if topic == FAN_CHARTS.name:
            return event_of_chart(FanChart.from_json(value), came_at)
    except OverflowError:
        raise MalformedRecordError("a time in it lies beyond the year 9999") from None
    raise MalformedRecordError(f"{topic} carries nothing that anybody is told of")


def alert_ends(alert: Alert, came_at: datetime.datetime) -> datetime.datetime:
    """Until when an alert holds, unless what became of it is known before.

    Calc may work a forecast long after it came, so that the record of an alert is new and its hour over: it counts from
    the issue time. From when it came does that of a simulation, whatever clock it has, and of a clock that is ahead.
    """
    if alert.kind in UNTIL_ENDED:
        return came_at + LONGEST_HOLDS
    return (came_at if alert.simulated else min(came_at, alert.issue_time)) + ALERT_HOLDS


def event_of_alert(alert: Alert, came_at: datetime.datetime) -> Event:
    """The event that a record of an alert tells."""
    again = f"_{int(alert.issue_time.timestamp())}" if alert.status == "repeated" else ""
    began = f"_{alert.began_ms}" if alert.began_ms else ""
    kind = f"alert.{alert.status}"
    return Event(
        event_id=f"alert_{alert.alert_id}_{alert.status}{again}{began}",
        type=kind,
        group="alert" if alert.status in TELLING else "outcome",
        subject_id=alert.subject_id,
        came_at=came_at,
        valid_until=alert_ends(alert, came_at) if alert.status in TELLING else came_at + LONGEST_HOLDS,
        about=alert.alert_id,
        body=_body(kind, alert.issue_time, alert),
        began_at=began_at(alert, came_at),
        simulated=alert.simulated,
    )


def event_of_chart(chart: FanChart, came_at: datetime.datetime) -> Event | None:
    """A forecast holds as long as the API would serve it: a simulated one from its computation, if that is later."""
    if chart.kind != "live" or not chart.model_serves or chart.subject_id is None:
        return None
    counted = max(chart.issue_time, chart.computed_at) if chart.simulated else chart.issue_time
    began = began_at(chart, came_at)
    return Event(
        event_id=f"forecast_{chart.chart_id}_{chart.began_ms}",
        type="forecast.issued",
        group="forecast",
        subject_id=chart.subject_id,
        came_at=came_at,
        valid_until=counted + PRESENT,
        about=chart.subject_id,
        body=_body("forecast.issued", chart.issue_time, chart),
        began_at=began,
        simulated=chart.simulated,
        place=Place(chart.issue_time, began, chart.revision),
    )


def began_at(record: Alert | FanChart, came_at: datetime.datetime) -> datetime.datetime:
    """When the reading came that a record is made of; where the record does not say, when itself did."""
    if not 0 < record.began_ms <= came_at.timestamp() * 1000 + CLOCKS_DIFFER_MS:
        return came_at
    return datetime.datetime.fromtimestamp(record.began_ms / 1000, datetime.UTC)


def place_of(waiting: Delivery) -> Place:
    """Of a delivery of a forecast. One of an earlier version says no more than until when it holds."""
    issued = waiting.issue_time
    if issued is None:
        issued = max(waiting.valid_until, _FIRST) - PRESENT
    return Place(issued, waiting.began_at or waiting.queued_at, waiting.revision or 0)


_FIRST = datetime.datetime.min.replace(tzinfo=datetime.UTC) + PRESENT
NEWER = "a newer forecast came"


def why_ended(waiting: Delivery, event: Event) -> str | None:
    """Why what waits about the same thing need not be sent any more; None where it still has to be.

    A forecast ends those that are not newer than it: one that a late reading brings may be of an earlier time.
    """
    if waiting.event_type == "forecast.issued" and event.place is not None and place_of(waiting) <= event.place:
        return NEWER
    if event.group == "outcome" and waiting.event_type in ("alert.raised", "alert.repeated"):
        if event.began_at < (waiting.began_at or waiting.queued_at):
            return None  # it became of the one before a reset, which has the same alert id
        return "what became of the alert is known"
    return None


def _body(kind: str, time: datetime.datetime, record: Record) -> bytes:
    body = orjson.dumps({"type": kind, "timestamp": time.isoformat(), "data": orjson.Fragment(record.to_json())})
    if len(body) > LARGEST_BODY_BYTES:
        raise MalformedRecordError(f"it is longer than {LARGEST_BODY_BYTES} bytes: nobody can be told of it")
    return body
