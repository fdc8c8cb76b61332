"""Alerts over HTTP: what was told of a falling person, a snooze and settings that the worker has confirmed."""

import datetime
import json
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from deploy.bench.faults_audit import read_all
from schemas import topics
from schemas.alert import THRESHOLD_MGDL, Alert
from schemas.arrival import TICK, TICK_KEY
from streams.kafka.connection import producer_options
from streams.settings import Settings
from tests.kit.falling import glucose
from tests.kit.query import Client
from tests.kit.small_pipeline import SmallPipeline, at
from tests.kit.waiting import until_async


async def test_a_falling_person_is_told_once_and_then_what_became_of_it(
    client: Client, pipeline: SmallPipeline, settings: Settings
) -> None:
    off = {"urgent_low": {"enabled": False}}  # who is told of that is not told of the low besides
    assert (await client.put("/subjects/anna/alerts/settings", json=off)).status_code == 200
    history = 96 + 14  # what comes at once; then the fall, reading by reading, each sent twice
    person = [
        {"time": at(5 * step), "glucose": glucose(step - 96), "unit": "mg/dL", "simulated": True}
        for step in range(96 + 26)
    ]
    assert (await client.post("/subjects/anna/readings", json=person[:history])).status_code == 202
    for one in person[history - 1 :]:
        for _ in range(2):
            assert (await client.post("/subjects/anna/readings", json=one)).status_code == 202
        await until_async(lambda one=one: judged(client, one["time"]), "the forecast of a reading")

    async def decided() -> Any:
        found = (await client.get("/subjects/anna/alerts")).json()
        return found if [each for each in found["recent"] if each["status"] == "hit"] else None

    found = await until_async(decided, "an alert and what became of it")
    low = [each for each in found["recent"] if each["kind"] == "low"]
    assert [each["status"] for each in low] == ["hit"]
    assert low[0]["lead_minutes"] >= 5
    assert "Not a medical device" in found["disclaimer"]
    records = [Alert.from_json(record.value) for record in await read_all(settings, topics.ALERTS.name)]
    assert [each.status for each in records if each.kind == "low"] == ["raised", "hit"]
    assert len({each.alert_id for each in records if each.kind == "low"}) == 1


async def test_a_snooze_and_settings_hold_when_they_are_answered(client: Client, pipeline: SmallPipeline) -> None:
    before = datetime.datetime.now(datetime.UTC)
    answer = await client.post("/subjects/anna/alerts/snooze", json={"direction": "low", "minutes": 30})
    assert answer.status_code == 200, answer.text
    until = datetime.datetime.fromisoformat(answer.json()["snoozed_until"]["low"])
    assert datetime.timedelta(minutes=29) < until - before < datetime.timedelta(minutes=31)
    ended = await client.post("/subjects/anna/alerts/snooze", json={"direction": "low", "minutes": 0})
    assert ended.json()["snoozed_until"] == {}
    wanted = {"preset": "early", "low": {"probability": 0.2, "active": "22:00-07:00"},
              "falling_fast": {"rate_mgdl_per_minute": 2}, "stale_data": {"minutes": 30.0}}  # fmt: skip
    assert (await client.put("/subjects/anna/alerts/settings", json=wanted)).status_code == 200
    assert (await client.put("/subjects/anna/alerts/settings", json=wanted)).status_code == 200
    kept = (await client.get("/subjects/anna/alerts/settings")).json()
    assert (kept["falling_fast"]["rate_mgdl_per_minute"], kept["stale_data"]["minutes"]) == (2.0, 30)
    assert (kept["preset"], kept["low"]["probability"], kept["cooldown_minutes"]) == ("early", 0.2, 30)
    assert (await client.get("/subjects/bert/alerts/settings")).json()["preset"] == "balanced"


