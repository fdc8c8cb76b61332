"""What a fault run finds in what was told: lost, told under another id, and what may well be missing."""

import dataclasses
import datetime
from typing import Any, cast

import pytest
from aiokafka.structs import ConsumerRecord

from deploy.bench.faults_told import NAME, Listeners, compared
from deploy.bench.push_clients import Delivery, Event, Follower
from schemas.reading import ReadingOutcome
from schemas.record import Record
from schemas.topics import ALERTS, FAN_CHARTS, READING_OUTCOMES, WEBHOOK_DELIVERIES, Topic
from streams.notify.events import event_of_alert, event_of_chart
from streams.notify.outbox import Outbox, step_of
from tests.kit.alerts import NOW, alert, endpoint
from tests.kit.charts import fan_chart

BEGAN = NOW.timestamp()
OUTCOME = ReadingOutcome(outcome_id="1" * 64, subject_id="anna", status="no_forecast", time=NOW)
CHART = fan_chart(issue_time=NOW, first_target_time=NOW + datetime.timedelta(minutes=5))
ALERT = alert()


class _Streams:
    streams = 1


def record(topic: Topic, value: Record, late_seconds: float = 1.0) -> ConsumerRecord[bytes, bytes]:
    """A record that came so long after the listeners."""
    stamp = int(1000 * (BEGAN + late_seconds))
    content = value.to_json()
    return ConsumerRecord(topic.name, 0, 0, stamp, 0, b"anna", content, None, 4, len(content), ())


def told() -> tuple[Listeners, list[ConsumerRecord[bytes, bytes]]]:
    """A reading, a forecast and an alert, of which everything came."""
    to = endpoint(NAME, added_at=NOW)
    events = [
        Event(BEGAN + 2, "reading", "a.1", {"outcome_id": OUTCOME.outcome_id}),
        Event(BEGAN + 2, "forecast", "a.2", {"subject_id": "anna", "issue_time": NOW.isoformat()}),
    ]
    records = [record(READING_OUTCOMES, OUTCOME), record(FAN_CHARTS, CHART), record(ALERTS, ALERT)]
    deliveries, outbox, body = [], Outbox(10), {"alert": ALERT, "forecast": CHART}
    for event in (event_of_alert(ALERT, NOW), event_of_chart(CHART, NOW)):
        assert event is not None
        (queued,) = outbox.plan(event, 0, [to], NOW)
        records += [record(WEBHOOK_DELIVERIES, each) for each in (queued, step_of(queued, "delivered", NOW))]
        content = {"type": event.type, "data": body[event.group].model_dump(mode="json")}
        deliveries.append(Delivery(BEGAN + 2, "/hook", event.event_id, content))
    return Listeners(cast("Follower", _Streams()), events, deliveries, BEGAN), records


def found(listeners: Listeners, records: list[ConsumerRecord[bytes, bytes]]) -> dict[str, Any]:
    """The counts that are not 0, but for those of what came."""
    heard = compared(listeners, records, forecasts=True)
    assert not heard.clean
    came = ("events", "streams", "webhooks", "webhooks_again")
    counts = dataclasses.asdict(heard)
    return {name: count for name, count in counts.items() if count and name not in came}


def test_where_everything_came_nothing_is_found() -> None:
    listeners, records = told()
    heard = compared(listeners, records, forecasts=True)
    assert heard.clean
    assert (heard.events, heard.webhooks, heard.webhooks_again) == (2, 2, 0)
    listeners.events.clear()
    early = [record(READING_OUTCOMES, OUTCOME, late_seconds=-1.0)]
    assert compared(listeners, early, forecasts=True).clean, "what came before the listeners is not theirs"


def test_what_did_not_come_is_lost() -> None:
    listeners, records = told()
    listeners.events.clear()
    listeners.deliveries.pop()
    assert found(listeners, records) == {"readings_lost": 1, "forecasts_lost": 1, "webhooks_lost": 1}


def test_an_event_without_a_delivery_is_lost_and_one_without_an_end_waits() -> None:
    listeners, records = told()
    without = [each for each in records if each.topic != WEBHOOK_DELIVERIES.name]
    assert compared(listeners, without, forecasts=True).webhooks_lost == 2
    queued = [each for each in records if b'"delivered"' not in (each.value or b"")]
    heard = compared(listeners, queued, forecasts=True)
    assert (heard.webhooks_waiting, heard.webhooks_lost, heard.clean) == (2, 0, False)


@pytest.mark.parametrize("records_of_it", [1, 2])
def test_a_reading_may_be_told_under_as_many_ids_as_it_has_records(records_of_it: int) -> None:
    listeners, records = told()
    listeners.events.append(listeners.events[0])
    assert compared(listeners, records, forecasts=True).clean, "the same id again"
    listeners.events.append(listeners.events[0]._replace(id="a.9"))
    heard = compared(listeners, records + [records[0]] * (records_of_it - 1), forecasts=True)
    assert heard.readings_otherwise == (1 if records_of_it == 1 else 0)


def test_a_webhook_may_come_again_under_its_id_and_under_no_other() -> None:
    listeners, records = told()
    listeners.deliveries.append(listeners.deliveries[0])
    heard = compared(listeners, records, forecasts=True)
    assert (heard.clean, heard.webhooks_again) == (True, 1)
    listeners.deliveries.append(listeners.deliveries[0]._replace(id="alert_else_raised"))
    assert compared(listeners, records, forecasts=True).webhooks_otherwise == 1
