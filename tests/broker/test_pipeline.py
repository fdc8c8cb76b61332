"""The whole pipeline on the embedded broker: a file or a reading goes in, a forecast comes out."""

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jsonschema
import pytest
from aiokafka import ConsumerRecord
from confluent_kafka import Consumer, Producer

from deploy.bench.pipeline import export_of
from deploy.brokers.embedded import EmbeddedBroker
from schemas.dead_letter import DeadLetter
from schemas.forecast import Forecast
from schemas.topics import (
    DEAD_LETTERS,
    FAN_CHARTS,
    FORECASTS,
    LANE_TOPICS,
    READING_OUTCOMES,
    REQUEST_OUTCOMES,
    TOPICS,
    UPLOADS,
)
from streams.notify import webhook_file
from tests.kit.alerts import endpoint
from tests.kit.asking import get
from tests.kit.pipeline import Pipeline, running
from tests.kit.waiting import until

EVERY_ROLE = {"ingest": 1, "inference": 1, "calc": 1, "api": 1, "notify": 1}
FORECAST_NAMES = [topic.name for topic in FORECASTS.values()]
SHARED = 40
"""So many forecasts of one file have two pipelines to agree on."""
SCHEMA = Path("schemas/json/FanChart.schema.json")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    home = tmp_path_factory.mktemp("pipeline")
    broker = EmbeddedBroker(home)
    broker.start()
    try:
        webhooks = home / "webhooks"
        webhook_file.add(webhooks, endpoint("nobody", url="http://127.0.0.1:9/hook"))
        options = {"webhooks_file": webhooks, "webhook_private_networks": "127.0.0.0/8"}
        with running(broker, home, EVERY_ROLE, **options) as started:
            yield started
    finally:
        broker.stop()


def post(pipeline: Pipeline, path: str, body: object, **options: object) -> httpx.Response:
    return httpx.post(f"{pipeline.url}{path}", json=body, timeout=60, **options)


