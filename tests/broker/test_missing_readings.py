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

DUE_SECONDS = 8


def reading(age: datetime.timedelta) -> bytes:
    time = datetime.datetime.now(datetime.UTC) - age
    return json.dumps({"subject_id": "ada", "time": time.isoformat(), "glucose": 110, "unit": "mg/dL"}).encode()


def alerts_of(client: Client) -> list[Alert]:
    return [Alert.from_json(record.value) for record in client.records(ALERTS.name)]


def test_a_silence_is_told_once_and_till_it_is_over_though_workers_are_killed(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    settings = AlertSettings(stale_data=StaleChange(minutes=15))
    wanted = CacheCommand(action="alerts", command_id="c", up_to_ms=0, series_key="ada", alert_settings=settings)
    with running(broker, tmp_path, {"ingest": 1, "calc": 1}, tick_seconds=0.2) as pipeline:
        client, workers = Client(pipeline.settings), pipeline.roles.all
        client.publish(CACHE_COMMANDS.name, [(b"ada", wanted.to_json())])
        client.until(ALERTS_CHANGELOG.name, bool)
        client.publish(READINGS.name, [(b"ada", reading(datetime.timedelta(minutes=15, seconds=-DUE_SECONDS)))])
        client.until(ARRIVALS.name, lambda records: b'"reading"' in b"".join(record.value or b"" for record in records))
        assert alerts_of(client) == [], "it is not due yet"
        for worker in workers:
            worker.kill()
            worker.start_again()
        client.until(ALERTS.name, bool)
        for worker in workers:
            worker.kill()
            worker.start_again()
        client.publish(READINGS.name, [(b"ada", reading(datetime.timedelta()))])
        client.until(ALERTS.name, lambda records: b'"ended"' in (records[-1].value or b""))
        alerts = alerts_of(client)
        assert len(client.records(READING_OUTCOMES.name)) >= 2, "a tick has no outcome, a reading has"
    assert {alert.kind for alert in alerts} == {"stale_data"}
    assert len({alert.alert_id for alert in alerts}) == 1
    assert [alert.status for alert in dict.fromkeys(alerts)] == ["raised", "ended"]
