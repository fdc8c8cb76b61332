"""The third API, in the order in which AAPS calls it."""

import datetime
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.bench.faults_audit import read_all
from schemas import topics
from streams.settings import Settings
from tests.kit.keys import person_in
from tests.kit.nightscout import GOLDEN, TIME_MS, entry
from tests.kit.query import Client, serving
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)


def aaps(sgv: Any, minutes: int, **more: Any) -> dict[str, Any]:
    """An entry as AAPS writes it."""
    date = int((now() + datetime.timedelta(minutes=minutes)).timestamp() * 1000)
    return {
        "type": "sgv", "date": date, "utcOffset": 120, "device": "AndroidAPS-DexcomG6", "direction": "Flat",
        "sgv": sgv, "units": "mg/dl", "noise": 1.0, "isValid": True, "app": "AAPS", **more,
    }  # fmt: skip


@pytest.fixture
async def client(settings: Settings, tmp_path: Path) -> AsyncIterator[Client]:
    """Anna's, with a web token as AAPS asks for it."""
    token = person_in(tmp_path / "keys", "anna")
    guarded = settings.model_copy(update={"api_keys_file": tmp_path / "keys"})
    async with serving(guarded, tmp_path / "query") as client:
        assert (await client.get("/api/v3/version")).json()["result"]["apiVersion"].startswith("3.")
        refused = await client.get("/api/v3/status", headers={"authorization": "Bearer "})
        assert (refused.status_code, refused.json()["status"]) == (401, 401)
        given = (await client.get(f"/api/v2/authorization/request/{token}")).json()
        client.headers["authorization"] = f"Bearer {given['token']}"
        yield client


async def result(client: Client, path: str) -> Any:
    answer = await client.get(f"/api/v3/{path}")
    assert (answer.status_code, answer.json()["status"]) == (200, 200), answer.text
    return answer.json()["result"]


async def test_aaps_finds_a_site_that_it_may_write_to(client: Client) -> None:
    status = await result(client, "status")
    assert set(status["apiPermissions"].values()) == {"crud"}
    assert len(status["apiPermissions"]) == 6
    assert (await result(client, "lastModified"))["collections"] == {
        "entries": 0, "treatments": 0, "devicestatus": 0, "profile": 0,
    }  # fmt: skip


async def test_entries_are_created_once_and_come_back_by_search_and_history(
    client: Client, pipeline: SmallPipeline
) -> None:
    assert await result(client, "entries?sort$desc=date&limit=1") == []
    sent = [aaps(150 + step, 5 * step) for step in range(-3, 1)]
    for each in sent:
        answer = await client.post("/api/v3/entries", json=each)
        assert (answer.status_code, answer.json()["status"]) == (201, 201)
        name = f"{each['device']}_{each['date']}"
        assert answer.json()["identifier"] == str(uuid.uuid5(uuid.UUID(bytes=b"NightscoutRocks!"), name))

    async def all_of_them() -> bool:
        return len(await result(client, "entries")) == 4

    await until_async(all_of_them, "all entries")
    again = await client.post("/api/v3/entries", json=sent[-1])
    assert (again.status_code, again.json()["isDeduplication"]) == (200, True)
    changed = {each["date"]: each["srvModified"] for each in await result(client, "entries")}
    assert (await result(client, "lastModified"))["collections"]["entries"] == max(changed.values())
    newest = await result(client, "entries?sort$desc=date&limit=2&type=sgv")
    assert [(each["sgv"], each["utcOffset"], each["units"]) for each in newest] == [
        (150, 120, "mg/dl"), (149, 120, "mg/dl"),
    ]  # fmt: skip
    assert newest[0]["identifier"] == again.json()["identifier"]
    oldest = await result(client, f"entries?sort=date&date$gt={sent[0]['date']}&limit=2")
    assert [each["sgv"] for each in oldest] == [148, 149]
    answer = await client.get(f"/api/v3/entries/history/{changed[sent[1]['date']]}?limit=1000")
    assert [each["sgv"] for each in answer.json()["result"]] == [149, 150]
    assert int(answer.headers["etag"][3:-1]) == changed[sent[-1]["date"]]
    nothing = await client.get(f"/api/v3/entries/history/{changed[sent[-1]['date']]}")
    assert (nothing.json()["result"], "etag" in nothing.headers) == ([], False)


