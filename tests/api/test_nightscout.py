"""The Nightscout site: apps write to it and read from it as they do everywhere else."""

import asyncio
import datetime
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from deploy.bench.faults_audit import read_all
from deploy.brokers.embedded import EmbeddedBroker
from query_api.access import declared_access
from query_api.app import NIGHTSCOUT_ROUTERS, create_app
from query_api.key_file import sha1
from query_api.problems import is_nightscout
from schemas import topics
from schemas.reading import Reading, ReadingOutcome
from streams.kafka.provision import provision
from streams.settings import Settings
from tests.kit.keys import key_in, old_key, person_in
from tests.kit.nightscout import BODIES, GOLDEN, entry, forms
from tests.kit.query import Client, serving
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

SECRET = "anna's own secret"
NOW = datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)
NOW -= datetime.timedelta(minutes=NOW.minute % 5)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def token(keys: Path) -> str:
    person_in(keys, "anna", SECRET)
    return person_in(keys, "anna")


@pytest.fixture
def guarded(settings: Settings, keys: Path, token: str) -> Settings:
    return settings.model_copy(update={"api_keys_file": keys})


@pytest.fixture
async def site(guarded: Settings, tmp_path: Path, token: str) -> AsyncIterator[Client]:
    """Anna's site."""
    async with serving(guarded, tmp_path / "query", headers={"api-secret": sha1(token)}) as client:
        yield client


async def sent_to(settings: Settings) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in await read_all(settings, topics.READINGS.name)]


async def outcomes(settings: Settings, count: int) -> list[ReadingOutcome]:
    async def there() -> list[ReadingOutcome] | None:
        found = [ReadingOutcome.from_json(r.value) for r in await read_all(settings, topics.READING_OUTCOMES.name)]
        return found if len(found) >= count else None

    found: list[ReadingOutcome] = await until_async(there, f"{count} outcomes")
    return found


def at(step: int) -> datetime.datetime:
    """Five minutes apart; step 0 is now."""
    return NOW + datetime.timedelta(minutes=5 * step)


async def test_every_senders_body_in_every_form_of_key_becomes_the_same_reading(
    site: Client, settings: Settings, token: str
) -> None:
    bare = Client(site.app)
    web_token = (await bare.get(f"/api/v2/authorization/request/{token}")).json()
    every = {**forms(token, SECRET), "web token": {"headers": {"authorization": f"Bearer {web_token['token']}"}}}
    ids = set()
    for options in every.values():
        for path, body in zip(["/api/v1/entries", "/api/v1/entries.json"] * 4, BODIES.values(), strict=True):
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


async def test_a_bad_element_harms_no_other(site: Client, settings: Settings, pipeline: SmallPipeline) -> None:
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
        "implausible", "sensor_error", "implausible", "malformed", "future", "malformed",
    ]  # fmt: skip
    await until_async(lambda: len(site.services.read_model.subscriptions._of_key) == 0, "nobody waits")
    found = (await site.get("/api/v1/entries.json?count=100")).json()
    assert [each["sgv"] for each in found] == [119, 118]


async def test_readers_find_what_was_sent_newest_first(site: Client, pipeline: SmallPipeline) -> None:
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
    pebble = (await site.get("/pebble?count=2&units=mmol")).json()
    assert [(each["sgv"], each["trend"], each["bgdelta"]) for each in pebble["bgs"]] == [
        ("5.6", 4, 0.1),
        ("5.5", 4, 0.1),
    ]
    properties = (await site.get("/api/v2/properties")).json()
    assert (properties["bgnow"]["last"], properties["delta"]) == (100, {"mgdl": 1, "display": "+1"})
    assert (await site.get("/api/v2/properties/bgnow,iob")).json().keys() == {"bgnow", "iob"}


async def test_the_forecast_is_in_devicestatus_while_it_holds(site: Client, pipeline: SmallPipeline) -> None:
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
    await site.post("/api/v1/entries.json", json=entry(300, NOW + datetime.timedelta(minutes=5)))
    readings = site.services.read_model.readings
    await until_async(lambda: (it := readings.newest("anna")) and it.status == "no_forecast", "a jump")
    assert await there() == []
    # Nothing among the entries was computed.
    values = {(each["date"], each["sgv"]) for each in (await site.get("/api/v1/entries?count=9999")).json()}
    assert values == {(each["date"], each["sgv"]) for each in [*sent, entry(300, NOW + datetime.timedelta(minutes=5))]}


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


