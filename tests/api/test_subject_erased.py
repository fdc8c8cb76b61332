"""A subject is exported and erased: the API forgets, on its disk too, and says what remains on topics."""

import asyncio
import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer

from agents.core.fingerprint import owner_of
from query_api import submit
from query_api.projections.fan_charts import ChartRow
from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.command import CacheCommand
from schemas.errors import ConfigurationError
from schemas.fan_chart_row import to_row
from schemas.reading import ReadingOutcome
from streams import subjects, topology
from streams.kafka.connection import producer_options
from streams.settings import Settings
from tests.api.test_subjects import forecast_of, publish
from tests.kit.charts import fan_chart
from tests.kit.disks import files_with
from tests.kit.query import Client, serving, standing
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

NAME = "quillfeather"


async def test_everything_of_a_subject_is_written_and_nothing_of_anybody_else(
    client: Client, pipeline: SmallPipeline, settings: Settings, tmp_path: Path
) -> None:
    for subject in (NAME, "mallory"):
        await publish(client, 97, subject)
        await forecast_of(client, subject)
    stray = json.dumps({"subject_id": NAME, "glucose": 1}).encode()
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        await producer.send_and_wait(topics.READINGS.name, stray, b"wrong")
    history = client.services.read_model.fan_charts.history
    await until_async(lambda: len(history(NAME, None, None)) == 2, "both charts")
    found = await asyncio.to_thread(subjects.export, settings, NAME, tmp_path / "out")
    rows = {source.topic: source.rows for source in found}
    assert set(rows) == {topic.name for topic in subjects.sources()}
    assert rows[topics.READINGS.name] == 97 + 1
    assert rows[topics.READING_OUTCOMES.name] >= 97
    assert rows[topics.FAN_CHARTS.name] == 2
    assert rows[topics.LIVE.name] + rows[topics.BACKFILL.name] == 2
    assert sum(rows[topic.name] for topic in topology.CHART_CHANGELOGS.values()) == 2
    manifest = json.loads((tmp_path / "out" / subjects.MANIFEST).read_text())
    assert {each["topic"]: each["rows"] for each in manifest["sources"]} == rows
    assert manifest["subject_id"] == NAME
    for source in found:
        if source.file is None:
            continue
        table = pq.read_table(tmp_path / "out" / source.file).to_pylist()
        assert len(table) == source.rows
        assert all(row["record"] and NAME in row["record"] + row["key"] for row in table), source.topic
        assert not [row for row in table if "mallory" in row["record"] + row["key"]], source.topic
        assert all((row["raw"] is not None) == source.topic.endswith("-changelog") for row in table), source.topic
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigurationError, match="name a new directory"):
        await asyncio.to_thread(subjects.export, settings, NAME, tmp_path / "out")


