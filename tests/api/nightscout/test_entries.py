"""The Nightscout site: apps write to it and read from it as they do everywhere else."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.bench.faults_audit import read_all
from deploy.brokers.embedded import EmbeddedBroker
from schemas import topics
from schemas.reading import Reading, ReadingOutcome
from streams.kafka.provision import provision
from streams.settings import Settings
from tests.kit.nightscout import BODIES, GOLDEN, SECRET, Times, entry, forms
from tests.kit.query import Client, serving
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async


async def sent_to(settings: Settings) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in await read_all(settings, topics.READINGS.name)]


async def outcomes(settings: Settings, count: int) -> list[ReadingOutcome]:
    async def there() -> list[ReadingOutcome] | None:
        found = [ReadingOutcome.from_json(r.value) for r in await read_all(settings, topics.READING_OUTCOMES.name)]
        return found if len(found) >= count else None

    found: list[ReadingOutcome] = await until_async(there, f"{count} outcomes")
    return found


async def test_every_senders_body_in_every_form_of_key_becomes_the_same_reading(
    site: Client, settings: Settings, token: str
) -> None:
    bare = Client(site.app)
    web_token = (await bare.get(f"/api/v2/authorization/request/{token}")).json()
    every = {**forms(token, SECRET), "web token": {"headers": {"authorization": f"Bearer {web_token['token']}"}}}
    ids = set()
    for options in every.values():
        for number, body in enumerate(BODIES.values()):
            path = ("/api/v1/entries", "/api/v1/entries.json")[number % 2]
            answer = await bare.post(path, json=body, **options)  # type: ignore[arg-type]
            assert answer.status_code == 200, answer.text
            told, length = answer.json(), len(body) if isinstance(body, list) else 1
            assert len(told) == length
            assert all(len(each["_id"]) == 24 and int(each["_id"], 16) >= 0 for each in told)
            ids.add(told[0]["_id"])
            assert told[0]["dateString"] == told[0]["sysTime"] == "2026-01-01T08:00:00.000Z"
    assert len(ids) == 1
    records = await sent_to(settings)
    assert len(records) == len(every) * len(BODIES)
    assert all(record.items() >= GOLDEN.items() for record in records)
    assert all(Reading.model_validate(record).glucose_mgdl == 118 for record in records)


async def test_a_bad_element_harms_no_other(
    site: Client, settings: Settings, pipeline: SmallPipeline, at: Times
) -> None:
    bad = [
        entry(5, at(-3)),
        entry(38, at(-3)),
        entry(700, at(-2)),
        entry("low", at(-2)),
        entry(100, at(500)),
        {"sgv": 1},
    ]
    for each in bad:
        answer = await site.post("/api/v1/entries.json", json=[entry(118, at(-1)), each, entry(119, at(0))])
        assert (answer.status_code, len(answer.json())) == (200, 3)
    rejected = [each for each in await outcomes(settings, 18) if each.status == "rejected"]
    assert [each.code for each in rejected] == [
        "sensor_error", "sensor_error", "implausible", "malformed", "future", "malformed",
    ]  # fmt: skip
    await until_async(lambda: len(site.services.read_model.subscriptions._of_key) == 0, "nobody waits")
    found = (await site.get("/api/v1/entries.json?count=100")).json()
    assert [each["sgv"] for each in found] == [119, 118]


async def test_readers_find_what_was_sent_newest_first(site: Client, pipeline: SmallPipeline, at: Times) -> None:
    sent = [entry(100 + step, at(step), direction="Flat" if step else None) for step in range(-20, 1)]
    await site.post("/api/v1/entries", json=sent)
    model = site.services.read_model.readings
    await until_async(lambda: len([*model.measured.newest_first("anna")]) == 21, "all readings")

    async def get(path: str, **query: Any) -> list[Any]:
        answer = await site.get(path, params=query)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        return list(answer.json())

    for path in ("/api/v1/entries", "/api/v1/entries.json", "/api/v1/entries/sgv", "/api/v1/entries/sgv.json"):
        assert [each["sgv"] for each in await get(path)] == list(range(100, 90, -1))
    for path in ("/api/v1/entries/current", "/api/v1/entries/current.json"):
        assert [each["sgv"] for each in await get(path)] == [100]
    (newest,) = await get("/api/v1/entries", count=1, rr="1")
    assert newest == {
        "_id": newest["_id"], "type": "sgv", "sgv": 100, "date": int(at(0).timestamp() * 1000), "device": "share2",
        "dateString": newest["sysTime"], "sysTime": sent[-1]["dateString"], "direction": "Flat",
        "utcOffset": newest["utcOffset"], "delta": 1,
    }  # fmt: skip
    assert newest["utcOffset"] in (60, 120)
    date = {"find[date][$gt]": int(at(-3).timestamp() * 1000), "count": 2880}
    found = await get("/api/v1/entries.json", **date)
    assert [(each["sgv"], each["delta"]) for each in found] == [(100, 1), (99, 1), (98, 1)]
    assert [each["sgv"] for each in await get("/api/v1/entries", **(date | {"count": 2}))] == [100, 99]
    assert await get("/api/v1/entries", **{"find[type]": "mbg"}) == []
    text = {"find[dateString][$gte]": at(-1).strftime("%Y-%m-%dT%H:%M:%SZ")}
    assert [each["sgv"] for each in await get("/api/v1/entries", **text)] == [100, 99]
    refused = await site.get("/api/v1/entries", params={"find[sgv][$gt]": "1"})
    assert (refused.status_code, refused.json()["status"], "filters" in refused.json()["description"]) == (
        400,
        400,
        True,
    )
    described = (await site.get("/openapi.json")).json()["paths"]["/pebble"]["get"]["parameters"]
    (pattern,) = (each["schema"]["pattern"] for each in described if each["name"] == "count")
    for count in ("0", "-1", "a", "", "1", "5760"):
        taken = (await site.get("/pebble", params={"count": count})).status_code == 200
        assert taken == (re.search(pattern, count) is not None), count
    pebble = (await site.get("/pebble?count=2&units=mmol")).json()
    assert [(each["sgv"], each["trend"], each["bgdelta"]) for each in pebble["bgs"]] == [
        ("5.6", 4, 0.1),
        ("5.5", 4, 0.1),
    ]
    properties = (await site.get("/api/v2/properties")).json()
    assert (properties["bgnow"]["last"], properties["delta"]) == (100, {"mgdl": 1, "display": "+1"})
    assert (await site.get("/api/v2/properties/bgnow,iob")).json().keys() == {"bgnow", "iob"}


async def test_the_forecast_is_in_devicestatus_while_it_holds(site: Client, pipeline: SmallPipeline, at: Times) -> None:
    assert (await site.get("/api/v1/devicestatus.json?count=1")).json() == []
    sent = [entry(100 + step % 7, at(step)) for step in range(-96, 1)]
    assert len((await site.post("/api/v1/entries.json", json=sent)).json()) == 97

    async def there() -> list[Any]:
        return list((await site.get("/api/v1/devicestatus.json?count=1")).json())

    async def newest() -> Any:
        found = [document["openaps"]["suggested"] for document in await there()]
        return next((each for each in found if each["deliverAt"] == at(0).strftime("%Y-%m-%dT%H:%M:%SZ")), None)

    suggested = await until_async(newest, "a forecast of the newest reading")
    entries = (await site.get("/api/v1/entries.json?count=1")).json()
    assert suggested["predBGs"]["IOB"][0] == suggested["bg"] == entries[0]["sgv"] == sent[-1]["sgv"]
    assert suggested["timestamp"] == sent[-1]["dateString"].replace(".000", "")
    past, future = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
    for bound, found in (({"$gte": past}, 1), ({"$lte": future}, 1), ({"$gte": future}, 0), ({"$lte": past}, 0)):
        query = {f"find[created_at][{how}]": text for how, text in bound.items()}
        assert len((await site.get("/api/v1/devicestatus", params=query)).json()) == found
    # Where a newer reading got no forecast, there is none: never a stale one.
    await site.post("/api/v1/entries.json", json=entry(300, at(1)))
    readings = site.services.read_model.readings
    await until_async(lambda: (it := readings.newest("anna")) and it.status == "no_forecast", "a jump")
    assert await there() == []
    # Nothing among the entries was computed.
    values = {(each["date"], each["sgv"]) for each in (await site.get("/api/v1/entries?count=9999")).json()}
    assert values == {(each["date"], each["sgv"]) for each in [*sent, entry(300, at(1))]}


async def test_kafka_away_is_503_and_nothing_is_lost_when_it_is_sent_again(
    guarded: Settings, tmp_path: Path, token: str, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query_api.publish.CONFIRM_SECONDS", 1.0)
    async with serving(guarded, tmp_path / "query", headers={"api-secret": token}) as site:
        broker.stop()
        answer = await site.post("/api/v1/entries.json", json=BODIES["Loop"])
        assert (answer.status_code, answer.json().keys()) == (503, {"status", "message", "description"})
        assert int(answer.headers["retry-after"]) > 0
        assert (await site.post("/api/v1/entries.json", json=[{"type": "mbg", "mbg": 100}])).status_code == 200
        broker.start()
        await provision(guarded)

        async def taken() -> bool:
            return (await site.post("/api/v1/entries.json", json=BODIES["Loop"])).status_code == 200

        await until_async(taken, "Kafka is back and the batch is taken")
    assert all(record.items() >= GOLDEN.items() for record in await sent_to(guarded))
    assert await sent_to(guarded)


async def test_bodies_may_be_compressed_and_are_limited_in_bytes(site: Client, settings: Settings) -> None:
    async def post(raw: bytes, **headers: str) -> tuple[int, Any]:
        answer = await site.post("/api/v1/entries", content=raw, headers=headers)
        return answer.status_code, answer.json()

    body = json.dumps(BODIES["Trio"]).encode()
    status, told = await post(gzip.compress(body), **{"content-encoding": "gzip"})
    assert (status, len(told)) == (200, 1)
    assert len(await sent_to(settings)) == 1
    bomb = gzip.compress(bytes(9 << 20))
    nested = b"[" * 400 + b"]" * 400
    for raw, coding, expected in (
        (bomb, "gzip", 413), (body, "gzip", 400), (gzip.compress(body)[:-9], "gzip", 400), (body, "br", 415),
        (b"{", "identity", 400), (b"7", "identity", 400), (b"", "identity", 400),
        (bytes((8 << 20) + 1), "identity", 413), (b"[" + b"7," * 20_000 + b"7]", "identity", 400),
        (b'[{"sgv": 118, "x": ' + nested + b"}]", "identity", 400),
    ):  # fmt: skip
        status, told = await post(raw, **{"content-encoding": coding})
        assert (status, told["status"], bool(told["description"])) == (expected, expected, True), coding
    assert await post(b"[]") == (200, [])


async def test_what_is_not_kept_is_answered_in_the_length_it_came(site: Client) -> None:
    one, many = {"eventType": "Note", "notes": "x"}, [{"mills": 1}, {"_id": "own", "mills": 2}]
    for method, path in (
        ("POST", "devicestatus"), ("POST", "treatments"), ("POST", "profile"), ("PUT", "profile"), ("POST", "activity"),
        ("PUT", "treatments"),
    ):  # fmt: skip
        for suffix in ("", ".json"):
            told = (await site.request(method, f"/api/v1/{path}{suffix}", json=many)).json()
            assert [each["mills"] for each in told] == [1, 2]
            assert told[1]["_id"] == "own"
            answer = (await site.request(method, f"/api/v1/{path}{suffix}", json=one)).json()
            alone = answer if isinstance(answer, dict) else answer[0]
            assert alone == one | {"_id": alone["_id"]}
            assert isinstance(answer, dict) == (path in ("activity",) or (method, path) == ("PUT", "treatments"))
    for path in ("entries", "treatments", "treatments/abc", "treatments.json?find[_id]=x", "entries.json?count=1"):
        assert (await site.delete(f"/api/v1/{path}")).json() == {"acknowledged": True, "deletedCount": 0}
    for path in ("treatments", "treatments.json", "profile", "profile.json", "profiles.json", "activity"):
        assert (await site.get(f"/api/v1/{path}")).json() == []
    assert (await site.get("/api/v1/profile/current")).json() is None
