"""Who may use the Nightscout site: whoever shows a key of its person, and nobody else; what is never written down."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from query_api.access import declared_access
from query_api.app import NIGHTSCOUT_ROUTERS, create_app
from query_api.key_file import sha1
from query_api.problems import is_nightscout
from streams.settings import Settings
from tests.kit.keys import key_in, old_key, person_in
from tests.kit.nightscout import SECRET, Times, entry
from tests.kit.query import Client
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

UNAUTHORIZED = {"status": 401, "message": "Unauthorized", "description": "Invalid/Missing"}


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


async def test_anna_and_eve_do_not_meet(site: Client, keys: Path, pipeline: SmallPipeline, at: Times) -> None:
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
            assert (await client.post("/api/v1/devicestatus", json=[])).status_code == 200
        large = b"[" + b" " * (300 << 10) + b"]"
        assert (await client.post("/api/v1/devicestatus", content=large)).status_code == 200
        refused = await client.post("/api/v1/devicestatus", content=large)
        assert (refused.status_code, refused.json()["status"]) == (429, 429)


async def test_no_log_line_holds_a_key_a_query_or_a_person(
    site: Client, token: str, capsys: pytest.CaptureFixture[str], at: Times
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