async def test_the_api_forgets_a_subject_on_its_disk_too(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with serving(settings, tmp_path / "one") as one, serving(settings, tmp_path / "two") as two:
        for subject in (NAME, "mallory"):
            await publish(one, 97, subject)
            await forecast_of(one, subject)
            await forecast_of(two, subject)
        named = {"preferred_device": f"{NAME}'s arm"}
        assert (await one.put(f"/subjects/{NAME}/sources", json=named)).status_code == 200
        answer = await one.delete(f"/subjects/{NAME}")
        assert (answer.status_code, "erased" in answer.json()["message"]) == (200, True)
        kept = {each["topic"]: datetime.datetime.fromisoformat(each["until"]) for each in answer.json()["remains"]}
        assert set(kept) == {topic.name for topic in subjects.sources()}
        days = (kept[topics.READINGS.name] - datetime.datetime.now(datetime.UTC)) / datetime.timedelta(days=1)
        assert 7.9 < days <= 8
        assert (await one.get(f"/subjects/{NAME}/forecast")).status_code == 404, "at once, where it was asked for"
        for client in (one, two):
            model = client.services.read_model

            async def gone(client: Client = client) -> bool:
                await client.services.follower.catch_up(30)
                return NAME not in (await client.get("/subjects")).json()["subjects"]

            await until_async(gone, "the other replica forgets")
            answer = await client.get(f"/subjects/{NAME}/forecast")
            assert (answer.status_code, "no readings" in answer.json()["detail"]) == (404, True)
            assert not list(model.readings.measured.newest_first(NAME))
            assert (await client.get("/subjects")).json() == {"subjects": ["mallory"]}
        await until_async(
            lambda: not [row for row in pipeline.table_rows() if NAME in "".join(row)], "the tables of workers follow"
        )
        await subjects.erase(settings, NAME)  # again, by the command: it changes nothing
        for client in (one, two):
            await client.services.follower.catch_up(30)
        for name in ("one", "two"):  # while they serve, of their own accord
            table = tmp_path / name / "read-model"
            await until_async(lambda table=table: not files_with(table, NAME), "no file of the replica holds it", 60)
            assert files_with(table, "mallory"), "the search finds nothing"


async def test_what_was_uploaded_goes_too_where_no_worker_has_confirmed_the_order_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told that it goes on does not ask again: files and their forecasts stayed, and what was saved of them."""
    sent: list[tuple[topics.Topic, bytes | None, int | None]] = []

    async def send(
        topic: topics.Topic, _: object, value: bytes | None, *more: Any, partition: int | None = None
    ) -> int:
        sent.append((topic, value, partition))
        return 1

    monkeypatch.setattr(submit, "COMMAND_SECONDS", 0.05)
    settings = Settings(state_dir=tmp_path)
    async with standing(settings, tmp_path / "query") as client:
        monkeypatch.setattr(client.services.publisher, "send", send)
        saved = client.services.parquet_dir / owner_of([NAME]) / f"{'a' * 64}.parquet"
        saved.parent.mkdir(parents=True)
        saved.touch()
        answer = await client.delete(f"/subjects/{NAME}")
    assert (answer.status_code, "it goes on" in answer.json()["detail"]) == (503, True)
    assert topics.READINGS in [topic for topic, _, _ in sent]
    commands = [
        (CacheCommand.from_json(value), place) for topic, value, place in sent if topic == topics.CACHE_COMMANDS
    ]
    assert {(command.action, command.owner) for command, _ in commands} == {("flush_owner", owner_of([NAME]))}
    assert sorted(place for _, place in commands if place is not None) == [*range(settings.partitions)]
    assert not saved.exists()


@pytest.fixture
def model(tmp_path: Path) -> ReadModel:
    return ReadModel(Store(tmp_path / "table", 1 << 20, 1 << 20), Subscriptions())


def chart(position: int, minutes: int, began_ms: int) -> Entry:
    made = fan_chart(began_ms=began_ms)
    made = made.model_copy(update={"issue_time": made.issue_time + datetime.timedelta(minutes=minutes)})
    return Entry(topology.CHART_CHANGELOGS["live"].name, 0, 0, f"subject/anna/{position}/m".encode(), to_row(made))


def erased(at_ms: int) -> Entry:
    time = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    outcome = ReadingOutcome(outcome_id="a" * 64, subject_id="anna", status="erased", time=time)
    return Entry(topics.READING_OUTCOMES.name, 0, 0, b"anna", outcome.to_json())


def test_charts_from_before_go_with_the_outcome_and_those_of_a_new_beginning_stay(model: ReadModel) -> None:
    model.apply([chart(1, 5, 1000), chart(2, 0, 3000), erased(2000)], {})
    rows = model.fan_charts.history("anna", None, None)
    assert [row.began_ms for row in rows] == [3000]
    latest = model.fan_charts.latest("anna")
    assert isinstance(latest, ChartRow)
    assert latest.began_ms == 3000
    model.apply([dataclasses.replace(chart(2, 0, 3000), value=None)], {})
    assert model.fan_charts.subjects() == []
