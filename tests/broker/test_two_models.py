"""Two models on one stream: each in a group of its own, promoted and back; and replays that ask one or the other."""

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from typer.testing import CliRunner

from agents.models.load import load_forecaster
from deploy.bench.faults_audit import read_all
from deploy.bench.roles import Place, RoleProcess, Roles
from deploy.brokers.embedded import EmbeddedBroker
from deploy.cli.main import app
from deploy.roles import variables
from schemas import topics
from schemas.exit_codes import ExitCode
from schemas.fan_chart import FanChart
from schemas.model_choice import ModelChoice
from schemas.outcome import RequestOutcome
from schemas.reading import Reading
from streams.kafka.connection import producer_options
from streams.kafka.provision import provision
from streams.models import choose, chosen, until_chosen_anew
from streams.replays import Wanted, replay
from streams.settings import ModelSettings, Settings
from tests.broker.test_inference_role import Running
from tests.kit.asking import get
from tests.kit.brokers import overrides_of
from tests.kit.clients import until_there
from tests.kit.forecasters import RecordingForecaster
from tests.kit.small_pipeline import at, working
from tests.kit.waiting import until_async

READINGS = 116  # so many that the last fans are fitted to what the first ones met
FORECASTS = READINGS - 95


class Other(RecordingForecaster):
    name = "other"
    fingerprint = "1" * 64


@pytest.fixture
async def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    settings = Settings(broker=broker.address, state_dir=tmp_path, partitions=2, **overrides_of(broker))
    await provision(settings)
    return settings


class Third(RecordingForecaster):
    name = "third"
    fingerprint = "2" * 64


def on_trial(settings: Settings) -> Settings:
    return settings.model_copy(update={"model": ModelSettings(model_serves=False)})


@contextlib.asynccontextmanager
async def both(settings: Settings, home: Path) -> AsyncIterator[tuple[Running, Running]]:
    async with Running(settings, home) as served, Running(on_trial(settings), home, 1) as tried:
        await asyncio.gather(served.start(load_forecaster()), tried.start(Other()))
        yield served, tried
        assert (served.fatal, tried.fatal) == ([], [])


async def charts(settings: Settings) -> list[FanChart]:
    records = await read_all(settings, topics.FAN_CHARTS.name)
    return [FanChart.from_json(record.value) for record in records]


async def publish(settings: Settings, subject_id: str) -> None:
    times = [at(5 * number) for number in range(READINGS)]  # at once: five minutes end while they are sent
    producer = AIOKafkaProducer(**producer_options(settings))
    await producer.start()
    try:
        for number, time in enumerate(times):
            reading = Reading.model_validate(
                {
                    "subject_id": subject_id,
                    "time": time,
                    "glucose": 100 + number * 7 % 40,
                    "unit": "mg/dL",
                    "simulated": True,
                }
            )
            await producer.send(topics.READINGS.name, reading.to_json(), key=subject_id.encode())
        await producer.flush()
    finally:
        await producer.stop()


