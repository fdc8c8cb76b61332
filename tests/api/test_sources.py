"""Devices and sensors over HTTP, and what a person's data are as files; a trace from the request to the alert."""

import datetime
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from deploy.bench.faults_audit import read_all
from schemas import topics
from schemas.event import ID, TRACEPARENT, TYPE
from schemas.reading import ReadingOutcome
from streams.settings import Settings
from tests.api.test_alerts import judged
from tests.kit.falling import glucose
from tests.kit.keys import person_in
from tests.kit.query import Client, serving
from tests.kit.small_pipeline import SmallPipeline, at
from tests.kit.waiting import until_async

TRACE = f"00-{10:032x}-{11:016x}-01"


async def outcomes(settings: Settings) -> list[ReadingOutcome]:
    records = await read_all(settings, topics.READING_OUTCOMES.name)
    return [ReadingOutcome.from_json(record.value) for record in records]


async def test_which_device_speaks_is_set_and_holds(
    client: Client, pipeline: SmallPipeline, settings: Settings
) -> None:
    both = [
        {"time": at(5 * step), "glucose": 120 + 40 * (device == "leg"), "unit": "mg/dL", "device": device}
        for step in range(2)
        for device in ("arm", "leg")
    ]
    assert (await client.post("/subjects/anna/readings", json=both)).status_code == 202

    async def devices() -> Any:
        found = (await client.get("/subjects/anna/sources")).json()
        return found if len(found["devices"]) == 2 else None

    known = await until_async(devices, "both devices are known")
    assert known == {
        "subject_id": "anna", "preferred_device": None, "wait_minutes": 15, "devices": ["arm", "leg"],
        "sensor_starts": [],
    }  # fmt: skip
    answer = await client.put("/subjects/anna/sources", json={"preferred_device": "arm", "wait_minutes": 20.0})
    assert (answer.status_code, answer.json()["preferred_device"], answer.json()["wait_minutes"]) == (200, "arm", 20)
    assert (await client.put("/subjects/anna/sources", json={"preferred_device": "arm", "wait_minutes": 20})).is_success
    for refused in ({"wait_minutes": 4}, {"preferred_device": ""}, {"prefered": "arm"}, {"wait_minutes": "20"}):
        assert (await client.put("/subjects/anna/sources", json=refused)).status_code == 422
    more = [
        {"time": at(10), "glucose": 121, "unit": "mg/dL", "device": "arm"},
        {"time": at(10), "glucose": 171, "unit": "mg/dL", "device": "leg"},
    ]
    assert (await client.post("/subjects/anna/readings", json=more)).status_code == 202
    start = {"time": at(12)}
    assert (await client.post("/subjects/anna/sensor-starts", json=start)).status_code == 202
    assert (await client.post("/subjects/anna/sensor-starts", json={"time": "2026-01-01T08:00:00"})).status_code == 422
    last = {"time": at(15), "glucose": 122, "unit": "mg/dL", "device": "arm"}
    assert (await client.post("/subjects/anna/readings", json=last)).status_code == 202
    told = await until_async(lambda: _all(settings, 7), "the outcomes")
    assert [each.flags for each in told[:4]] == [
        (), ("sources_disagree",), ("sensor_change",), ("sources_disagree",),
    ]  # fmt: skip
    assert (told[5].code, told[5].flags) == ("other_device", ("sources_disagree",))
    assert told[6].flags == ("sensor_warm_up", "sensor_change")

    async def started() -> Any:
        return (await client.get("/subjects/anna/sources")).json()["sensor_starts"]

    starts = await until_async(started, "the API has followed")
    assert [datetime.datetime.fromisoformat(each) for each in starts] == [datetime.datetime.fromisoformat(at(12))]
    files = await until_async(lambda: _exported_with(client, 4), "the readings in the export")
    assert files["settings"]["sources"]["preferred_device"] == "arm"
    missing = await client.get("/subjects/nobody/export")
    assert (missing.status_code, missing.json()["code"]) == (404, "no_readings")


async def _all(settings: Settings, count: int) -> list[ReadingOutcome] | None:
    found = await outcomes(settings)
    return found if len(found) >= count else None


async def _exported_with(client: Client, readings: int) -> Any:
    """The export of anna, once it has so many readings: the API follows a little behind."""
    files = await _exported(client, "anna")
    return files if {each["file"]: each["rows"] for each in files["files"]}["readings.parquet"] >= readings else None


async def _exported(client: Client, subject_id: str) -> Any:
    answer = await client.get(f"/subjects/{subject_id}/export")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archived:
        return json.loads(archived.read("manifest.json"))


async def test_treatments_of_a_nightscout_site_start_a_sensor_and_the_key_names_the_device(
    pipeline: SmallPipeline, settings: Settings, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    token = person_in(keys, "berta", device="left arm")
    locked = settings.model_copy(update={"api_keys_file": keys})
    headers = {"api-secret": token}
    async with serving(locked, tmp_path / "query", headers=headers) as client:
        time = datetime.datetime.fromisoformat(at(0))
        started = {"eventType": "Sensor Start", "created_at": time.isoformat(), "enteredBy": "xDrip+"}
        answer = await client.post("/api/v1/treatments", json=[{"eventType": "Note"}, started])
        assert (answer.status_code, len(answer.json())) == (200, 2)
        assert (await client.put("/api/v1/treatments", json=started)).status_code == 200
        sent = {"type": "sgv", "sgv": 118, "date": int(time.timestamp() * 1000) + 60_000}
        assert (await client.post("/api/v1/entries", json=sent)).status_code == 200
        own = {"x-api-key": token}

        async def known() -> Any:
            found = (await client.get("/subjects/berta/sources", headers=own)).json()
            return found if found["devices"] and found["sensor_starts"] else None

        found = await until_async(known, "the start and the device")
        assert (found["devices"], len(found["sensor_starts"])) == (["left arm"], 1)
        assert (await client.get("/subjects/berta/export", headers=own)).status_code == 403
        assert (await client.get("/subjects/anna/sources", headers=own)).status_code == 403
        assert (await client.put("/subjects/anna/sources", json={}, headers=own)).status_code == 403


async def test_a_trace_goes_from_the_request_to_the_alert(
    client: Client, pipeline: SmallPipeline, settings: Settings
) -> None:
    person = [
        {"time": at(5 * step), "glucose": glucose(step - 96), "unit": "mg/dL", "simulated": True}
        for step in range(96 + 26)
    ]
    headers = {"traceparent": TRACE}
    assert (await client.post("/subjects/anna/readings", json=person[:110], headers=headers)).status_code == 202
    for one in person[109:]:
        assert (await client.post("/subjects/anna/readings", json=one, headers=headers)).status_code == 202
        await until_async(lambda one=one: judged(client, one["time"]), "the forecast of a reading")

    async def told() -> Any:
        return await read_all(settings, topics.ALERTS.name) or None

    for record in await until_async(told, "an alert"):
        said = dict(record.headers)
        assert (said[TRACEPARENT], said[TYPE]) == (TRACE.encode(), b"glucast.Alert")
    for topic in (topics.READINGS, topics.READING_OUTCOMES, topics.LIVE, topics.FAN_CHARTS, topics.SCORES):
        for record in await read_all(settings, topic.name):
            said = dict(record.headers)
            assert said[TRACEPARENT] == TRACE.encode(), topic.name
            assert (ID in said) == topic.public