def by_id(records: Iterable[ConsumerRecord]) -> dict[str, list[tuple[float, ...]]]:
    """The draws that were ever published under each forecast id."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for record in records:
        forecast = Forecast.from_arrow(record.value)
        found.setdefault(forecast.forecast_id, []).append(tuple(forecast.samples_mgdl))
    return found


def test_an_upload_is_drawn_at_every_index_and_then_answered_from_the_table(pipeline: Pipeline) -> None:
    answer = post(pipeline, "/process_unified", {"csv_base64": export_of(1)}).json()
    assert answer["error"] is None
    assert answer["total_samples"] == 110
    plots = {}
    for index in (0, -50, -109, 12):
        drawn = post(pipeline, "/draw_a_plot", {"handle": answer["handle"], "index": index})
        assert drawn.status_code == 200, drawn.text
        assert drawn.content.startswith(PNG)
        plots[index] = drawn.content
    assert len(set(plots.values())) == 4
    every = 110 + 12  # each sample, and the forecasts that begin within the last hour
    pipeline.client.until(FORECAST_NAMES, lambda records: len(records) >= every == len(by_id(records)), 90)
    asked = len(pipeline.records(*LANE_TOPICS.values()))  # what was drawn at once is asked for by the backfill too
    pipeline.client.until([*FORECAST_NAMES, REQUEST_OUTCOMES.name], lambda records: len(records) >= asked)
    computed = len(pipeline.records(*FORECASTS.values()))
    for index, plot in plots.items():
        assert post(pipeline, "/draw_a_plot", {"handle": answer["handle"], "index": index}).content == plot
    assert post(pipeline, "/process_unified", {"csv_base64": export_of(1)}).json()["handle"] == answer["handle"]
    assert len(pipeline.records(UPLOADS)) == 1
    assert len(pipeline.records(*FORECASTS.values())) == computed
    beyond = post(pipeline, "/draw_a_plot", {"handle": answer["handle"], "index": 13})
    assert beyond.status_code == 422
    assert "-109" in beyond.json()["detail"]
    assert "12" in beyond.json()["detail"]


def test_recomputing_gives_bit_equal_samples_whatever_their_batch_mates(pipeline: Pipeline) -> None:
    upload = {"csv_base64": export_of(2)}
    answer = post(pipeline, "/process_unified", upload).json()
    for index in (0, -109):
        assert post(pipeline, "/draw_a_plot", {"handle": answer["handle"], "index": index}).status_code == 200
    for index in (0, -7, 12):
        again = {"handle": answer["handle"], "index": index, "force_calculate": True}
        assert post(pipeline, "/draw_a_plot", again).status_code == 200
    found = pipeline.client.until(
        FORECAST_NAMES, lambda records: sum(len(draws) > 1 for draws in by_id(records).values()) >= 3, 30
    )
    assert all(len(set(draws)) == 1 for draws in by_id(found).values())


def test_a_fresh_pipeline_draws_the_same_samples(pipeline: Pipeline, tmp_path: Path) -> None:
    answer = post(pipeline, "/process_unified", {"csv_base64": export_of(3)}).json()
    assert post(pipeline, "/draw_a_plot", {"handle": answer["handle"], "index": -109}).status_code == 200
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    try:
        with running(broker, tmp_path, {"ingest": 1, "inference": 1}) as fresh:
            raw = base64.b64decode(export_of(3))
            fresh.client.publish(UPLOADS.name, [(b"any", raw)])
            here = fresh.client.until(FORECAST_NAMES, lambda records: len(records) >= SHARED <= len(by_id(records)), 90)
        assert {Forecast.from_arrow(record.value).handle for record in here} == {answer["handle"]}
        known = by_id(here)
        there = pipeline.client.until(
            FORECAST_NAMES, lambda records: len(by_id(records).keys() & known.keys()) >= SHARED, 90
        )
    finally:
        broker.stop()
    expected = by_id(there)
    assert all(set(known[name]) == set(expected[name]) for name in known.keys() & expected.keys())


def test_readings_of_an_independent_client_become_valid_fan_charts_and_a_plot(pipeline: Pipeline) -> None:
    producer = Producer({"bootstrap.servers": pipeline.broker.address, "partitioner": "murmur2_random"})
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=9)
    for number in range(97):
        time = (start + timedelta(minutes=5 * number)).isoformat()
        reading = {"subject_id": "anna", "time": time, "glucose": 100 + number % 30, "unit": "mg/dL", "simulated": True}
        producer.produce("cgm.readings", key="anna", value=json.dumps(reading))
    producer.flush(10)
    reader = Consumer(
        {
            "bootstrap.servers": pipeline.broker.address,
            "group.id": "reader",
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 4000,  # on this broker a join takes half of it
            "heartbeat.interval.ms": 1000,
        }
    )
    reader.subscribe([FAN_CHARTS.name])
    charts: list[dict[str, object]] = []

    def both() -> bool:
        for message in reader.consume(100, 0.5):
            if message.error() is None and message.key() == b"anna":
                charts.append(json.loads(message.value()))
        return len({chart["chart_id"] for chart in charts}) >= 2

    try:
        until(both, "two fan charts of anna", 60)
    finally:
        reader.close()
    schema = json.loads(SCHEMA.read_text())
    for chart in charts:
        jsonschema.validate(chart, schema)
        assert chart["subject_id"] == "anna"
    plot = until(lambda: _ok(f"{pipeline.url}/subjects/anna/forecast/plot"), "a plot of anna")
    assert plot.content.startswith(PNG)
    assert httpx.get(f"{pipeline.url}/subjects/berta/forecast").status_code == 404


def _ok(url: str) -> httpx.Response | None:
    answer = get(url)
    return answer if answer.status_code == 200 else None


def test_poison_messages_on_every_topic_kill_nobody(pipeline: Pipeline) -> None:
    producer = Producer({"bootstrap.servers": pipeline.broker.address})
    for topic in TOPICS:
        for poison in (b"\x89PNG\r\n\x1a\n\x00garbage", b"{", b"", None):
            producer.produce(topic.name, key="poison", value=poison)
    producer.flush(10)
    reading = {"time": datetime.now(UTC).isoformat(), "glucose": 100, "unit": "mg/dL"}
    assert post(pipeline, "/subjects/survivor/readings", reading).status_code == 202
    pipeline.client.until(READING_OUTCOMES.name, lambda found: any(record.key == b"survivor" for record in found))
    answer = post(pipeline, "/quick_plot", {"csv_base64": export_of(4)})
    assert answer.status_code == 200
    assert base64.b64decode(answer.json()["plot_base64"]).startswith(PNG)
    until(lambda: not any(lags(process.url) for process in pipeline.roles.all), "everything has been read")
    assert [process.returncode for process in pipeline.roles.all] == [None] * len(pipeline.roles.all)


def lags(url: str) -> list[str]:
    """What a role says of partitions that hold what it has not processed."""
    lines = get(f"{url}/metrics").text.splitlines()
    of_a_role = ("glucast_lag{", "glucast_read_model_lag ", "glucast_notify_lag ")
    found = [line for line in lines if line.startswith(of_a_role)]
    assert found, "it reports its lag"
    return [line for line in found if float(line.split()[-1]) > 0]


def test_poison_left_dead_letters_that_name_their_source(pipeline: Pipeline) -> None:
    wanted = {"cgm.series", "cgm.forecast-demands", "cgm.cache-commands", "cgm.forecasts.live"}
    found = pipeline.client.until(
        DEAD_LETTERS.name, lambda records: {letter.topic for letter in letters(records)} >= wanted, 30
    )
    assert all(letter.reason and letter.step for letter in letters(found))
    assert [process.returncode for process in pipeline.roles.all] == [None] * len(pipeline.roles.all)


def letters(records: Iterable[ConsumerRecord]) -> list[DeadLetter]:
    return [
        DeadLetter.from_json(record.value)
        for record in records
        if record.key == b"poison" and record.value and record.value.startswith(b'{"')  # the rest is poison itself
    ]
