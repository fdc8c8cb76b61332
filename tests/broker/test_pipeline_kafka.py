"""The pipeline on a real Kafka: roles alone, shared partitions, replicas, and a restart that computes nothing again."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest
from aiokafka import ConsumerRecord

from deploy.bench.pipeline import export_of
from deploy.brokers.local_kafka import LocalKafka
from schemas.forecast import Forecast
from schemas.topics import FORECASTS, LANE_TOPICS
from tests.kit.asking import get
from tests.kit.brokers import end, kafka_home
from tests.kit.pipeline import Pipeline, running
from tests.kit.waiting import until

pytestmark = pytest.mark.kafka
EVERY_WINDOW = 110 + 12
SHARED = {"ingest": 2, "inference": 1, "calc": 2, "api": 2}
AGAIN = SHARED | {"inference": 0}
"""All members of the groups: they would wait for one that is missing until its session has ended."""
LIGHT = {"forecaster": "ridge"}
"""What is shared, agreed upon and found again is every model's; this one is loaded and asked in no time."""
REBALANCED_SECONDS = 60
"""The second worker of a role comes when the first has the partitions: one rebalance alone may take its 20 s."""


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    broker = LocalKafka(tmp_path, kafka_home())
    broker.start()
    try:
        yield broker
    finally:
        end(broker)


def plot_of(url: str, handle: str, index: int) -> httpx.Response:
    return httpx.post(f"{url}/draw_a_plot", json={"handle": handle, "index": index}, timeout=60)


def upload(url: str, person: int) -> str:
    answer = httpx.post(f"{url}/process_unified", json={"csv_base64": export_of(person)}, timeout=60).json()
    assert answer["error"] is None
    return str(answer["handle"])


def owned(pipeline: Pipeline, role: str) -> list[int]:
    """How many partitions each worker of a role consumes: those that it reports a lag of."""
    workers = [process for process in pipeline.roles.all if process.name.startswith(f"{role}-")]
    return [get(f"{process.url}/metrics").text.count("\nglucast_lag{") for process in workers]


def windows(records: Iterable[ConsumerRecord]) -> set[tuple[str | None, int | None]]:
    """Handle and index of every forecast that was ever computed."""
    forecasts = (Forecast.from_arrow(record.value) for record in records)
    return {(forecast.handle, forecast.index) for forecast in forecasts}


def requests(pipeline: Pipeline) -> int:
    """How many forecasts were ever asked for."""
    return len(pipeline.records(*LANE_TOPICS.values()))


def test_workers_share_partitions_replicas_agree_and_a_restart_computes_nothing_again(
    kafka: LocalKafka, tmp_path: Path
) -> None:
    with running(kafka, tmp_path, SHARED, **LIGHT) as pipeline:
        first, second = (process.url for process in pipeline.roles.all if process.name.startswith("api"))
        until(lambda: all(owned(pipeline, "ingest")), "both ingest workers with partitions", REBALANCED_SECONDS)
        until(lambda: all(owned(pipeline, "calc")), "both calc workers with partitions", REBALANCED_SECONDS)
        handles = [upload(first, person) for person in range(10, 13)]
        plots = {}
        for handle in handles:
            for index in (0, -109, 12):
                answer = plot_of(second, handle, index)
                assert answer.status_code == 200, answer.text
                plots[handle, index] = answer.content
        every = [topic.name for topic in FORECASTS.values()]
        pipeline.client.until(every, lambda records: len(windows(records)) == len(handles) * EVERY_WINDOW)
        asked = requests(pipeline)
    kafka.stop()
    kafka.restart()
    with running(kafka, tmp_path, AGAIN, **LIGHT) as again:
        for (handle, index), plot in plots.items():
            for replica in (process.url for process in again.roles.all if process.name.startswith("api")):
                answer = plot_of(replica, handle, index)
                assert answer.status_code == 200, answer.text
                assert answer.content == plot
        assert requests(again) == asked