async def test_the_site_says_what_it_is_and_what_a_key_allows(site: Client, keys: Path, token: str) -> None:
    reader, uploader = person_in(keys, "anna", scopes=["read"]), person_in(keys, "anna", scopes=["write"])
    bare = Client(create_app(site.services.settings))  # it reads the file anew
    bare.app.state.services = site.services
    status = (await bare.get("/api/v1/status.json", params={"token": reader})).json()
    assert (status["status"], status["name"], status["settings"]["units"]) == ("ok", "glucast", "mg/dl")
    assert (status["settings"]["enable"], status["settings"]["showForecast"]) == (["openaps"], "openaps")
    assert status["authorized"]["permissionGroups"] == [["*:*:read"]]
    bearer = {"authorization": f"Bearer {status['authorized']['token']}"}
    assert (await bare.get("/api/v1/entries.json", headers=bearer)).status_code == 200
    assert (await bare.post("/api/v1/entries.json", headers=bearer, json=[])).status_code == 403
    for damaged in (bearer["authorization"][:-3], "Bearer", "Bearer ", "Bearer x.y.z", "Basic abc"):
        assert (await bare.get("/api/v1/entries", headers={"authorization": damaged})).status_code == 401
    mixed = {"token": "a-wrong-one-0123456789"}
    assert (await bare.get("/api/v1/status", params=mixed, headers={"api-secret": token})).json()["authorized"] is None
    wrong = await bare.get("/api/v2/authorization/request/a-wrong-one", headers={"api-secret": token})
    assert (wrong.status_code, wrong.json()) == (401, UNAUTHORIZED)
    answer = (await bare.get(f"/api/v2/authorization/request/{token}")).json()
    assert answer["exp"] - answer["iat"] == 8 * 3600
    assert answer["permissionGroups"] == [["*:*:read"], ["api:entries:create"]]
    for key, can_read, can_write in (
        (reader, True, False),
        (uploader, False, True),
        ("wrong", False, False),
        ("", False, False),
    ):
        said = (await bare.get("/api/v1/verifyauth", headers={"api-secret": key})).json()["message"]
        assert (said["canRead"], said["canWrite"]) == (can_read, can_write)
        assert said["message"] == ("OK" if can_read or can_write else "UNAUTHORIZED")
    for key, expected in ((reader, 403), (uploader, 200), ("wrong", 401), ("null", 401)):
        assert (await bare.get("/api/v1/experiments/test", headers={"api-secret": key})).status_code == expected


UNAUTHORIZED = {"status": 401, "message": "Unauthorized", "description": "Invalid/Missing"}


def operations() -> Iterator[tuple[str, str]]:
    """Every method and path of the site."""
    for route in iter_route_contexts(create_app(Settings()).routes):
        for method in route.methods or ():
            if is_nightscout(route.path or ""):
                yield method, (route.path or "").replace("{", "").replace("}", "")


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[tuple[Client, dict[str, str]]]:
    """The routes with keys on, and nothing behind them; a key of each kind that must not pass."""
    path = tmp_path / "keys"
    old, digest = old_key()
    path.write_text(f"clinic {digest}\n")
    expired = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    wrong = {
        "of everybody, of the old form": old,
        "of everybody": key_in(path, "everybody"),
        "of two": key_in(path, "two", subjects=["anna", "eve"], timezone="UTC"),
        "without a clock": key_in(path, "clockless", subjects=["anna"]),
        "of an administrator": person_in(path, "anna", scopes=["admin"]),
        "expired": person_in(path, "anna", expires=expired),
    }
    limits = {"rate_limit": "9999/minute", "wrong_key_rate_limit": "9999/minute"}
    async with Client(create_app(Settings(api_keys_file=path, **limits), tmp_path)) as client:  # type: ignore[arg-type]
        yield client, wrong


async def test_no_route_of_the_site_serves_who_has_no_key_of_its_person(gate: tuple[Client, dict[str, str]]) -> None:
    client, wrong = gate
    everybodys = ("/api/v1/verifyauth", "/api/v1/verifyauth.json", "/api/v3/version")
    found = [(method, path) for method, path in operations() if path not in everybodys]
    assert len(found) > 50
    for method, path in found:
        for headers in ({}, {"api-secret": "null"}, {"api-secret": sha1("guess")}, {"api-secret": wrong["expired"]}):
            answer = await client.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED), (method, path)
        for kind in ("of everybody", "of two", "without a clock", "of everybody, of the old form"):
            asked = path.replace("/request/token", f"/request/{wrong[kind]}")  # there it is the key that counts
            answer = await client.request(method, asked, headers={"api-secret": wrong[kind]})
            assert (answer.status_code, answer.json()["status"]) == (403, 403), (method, path, kind)
        if declared_scope(client, method, path) is not None:
            answer = await client.request(method, path, headers={"api-secret": wrong["of an administrator"]})
            assert answer.status_code == 403, (method, path)
    unknown = await client.get("/api/v1/nothing", headers={"api-secret": wrong["of an administrator"]})
    assert (unknown.status_code, unknown.json()["status"]) == (404, 404)
    many = "&".join(f"a{number}=1" for number in range(2000))
    assert (await client.get(f"/api/v1/nothing?{many}")).json() == UNAUTHORIZED