async def test_what_comes_late_reaches_who_asks_what_has_changed(client: Client, pipeline: SmallPipeline) -> None:
    """As followers do: they go on from the time that they were told last."""
    since, seen, newest = 0, [], aaps(150, 0)

    async def follow(count: int) -> None:
        nonlocal since

        async def there() -> bool:
            nonlocal since
            answer = await client.get(f"/api/v3/entries/history/{since}?limit=2")
            found = answer.json()["result"]
            since = int(answer.headers["etag"][3:-1]) if found else since
            seen.extend(each["sgv"] for each in found)
            return len(seen) >= count

        await until_async(there, f"{count} entries")

    await client.post("/api/v3/entries", json=newest)
    await follow(1)
    together = [entry(100 + step, now() + datetime.timedelta(minutes=5 * step)) for step in range(-20, -10)]
    assert (await client.post("/api/v1/entries", json=together)).status_code == 200
    await follow(11)
    await client.post("/api/v3/entries", json=newest)  # once more as it was: nothing new
    await client.post("/api/v3/entries", json=newest | {"sgv": 151})  # a correction
    await follow(12)
    assert (seen[0], sorted(seen[1:11]), seen[11:]) == (150, [each["sgv"] for each in together], [151])


async def test_a_patch_corrects_an_entry_under_the_name_that_it_was_answered(
    client: Client, pipeline: SmallPipeline
) -> None:
    """As AAPS does with a value that was changed by hand: under the identifier, with the whole document."""
    for minutes, named in enumerate(({}, {"identifier": "aaps-own-name"}, {"_id": "not the name here"})):
        sent = aaps(150, -5 * minutes, **named)
        sent["date"] = float(sent["date"])
        name = (await client.post("/api/v3/entries", json=sent)).json()["identifier"]

        async def shown(name: str = name) -> Any:
            found = {each["identifier"]: each for each in await result(client, "entries")}
            return found.get(name)

        assert (await until_async(shown, "the entry"))["sgv"] == 150
        path = f"/api/v3/entries/{name}"
        answer = await client.patch(path, json=sent | {"sgv": 151, "srvModified": 1})
        assert (answer.status_code, answer.json()) == (200, {"status": 200})

        async def corrected(name: str = name) -> Any:
            return (entry := await shown(name)) and entry["sgv"] == 151 and entry

        entry = await until_async(corrected, "the corrected value")
        assert (entry["date"], entry["utcOffset"], entry["device"]) == (sent["date"], 120, sent["device"])
        assert (await client.patch(path, json={"app": "AAPS"})).status_code == 200, "there is nothing to correct"
        moved = await client.patch(path, json=sent | {"date": sent["date"] + 60_000})
        assert (moved.status_code, "cannot be modified by the client" in moved.json()["description"]) == (400, True)
        for gone in (await client.patch(path, json=sent | {"isValid": False}), await client.delete(path)):
            assert (gone.status_code, "taken back" in gone.json()["description"]) == (404, True)
        assert (await shown(name))["sgv"] == 151
    assert (await client.patch("/api/v3/entries/unknown", json=aaps(151, 0))).status_code == 404


