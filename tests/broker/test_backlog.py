"""A backlog of others' work in calc: how many of its charts go out before one that is waited for. No clock decides."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.bench.priority import queued
from deploy.brokers.embedded import EmbeddedBroker
from schemas.topics import FAN_CHARTS, FORECASTS
from tests.kit.clients import Client
from tests.kit.pipeline import Pipeline, running

BACKLOG = 2000
WAITED_FOR = 12
AT_MOST = 600
"""A fetch of each side, and the rounds that are under way: aiokafka alone would have brought all partitions' first."""


@pytest.fixture
def calc(tmp_path: Path) -> Iterator[Pipeline]:
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    try:
        with running(broker, tmp_path, {"calc": 1}) as started:
            yield started
    finally:
        broker.stop()


def test_a_live_chart_overtakes_a_backlog_in_calc(calc: Pipeline) -> None:
    client = Client(calc.settings)
    backlog, urgent = (
        [(key.encode(), value) for _, key, value in queued("forecasts", count, run)]
        for count, run in ((BACKLOG, "others"), (WAITED_FOR, "urgent"))
    )
    client.publish(FORECASTS["backfill"].name, backlog)
    client.until(FAN_CHARTS.name, bool)

    client.publish(FORECASTS["live"].name, urgent)

    records = client.until(FAN_CHARTS.name, lambda found: len(found) == BACKLOG + WAITED_FOR)
    asked_ms = min(record.timestamp for record in client.records(FORECASTS["live"].name))
    charts = [("urgent" in (record.key or b"").decode(), record.timestamp) for record in records]
    last_ms = max(sent_ms for waited_for, sent_ms in charts if waited_for)
    before = sum(asked_ms <= sent_ms < last_ms for waited_for, sent_ms in charts if not waited_for)
    print(f"{before} of {BACKLOG} others before the last that was waited for")
    assert before < AT_MOST