async def test_both_models_see_every_reading_one_is_served_and_a_replay_asks_either(
    settings: Settings, tmp_path: Path
) -> None:
    async with working(settings, infers=False), both(settings, tmp_path) as (_, trial):
        await publish(settings, "anna")

        def complete(records: list[ConsumerRecord[bytes, bytes]]) -> bool:
            return len({FanChart.from_json(record.value).chart_id for record in records}) == 2 * FORECASTS

        await until_there(settings, topics.FAN_CHARTS.name, complete, 90)
        by_model = {chart.model: chart for chart in await charts(settings)}
        assert {name: chart.model_serves for name, chart in by_model.items()} == {"mlp": True, "other": False}
        everything = Wanted(None, at_time(-1), at_time(24))

        assert any(chart.calibration for chart in await charts(settings) if chart.model_serves)
        served = await replay(settings, everything)
        assert (served.asked, served.equal, list(served.lines())[1:]) == (
            FORECASTS, FORECASTS, [f"  {FORECASTS} equal to what was issued first"]
        )  # fmt: skip
        assert served.is_clean
        tried = await replay(settings, dataclasses.replace(everything, subject_id="anna", model="1" * 12))
        assert (tried.asked, tried.equal, tried.is_clean) == (FORECASTS, FORECASTS, True)
        await trial.stop()
        async with Running(on_trial(settings), tmp_path, 2) as late:
            await late.start(Third())
            other = await replay(settings, dataclasses.replace(everything, model="2" * 12))
            assert (other.charted, other.equal, dict(other.other_model)) == (
                FORECASTS, 0, {"third (222222222222)": FORECASTS}
            )  # fmt: skip
            assert (len(other.apart_mgdl), other.is_clean) == (FORECASTS, True), "it is expected to say something else"
        nobody = await replay(settings, dataclasses.replace(everything, model="3" * 12), silence_seconds=1.0)
        assert (nobody.unanswered, nobody.is_clean) == (FORECASTS, False)
        stranger = await replay(settings, dataclasses.replace(everything, subject_id="berta"))
        assert (stranger.asked, stranger.not_asked) == (0, 0)
        after = await charts(settings)
        assert len({chart.chart_id for chart in after}) == 2 * FORECASTS, "a replay issues nothing"
        outcomes = await read_all(settings, topics.REQUEST_OUTCOMES.name)
        assert [RequestOutcome.from_json(record.value).status for record in outcomes] == []


async def test_the_last_choice_counts_and_is_followed(settings: Settings) -> None:
    assert await chosen(settings) is None
    first = ModelChoice(
        model="other", model_fingerprint="1" * 64, previous_model="recording", previous_fingerprint="f" * 64,
        chosen_at=datetime.datetime.now(datetime.UTC),
    )  # fmt: skip
    waiting = asyncio.create_task(until_chosen_anew(settings, None))
    await choose(settings, first)
    assert await asyncio.wait_for(waiting, 60) == first
    assert await chosen(settings) == first
    back = first.model_copy(update={"model": "recording", "model_fingerprint": "f" * 64})
    await choose(settings, back)
    assert await asyncio.wait_for(until_chosen_anew(settings, first), 60) == back
    assert await chosen(settings) == back


async def test_workers_change_places_when_the_other_model_is_promoted(settings: Settings, tmp_path: Path) -> None:
    """As processes: each ends with the code that has its supervisor start it again, and is the other model then."""
    light = variables(
        dict(EmbeddedBroker.settings_overrides)
        | {"partitions": 2, "forecaster": "persistence", "trial_forecaster": "ridge", "broker": settings.broker}
    )

    async def said(*arguments: str) -> list[str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["model", *arguments], env=light)
        assert done.exit_code == 0, done.output
        return done.output.splitlines()

    with Roles(settings.broker, tmp_path / "roles", light) as roles:
        served = roles.worker("inference", 0)
        tried = roles.worker("inference", 1, place=Place({"GLUCAST_MODEL_SERVES": "false"}))
        await asyncio.to_thread(roles.wait_until_ready)
        assert (loaded(served), loaded(tried)) == ("persistence", "ridge")
        assert "rollback" in (await said("promote"))[1]
        for process in (served, tried):
            await until_async(lambda process=process: process.returncode is not None, "the worker ends", 60)
            assert process.returncode == ExitCode.RESTART
            process.start_again()
        await asyncio.to_thread(roles.wait_until_ready)
        assert (loaded(served), loaded(tried)) == ("ridge", "persistence")
        listed = await said("list")
        assert [line.split()[-1] for line in listed[:2] if line.startswith("serves")] == ["ridge"]
        assert (await said("rollback"))[0].startswith("persistence")


def loaded(process: RoleProcess) -> str:
    """The model that a worker says it has."""
    lines = get(f"{process.url}/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith("glucast_model{")]
    return line.split('name="')[1].split('"')[0]


def at_time(hours: int) -> datetime.datetime:
    return datetime.datetime.fromisoformat(at(60 * hours))