def declared_scope(client: Client, method: str, path: str) -> str | None:
    for route in iter_route_contexts(client.app.routes):
        if method in (route.methods or ()) and (route.path or "").replace("{", "").replace("}", "") == path:
            declared = declared_access(route.endpoint)
            assert declared is not None
            return declared.scope
    raise AssertionError(path)


def test_all_of_the_sites_routes_and_no_others_are_one_persons() -> None:
    own = {id(route.endpoint) for router in NIGHTSCOUT_ROUTERS for route in iter_route_contexts(router.routes)}
    for route in iter_route_contexts(create_app(Settings()).routes):
        declared = declared_access(route.endpoint)
        assert declared is not None
        assert is_nightscout(route.path or "") == (id(route.endpoint) in own), route.path
        if declared.audience == "key":
            assert (declared.whose == "person") == is_nightscout(route.path or ""), route.path


async def test_without_keys_there_is_no_site(tmp_path: Path) -> None:
    async with Client(create_app(Settings(), tmp_path)) as client:
        for headers in ({}, {"api-secret": "a" * 40}):
            answer = await client.post("/api/v1/entries.json", json=[], headers=headers)
            assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
        assert (await client.get("/api/v1/verifyauth")).json()["message"]["canRead"] is False


async def test_anna_and_eve_do_not_meet(site: Client, keys: Path, pipeline: SmallPipeline) -> None:
    eve = person_in(keys, "eve")
    others = Client(create_app(site.services.settings), headers={"api-secret": sha1(eve)})
    others.app.state.services = site.services
    await site.post("/api/v1/entries", json=entry(118, at(0), subject_id="eve", _id="x"))
    await others.post("/api/v1/entries", json=entry(222, at(0), subject="anna"))

    async def values(client: Client) -> list[int]:
        return [each["sgv"] for each in (await client.get("/api/v1/entries?find[device]=share2")).json()]

    async def both() -> bool:
        return bool(await values(site)) and bool(await values(others))

    await until_async(both, "both readings")
    assert (await values(site), await values(others)) == ([118], [222])


async def test_who_guesses_a_secret_is_not_heard_any_more(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    token = person_in(path, "anna")
    async with Client(create_app(Settings(api_keys_file=path), tmp_path)) as client:
        statuses = [
            (await client.get("/api/v1/experiments/test", headers={"api-secret": sha1(str(n))})).status_code
            for n in range(100)
        ]
        assert statuses == [401] * 20 + [429] * 80
        right = await client.get("/api/v1/experiments/test", params={"token": token})
        assert (right.status_code, right.json()["status"]) == (429, 429)
        assert int(right.headers["retry-after"]) > 0


async def test_bytes_are_limited_and_requests_are_not(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    headers = {"api-secret": person_in(path, "anna")}
    strict = Settings(api_keys_file=path, rate_limit="5/minute", nightscout_rate_limit="400/minute")
    async with Client(create_app(strict, tmp_path), headers=headers) as client:
        for _ in range(50):
            assert (await client.post("/api/v1/treatments", json=[])).status_code == 200
        large = b"[" + b" " * (300 << 10) + b"]"
        assert (await client.post("/api/v1/treatments", content=large)).status_code == 200
        refused = await client.post("/api/v1/treatments", content=large)
        assert (refused.status_code, refused.json()["status"]) == (429, 429)


async def test_no_log_line_holds_a_key_a_query_or_a_person(
    site: Client, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = Client(site.app)
    await bare.get("/api/v1/entries.json", params={"token": token, "find[device]": "secret-device"})
    await bare.post("/api/v1/entries", json=[entry(173.25, at(0))], headers={"api-secret": SECRET})
    await bare.post("/api/v1/entries", json=[entry(173.25, at(0))], params={"token": token, "api_secret": SECRET})
    web_token = (await bare.get(f"/api/v2/authorization/request/{token}")).json()["token"]
    await bare.get("/pebble", headers={"authorization": f"Bearer {web_token}"})
    await bare.get("/api/v1/status.json", params={"token": "a-wrong-guess-of-somebody"})
    await asyncio.sleep(0)
    written = "".join(capsys.readouterr())
    assert "/api/v2/authorization/request/{token}" in written
    for secret in (
        token[-16:],
        sha1(token),
        SECRET,
        sha1(SECRET),
        web_token,
        "a-wrong-guess",
        "secret-device",
        "173.25",
    ):
        assert secret not in written
