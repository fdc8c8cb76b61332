"""Health, readiness and metrics."""

import asyncio
from pathlib import Path

import pytest

from deploy.brokers.embedded import EmbeddedBroker
from query_api import follow
from schemas.metrics import QUERY
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS, worker_groups
from tests.kit.charts import fan_chart
from tests.kit.clients import Client as Publisher
from tests.kit.disks import full_disk
from tests.kit.exposition import buckets, declared, exposed, labels
from tests.kit.query import Client, serving
from tests.kit.waiting import until_async

HEALTH_FIELDS = {
    "status",
    "cache_size",
    "models_initialized",
    "queue_length",
    "waiting",
    "avg_fulfillment_time_ms",
    "vmem_usage_mb",
    "device",
    "total_requests_processed",
    "total_errors",
}


async def test_health_has_the_fields_that_clients_know(client: Client) -> None:
    health = (await client.get("/health")).json()
    assert set(health) == HEALTH_FIELDS
    assert (health["status"], health["models_initialized"]) == ("degraded", False)  # no inference worker here


async def test_health_counts_what_waits_at_every_stage(settings: Settings, client: Client) -> None:
    async def waiting() -> dict[str, int]:
        health = (await client.get("/health")).json()
        assert health["queue_length"] == sum(health["waiting"].values())
        return dict(health["waiting"])

    read = [topic.name for topics in worker_groups().values() for topic in topics]  # once for each group
    expected = await waiting()
    assert set(expected) == set(read)
    for number, topic in enumerate(expected, start=1):
        await asyncio.to_thread(Publisher(settings).publish, topic, [(b"nobody", b"reads this")] * number)
        expected[topic] += number * read.count(topic)

    async def counted() -> bool:
        return await waiting() == expected

    await until_async(counted, "every stage is counted", 20)


async def test_metrics_count_by_route_template(client: Client) -> None:
    await client.get("/subjects/anna/forecast")
    text = (await client.get("/metrics")).text
    line = 'glucast_http_requests_total{method="GET",route="/subjects/{subject_id}/forecast",status="404"} 1.0'
    assert line in text
    assert "glucast_read_model_lag 0.0" in text


async def test_metrics_are_those_that_the_catalogue_declares(client: Client) -> None:
    await client.get("/readyz")
    text = (await client.get("/metrics")).text
    assert exposed(text) == declared(QUERY)
    for metric in QUERY:
        assert labels(text)[metric.name] == {frozenset(metric.labels)}, metric.name
        assert buckets(text).get(metric.name, set()) == set(metric.buckets), metric.name


async def test_readiness_falls_and_says_why_when_the_broker_goes(
    settings: Settings, broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PROBE_SECONDS", 0.2)
    async with serving(settings, tmp_path / "query") as client:
        assert (await client.get("/readyz")).json()["ready"] is True
        broker.stop(timeout_seconds=0.1)  # it waits for its clients otherwise
        await until_async(lambda: not client.services.follower.connected, "the follower notices")
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"][0]["code"]) == (503, "no_broker")
        assert (await client.get("/livez")).status_code == 200
        missing = await client.post("/draw_a_plot", json={"handle": "0" * 64, "index": 0})
        assert (missing.status_code, "retry-after" in missing.headers) == (503, True)


async def test_readiness_says_when_the_disk_takes_no_more_and_recovers_when_it_does(
    settings: Settings, tmp_path: Path
) -> None:
    charts = [
        (b"subject/eve/%d/m" % number, fan_chart(series_key="eve", subject_id="eve").to_json()) for number in range(40)
    ]
    async with serving(settings, tmp_path / "query") as client:
        follower = client.services.follower
        with full_disk():
            await asyncio.to_thread(Publisher(settings).publish, CHART_CHANGELOGS["live"].name, charts)
            await until_async(lambda: follower.storage_problem is not None, "the disk is noticed")
            answer = await client.get("/readyz")
            (reason,) = answer.json()["reasons"]
            assert (answer.status_code, reason["code"]) == (503, "disk")
            assert "free some room" in reason["text"]
        await until_async(lambda: follower.storage_problem is None and follower.lag() == 0, "all is read")
        assert (await client.get("/readyz")).status_code == 200
        shown = (await client.get("/subjects/eve/forecasts", params={"limit": 288})).json()["forecasts"]
        assert len(shown) == len(charts)
