"""Any replica answers, a restart resumes, and a log that is not the table's own makes it start anew."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from deploy.brokers.embedded import EmbeddedBroker
from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from streams.kafka.connection import producer_options
from streams.kafka.provision import provision
from streams.settings import Settings
from streams.topology import CHART_CHANGELOGS
from tests.kit.charts import fan_chart
from tests.kit.query import Client, body_of, samples_of, serving
from tests.kit.samples import dexcom, glucose_rows
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

MIB = 1 << 20


async def test_what_one_replica_answered_the_other_knows(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path, export: bytes
) -> None:
    async with serving(settings, tmp_path / "one") as one, serving(settings, tmp_path / "two") as two:
        for _ in range(3):
            handle = (await one.post("/process_unified", json=body_of(export))).json()["handle"]
            ask = {"handle": handle, "index": 0}
            answers = await asyncio.gather(two.post("/draw_a_plot", json=ask), one.post("/draw_a_plot", json=ask))
            assert {answer.status_code for answer in answers} == {200}
            assert answers[0].content == answers[1].content
            params = {"action": "delete", "handle": handle}
            assert (await two.post("/cache_management", params=params)).status_code == 200
            await until_async(partial(_unknown, one, ask), "the other replica forgets too, with its next fetch")
            assert await _unknown(one, ask)


async def _unknown(replica: Client, ask: dict[str, Any]) -> bool:
    return (await replica.post("/draw_a_plot", json=ask)).status_code == 404


async def test_a_restarted_replica_goes_on_where_it_was(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path, export: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(settings, tmp_path / "query") as client:
        handle = (await client.post("/process_unified", json=body_of(export))).json()["handle"]
        await until_async(lambda: len(samples_of(client, handle)) == 26, "all forecasts")
        await client.services.follower.catch_up(30)
        positions = client.services.read_model.positions()
    applied: list[str] = []
    original = ReadModel.apply

    def apply(model: ReadModel, entries: Iterable[Entry], *places: Mapping[tuple[str, int], int]) -> None:
        entries = list(entries)
        applied.extend(entry.topic for entry in entries)
        original(model, entries, *places)

    monkeypatch.setattr(ReadModel, "apply", apply)
    async with serving(settings, tmp_path / "query") as client:
        assert client.services.read_model.positions() == positions
        assert (await client.post("/draw_a_plot", json={"handle": handle, "index": -13})).status_code == 200
        assert applied == []
        assert (await client.post("/process_unified", json=body_of(dexcom(glucose_rows(130))))).status_code == 200
        assert topics.UPLOAD_OUTCOMES.name in applied, "what is new is read"


async def test_another_cluster_behind_the_same_table_makes_it_forget(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path, export: bytes
) -> None:
    async with serving(settings, tmp_path / "query") as client:
        handle = (await client.post("/process_unified", json=body_of(export))).json()["handle"]
    other = EmbeddedBroker(tmp_path)
    other.start()
    try:
        elsewhere = settings.model_copy(update={"broker": other.address})
        await provision(elsewhere)
        async with serving(elsewhere, tmp_path / "query") as client:
            assert (await client.post("/draw_a_plot", json={"handle": handle, "index": 0})).status_code == 404
    finally:
        other.stop()


async def test_a_table_ahead_of_its_log_is_built_again(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path, export: bytes
) -> None:
    async with serving(settings, tmp_path / "query") as client:
        handle = (await client.post("/process_unified", json=body_of(export))).json()["handle"]
        await client.services.follower.catch_up(30)
    model = ReadModel(Store(tmp_path / "query" / "read-model", MIB, MIB), Subscriptions())
    model.apply([], {(CHART_CHANGELOGS["interactive"].name, 0): 10**6})
    model.close()
    async with serving(settings, tmp_path / "query") as client:
        assert client.services.read_model.positions().get((CHART_CHANGELOGS["interactive"].name, 0), 0) < 10**6
        assert (await client.post("/draw_a_plot", json={"handle": handle, "index": 0})).status_code == 200


@pytest.mark.parametrize("hours", [-21, 2])
async def test_a_table_that_slept_for_long_or_says_so_of_no_time_that_was_is_built_again(
    settings: Settings, tmp_path: Path, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was deleted while it slept, Kafka has forgotten by now; a clock that went back hides how long that was."""
    directory = tmp_path / "query"
    async with serving(settings, directory) as client:
        await client.services.follower.catch_up(30)
    deleted = Entry(CHART_CHANGELOGS["live"].name, 0, 0, b"subject/anna/1/m", fan_chart().to_json())
    with monkeypatch.context() as patch:
        written = time.time() + 3600 * hours
        patch.setattr(time, "time", lambda: written)
        model = ReadModel(Store(directory / "read-model", MIB, MIB), Subscriptions())
        model.apply([deleted], {})
        model.close()
    async with serving(settings, directory) as client:
        assert client.services.read_model.fan_charts.latest("anna") is None


async def test_messages_that_are_no_records_are_skipped_and_counted(settings: Settings, tmp_path: Path) -> None:
    async with serving(settings, tmp_path / "query") as client:
        producer = AIOKafkaProducer(**producer_options(settings))
        await producer.start()
        values = [b"", b"{", b"[]", b"7", b"\xff", b'{"issue_time": 1}', b'{"issue_time": "x", "chart_id": "y"}', None]
        for topic in ("glucast-calc-fan-charts-changelog", "cgm.upload-outcomes", "cgm.reading-outcomes"):
            for key in (b"handle/x/0", b"subject/a/1", b"handle", b"", b"\xff"):
                for value in values:
                    await producer.send(topic, value, key=key)
        await producer.flush()
        await producer.stop()
        await client.services.follower.catch_up(30)
        assert client.services.read_model.skipped > 0
        assert (await client.get("/readyz")).status_code == 200
