"""Readings that stay away are told once, by the clock of the ingest workers, whoever is killed meanwhile."""

import datetime
import json
from pathlib import Path

from deploy.brokers.embedded import EmbeddedBroker
from schemas.alert import Alert, AlertSettings, StaleChange
from schemas.command import CacheCommand
from schemas.topics import ALERTS, ARRIVALS, CACHE_COMMANDS, READING_OUTCOMES, READINGS
from streams.topology import ALERTS_CHANGELOG
from tests.kit.clients import Client
from tests.kit.pipeline import running

SILENCE = datetime.timedelta(minutes=15)
DUE_AFTER = datetime.timedelta(seconds=8)


def reading(time: datetime.datetime) -> bytes:
    return json.dumps({"subject_id": "ada", "time": time.isoformat(), "glucose": 110, "unit": "mg/dL"}).encode()


def test_a_silence_is_told_once_and_till_it_is_over_though_workers_are_killed(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    settings = AlertSettings(stale_data=StaleChange(minutes=SILENCE // datetime.timedelta(minutes=1)))
    wanted = CacheCommand(action="alerts", command_id="c", up_to_ms=0, series_key="ada", alert_settings=settings)
    with running(broker, tmp_path, {"ingest": 1, "calc": 1}, tick_seconds=0.2) as pipeline:
        client, workers = Client(pipeline.settings), pipeline.roles.all
        client.publish(CACHE_COMMANDS.name, [(b"ada", wanted.to_json())])
        client.until(ALERTS_CHANGELOG.name, bool)
        due = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + DUE_AFTER
        client.publish(READINGS.name, [(b"ada", reading(due - SILENCE))])
        client.until(ARRIVALS.name, lambda records: b'"reading"' in b"".join(record.value or b"" for record in records))
        for worker in workers:
            worker.kill()
            worker.start_again()
        client.until(ALERTS.name, bool)
        for worker in workers:
            worker.kill()
            worker.start_again()
        client.publish(READINGS.name, [(b"ada", reading(datetime.datetime.now(datetime.UTC)))])
        told = client.until(ALERTS.name, lambda records: b'"ended"' in (records[-1].value or b""))
        # A tick has no outcome, a reading has.
        client.until(READING_OUTCOMES.name, lambda records: len(records) >= 2)
    assert told[0].timestamp >= int(due.timestamp() * 1000), "it was not due yet"
    alerts = [Alert.from_json(record.value) for record in told]
    assert {alert.kind for alert in alerts} == {"stale_data"}
    assert len({alert.alert_id for alert in alerts}) == 1
    assert [alert.status for alert in dict.fromkeys(alerts)] == ["raised", "ended"]
