"""A killed ingest worker: what it had not committed comes again, and says and asks what it said and asked before."""

import asyncio
import datetime
import json
from pathlib import Path

from deploy.bench import faults_audit
from deploy.bench.faults_load import key_of
from deploy.brokers.embedded import EmbeddedBroker
from schemas.reading import Reading
from schemas.topics import READING_OUTCOMES, READINGS
from tests.kit.clients import Client
from tests.kit.pipeline import running

READINGS_SENT = 400


def test_readings_that_come_again_after_a_kill_contradict_nothing(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """33 hours of one subject at once: more than its row keeps, in less time than a commit interval."""
    start = datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0) - datetime.timedelta(hours=34)
    readings = [
        json.dumps(
            {
                "subject_id": "ada",
                "time": (start + datetime.timedelta(minutes=5 * step)).isoformat(),
                "glucose": 110 + step % 9,
                "unit": "mg/dL",
            }
        ).encode()
        for step in range(READINGS_SENT)
    ]
    with running(broker, tmp_path, {"ingest": 1}, commit_interval_seconds=60) as pipeline:
        client, (worker,) = Client(pipeline.settings), pipeline.roles.all
        client.publish(READINGS.name, [(b"ada", reading) for reading in readings])
        client.until(READING_OUTCOMES.name, lambda records: len(records) == READINGS_SENT)
        worker.kill()
        worker.start_again()
        client.until(READING_OUTCOMES.name, lambda records: len(records) > READINGS_SENT)
        client.publish(READINGS.name, [(b"ada", readings[-1])])
        client.until(READING_OUTCOMES.name, lambda records: b'"duplicate"' in (records[-1].value or b""))
        sent = {key_of(Reading.from_json(reading)) for reading in readings}
        audit = asyncio.run(faults_audit.audit(pipeline.settings, sent=sent, whole_pipeline=False))
    assert audit.outcomes_twice > 1
    assert (audit.published, audit.lost, audit.wrong) == (READINGS_SENT, 0, 0)