async def test_a_correction_that_comes_meanwhile_lends_its_time_to_no_earlier_value(
    client: Client, pipeline: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes on from the time that came with the value before it would never see the corrected one."""
    await client.post("/api/v3/entries", json=aaps(150, 0))

    async def there() -> Any:
        return await result(client, "entries")

    (before,) = await until_async(there, "the entry")
    measured = client.services.read_model.readings.measured
    looks = [list(measured.rows("anna"))]

    def rows(subject_id: str, last: datetime.datetime | None = None) -> Iterator[bytes]:
        """The reading at the first look, at any later one its correction, which came a minute later."""
        yield from looks[-1]
        came = before["srvModified"]
        corrected = [row.replace(b"150", b"151").replace(str(came).encode(), str(came + 60_000).encode())
                     for row in looks[0]]  # fmt: skip
        assert corrected != looks[0]
        looks.append(corrected)

    for path in ("entries", "entries?sort=date", f"entries/history/{before['srvModified'] - 1}"):
        del looks[1:]
        monkeypatch.setattr(measured, "rows", rows)
        (found,) = await result(client, path)
        assert (found["sgv"], found["srvModified"]) == (150, before["srvModified"]), path


async def test_what_aaps_sends_is_the_golden_reading(client: Client, settings: Settings) -> None:
    body = aaps(118.0, 0, date=TIME_MS, utcOffset=60)
    assert (await client.post("/api/v3/entries", json=body)).status_code == 201
    (record,) = [json.loads(each.value) for each in await read_all(settings, topics.READINGS.name)]
    assert record.items() >= GOLDEN.items()
    assert record["device"] == body["device"]


async def test_units_and_what_is_no_reading(client: Client, pipeline: SmallPipeline) -> None:
    for body in (aaps(8.3, 0, units="mmol"), aaps(100, -5, isValid=False), aaps(100, -5, type="mbg")):
        assert (await client.post("/api/v3/entries", json=body)).status_code == 201

    async def found() -> Any:
        return await result(client, "entries")

    assert [each["sgv"] for each in await until_async(found, "one entry")] == [150]
    refused = {
        "Bad or missing date field": aaps(100, 0, date=None),
        "Bad or missing utcOffset field": aaps(100, 0, utcOffset="two"),
        "the body is not one document": [aaps(100, 0)],
    }
    for words, body in refused.items():
        answer = await client.post("/api/v3/entries", json=body)
        assert (answer.status_code, answer.json()["description"]) == (400, words)
    for path in ("entries?limit=0", "entries?sort=sgv", "entries?date$gt=soon"):
        assert (await client.get(f"/api/v3/{path}")).status_code == 400
    assert (await client.get("/api/v3/entries/history/soon")).status_code == 422


async def test_other_collections_are_taken_and_empty(client: Client) -> None:
    for name in ("treatments", "food", "profile", "settings", "devicestatus"):
        answer = await client.post(f"/api/v3/{name}", json={"date": 1, "app": "AAPS", "eventType": "Note"})
        assert (answer.status_code, answer.json()["status"]) == (201, 201)
        assert uuid.UUID(answer.json()["identifier"]).version == 5
        assert await result(client, name) == await result(client, f"{name}/history/0?limit=100") == []
    own = await client.post("/api/v3/treatments", json={"identifier": "own", "date": 1})
    assert own.json()["identifier"] == "own"
    for method in ("PATCH", "DELETE"):
        answer = await client.request(method, "/api/v3/entries/abc", json={})
        assert (answer.status_code, answer.json()["status"]) == (404, 404)
    assert (await client.get("/api/v3/anything")).status_code == 404
    wrong = await client.put("/api/v3/treatments", json={})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")


async def test_the_forecast_is_a_devicestatus_here_too(client: Client, pipeline: SmallPipeline) -> None:
    newest = now()
    sent = [entry(150 + step % 5, newest + datetime.timedelta(minutes=5 * step)) for step in range(-95, 1)]
    assert (await client.post("/api/v1/entries.json", json=sent)).status_code == 200

    async def there() -> Any:
        return await result(client, "devicestatus?limit=1")

    (document,) = await until_async(there, "a forecast")
    assert len(document["openaps"]["suggested"]["predBGs"]["IOB"]) == 13
    assert await result(client, f"devicestatus/history/{document['mills'] - 1}") == [document]
    assert await result(client, f"devicestatus/history/{document['mills'] + 60_000}") == []
    assert (await result(client, "lastModified"))["collections"]["devicestatus"] >= document["mills"]