async def test_thresholds_are_taken_and_answered_in_the_unit_of_the_person(
    client: Client, pipeline: SmallPipeline
) -> None:
    address = "/subjects/anna/alerts/settings"
    wanted = {"low": {"threshold_mmoll": 4.4}, "falling_fast": {"below_mmoll": 8}}
    answer = await client.put(f"{address}?unit=mmol/L", json=wanted)
    assert answer.status_code == 200, answer.text
    kept = answer.json()
    assert (kept["low"]["threshold_mmoll"], kept["falling_fast"]["below_mmoll"]) == (4.4, 8.0)
    assert "threshold_mgdl" not in kept["low"]
    assert (await client.get(address)).json()["low"]["threshold_mgdl"] == 79
    assert (await client.put(f"{address}?unit=mmol/L", json=kept)).json() == kept, "what is answered can be sent"
    consensus = {"urgent_low": 3.0, "low": 3.9, "high": 10.0, "urgent_high": 13.9}
    wanted = {kind: {"threshold_mmoll": mmoll} for kind, mmoll in consensus.items()}
    assert (await client.put(address, json=wanted)).status_code == 200
    kept = (await client.get(address)).json()
    assert {kind: kept[kind]["threshold_mgdl"] for kind in consensus} == THRESHOLD_MGDL
    kept = (await client.get(f"{address}?unit=mmol/L")).json()
    assert {kind: kept[kind]["threshold_mmoll"] for kind in consensus} == consensus


async def test_readings_that_stay_away_are_told_over_http(
    client: Client, pipeline: SmallPipeline, settings: Settings
) -> None:
    wanted = {"stale_data": {"minutes": 15}}
    assert (await client.put("/subjects/anna/alerts/settings", json=wanted)).status_code == 200
    now, minute = datetime.datetime.now(datetime.UTC), datetime.timedelta(minutes=1)
    one = {"time": (now - 14 * minute).isoformat(), "glucose": 110, "unit": "mg/dL"}  # not later: still one of now
    assert (await client.post("/subjects/anna/readings", json=one)).status_code == 202
    ahead = now + 2 * minute
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        for partition in range(settings.partitions):  # as an ingest worker does, whose clock is ahead
            await producer.send_and_wait(
                topics.READINGS.name, None, TICK_KEY.encode(), partition, int(ahead.timestamp() * 1000), [(TICK, b"1")]
            )

    async def holding() -> Any:
        found = (await client.get("/subjects/anna/alerts")).json()
        return found if found["holding"] else None

    found = await until_async(holding, "an alert of the missing reading")
    assert found["holding"] == ["stale_data"]
    assert [(each["kind"], each["status"], each["threshold_mgdl"]) for each in found["recent"]] == [
        ("stale_data", "raised", None)
    ]
    heard = {"time": ahead.isoformat(), "glucose": 112, "unit": "mg/dL"}
    assert (await client.post("/subjects/anna/readings", json=heard)).status_code == 202

    async def over() -> Any:
        answer = (await client.get("/subjects/anna/alerts")).json()
        return None if answer["holding"] else answer

    (ended,) = (await until_async(over, "its end"))["recent"]
    assert (ended["status"], ended["alert_id"]) == ("ended", found["recent"][0]["alert_id"])


async def judged(client: Client, time: object) -> bool:
    last = (await client.get("/subjects/anna/alerts")).json()["last_judged"]
    return last is not None and datetime.datetime.fromisoformat(last) >= datetime.datetime.fromisoformat(str(time))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"preset": "loud"}, "preset"), ({"low": {"probability": 2}}, "probability"),
        ({"low": {"active": "22:00"}}, "low.active"),
        ({"low": {"probabilty": 0.5}, "lows": {}}, "probabilty"),
        ({"stale_data": {"minutes": 5}}, "stale_data.minutes"), ({"falling_fast": {"rate": 3}}, "falling_fast.rate"),
        ({"sensor_error": {"readings": "3"}}, "sensor_error.readings"),
        ({"low": {"threshold_mgdl": 50}}, "threshold of low"), ({"high": {"threshold_mmoll": 15}}, "urgent_high"),
        ({"low": {"threshold_mgdl": 80, "threshold_mmoll": 4.4}}, "give one"),
        ({"low": {"threshold_mmoll": 10**400}}, "threshold_mmoll"),
        ({"low": {"threshold_mmoll": "4"}}, "threshold_mmoll"),
    ],
)  # fmt: skip
async def test_settings_that_cannot_be_are_refused_in_words(client: Client, body: dict[str, Any], words: str) -> None:
    answer = await client.put("/subjects/anna/alerts/settings", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert words in json.dumps(answer.json())
