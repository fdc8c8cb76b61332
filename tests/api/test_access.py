"""What each route declares of its callers, that it is obeyed before a body is read, and what an undeclared one gets."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount, Route
from starlette.types import Message
from starlette.websockets import WebSocket

from query_api.access import CLOSED, SMALL_BODY_BYTES, UNKNOWN, Access, access, access_for, declared_access
from query_api.app import create_app
from query_api.problems import is_fhir, is_glurpc, is_nightscout
from query_api.routers.fhir import BUNDLE_BODY_BYTES
from query_api.routers.nightscout.parts import DOCUMENT_BODY_BYTES, ENTRIES_BODY_BYTES
from query_api.routers.samples import upload_body_bytes
from query_api.routers.subject_readings import READINGS_BODY_BYTES
from streams.settings import Settings
from tests.kit.keys import old_key
from tests.kit.query import Client

OPEN = {
    ("GET", "/"),
    ("GET", "/favicon.ico"),
    ("GET", "/static/{name:path}"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
    ("GET", "/docs"),
    ("HEAD", "/docs"),
    ("GET", "/problems"),
    ("GET", "/problems/{code}"),
    ("GET", "/health"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("POST", "/convert_to_unified"),
    ("GET", "/glurpc/health"),
    ("POST", "/glurpc/convert_to_unified"),
    ("GET", "/api/v1/verifyauth"),
    ("GET", "/api/v1/verifyauth.json"),
    ("GET", "/api/v3/version"),
}
UNCOUNTED = {"/health", "/livez", "/readyz", "/metrics", "/glurpc/health"}
LARGE = {
    "/convert_to_unified": upload_body_bytes,
    "/process_unified": upload_body_bytes,
    "/quick_plot": upload_body_bytes,
    "/glurpc/convert_to_unified": upload_body_bytes,
    "/glurpc/process_unified": upload_body_bytes,
    "/glurpc/quick_plot": upload_body_bytes,
    "/subjects/{subject_id}/readings": READINGS_BODY_BYTES,
    "/subjects/{subject_id}/fhir/$submit-cgm-bundle": BUNDLE_BODY_BYTES,
    "/subjects/{subject_id}/fhir/Bundle/$submit-cgm-bundle": BUNDLE_BODY_BYTES,
}


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """Keys are on; nothing runs behind the routes, which no refused request reaches."""
    return create_app(settings(tmp_path), tmp_path)


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[Client]:
    async with Client(app) as client:
        yield client


def settings(directory: Path) -> Settings:
    keys = directory / "keys"
    keys.write_text(f"clinic {old_key()[1]}\n")
    return Settings(api_keys_file=keys, max_upload_bytes=3 << 20)


def routes(app: FastAPI) -> Iterator[tuple[str, str, Access | None]]:
    """Method, path and declared access of everything that the application answers."""
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            yield method, route.path or "", declared_access(route.endpoint)


def scope_of(app: FastAPI, method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "app": app, "method": method, "path": path, "headers": []}


def test_every_route_declares_its_access(app: FastAPI) -> None:
    missing = [f"{method} {path}" for method, path, declared in routes(app) if declared is None]
    assert missing == [], "say above each who may use it: @access(...) of query_api.access"


def test_just_these_routes_are_open_and_just_these_are_not_counted(app: FastAPI) -> None:
    declared = [(method, path, found) for method, path, found in routes(app) if found]
    assert {(method, path) for method, path, found in declared if found.audience == "everybody"} == OPEN
    assert {path for _, path, found in declared if not found.counted} == UNCOUNTED


def test_what_has_a_subject_in_its_path_is_for_keys_of_that_subject(app: FastAPI) -> None:
    for method, path, declared in routes(app):
        assert declared is not None
        assert (declared.whose == "path") == ("{subject_id}" in path), (method, path)


def test_bodies_are_small_but_where_files_and_readings_are_sent(app: FastAPI) -> None:
    own = [each for each in routes(app) if not is_nightscout(each[1]) and not (each[0] == "GET" and each[1] in LARGE)]
    declared = {path: found.body_bytes for _, path, found in own if found}
    assert declared == dict.fromkeys(declared, SMALL_BODY_BYTES) | LARGE
    of_the_site = {
        path: found.body_bytes
        for method, path, found in routes(app)
        if found and is_nightscout(path) and method in ("POST", "PUT")
    }
    for path, most in of_the_site.items():
        assert most == (ENTRIES_BODY_BYTES if path.startswith("/api/v1/entries") else DOCUMENT_BODY_BYTES), path
    assert upload_body_bytes(Settings(max_upload_bytes=3 << 20)) == (4 << 20) + (64 << 10)


def test_the_access_of_a_request_is_that_of_the_route_that_answers_it(app: FastAPI) -> None:
    for method, path, declared in routes(app):
        plain = path.replace("{subject_id}", "anna").replace("{name:path}", "page.js")
        assert access_for(scope_of(app, method, plain)) == declared, path
    for method in ("PUT", "GET", "OPTIONS"):  # 405, told to whom the path is for
        assert access_for(scope_of(app, method, "/convert_to_unified")).audience == "everybody"
        assert access_for(scope_of(app, method, "/draw_a_plot")).audience == "key"
    for path in ("/nothing", "/health/", "/metrics/x", "/static", "/docs/oauth2-redirect", "//", "/Health"):
        assert access_for(scope_of(app, "GET", path)) is UNKNOWN, path


async def test_the_route_of_the_access_is_the_route_that_is_taken() -> None:
    """Did the gate and the router choose two routes for one request, the access of the one would open the other."""
    outer, inner = APIRouter(prefix="/things"), APIRouter()

    def answering(number: int) -> Any:
        async def endpoint() -> int:
            return number

        return access("key", body_bytes=number)(endpoint)

    inner.add_api_route("/own", answering(1), methods=["PUT"])
    inner.add_api_route("/late", answering(2), methods=["POST"])
    outer.add_api_route("/{name}", answering(3), methods=["GET"])
    outer.include_router(inner)
    outer.add_api_route("/own", answering(4), methods=["GET", "PUT", "DELETE"])
    app = FastAPI()
    app.include_router(outer)
    app.include_router(inner)
    app.add_api_route("/things/late", answering(5), methods=["POST", "DELETE"])
    async with Client(app) as client:
        for path, method in itertools.product(
            ("/things/own", "/things/late", "/late"), ("GET", "PUT", "POST", "DELETE")
        ):
            answer = await client.request(method, path)
            if answer.status_code != 405:
                assert access_for(scope_of(app, method, path)).body_bytes == answer.json(), (method, path)


async def test_a_route_that_declares_nothing_is_closed(app: FastAPI, stranger: Client) -> None:
    async def careless(request: Request) -> int:
        return len(await request.body())

    app.add_api_route("/careless", careless, methods=["POST"])
    app.router.routes.append(Mount("/mounted", routes=[Route("/inside", careless)]))
    assert access_for(scope_of(app, "POST", "/careless")) is CLOSED
    for path in ("/careless", "/mounted/inside"):
        assert (await stranger.post(path)).status_code == 401
    unlocked = create_app(Settings())
    unlocked.add_api_route("/careless", careless, methods=["POST"])
    async with Client(unlocked) as anybody:
        assert (await anybody.post("/careless", content=bytes(SMALL_BODY_BYTES))).json() == SMALL_BODY_BYTES
        refused = await anybody.post("/careless", content=bytes(SMALL_BODY_BYTES + 1))
        assert (refused.status_code, "64 KiB" in refused.json()["detail"]) == (413, True)


async def test_a_web_socket_is_closed(app: FastAPI) -> None:
    async def careless(socket: WebSocket) -> None:
        await socket.accept()

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    sent: list[str] = []
    app.add_api_websocket_route("/socket", careless)
    await app({"type": "websocket", "path": "/socket", "headers": [], "query_string": b""}, receive, send)
    assert sent == ["websocket.close"]


@pytest.mark.parametrize("path", ["/process_unified", "/draw_a_plot", "/subjects/anna/readings", "/nothing"])
async def test_a_key_is_asked_for_before_anything_of_the_body_is_read(stranger: Client, path: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1 << 20)

    for headers, status in (({}, 401), ({"x-api-key": "guess"}, 403), ({"content-length": str(1 << 40)}, 401)):
        assert (await stranger.post(path, content=endless(), headers=headers)).status_code == status
    assert sent == 0


@pytest.mark.parametrize("path", sorted({*LARGE, "/draw_a_plot", "/cache_management"}))
async def test_a_body_may_be_as_large_as_its_route_declares(path: str, tmp_path: Path) -> None:
    limited = settings(tmp_path).model_copy(update={"api_keys_file": None})
    limit = LARGE.get(path, SMALL_BODY_BYTES)
    most = limit if isinstance(limit, int) else limit(limited)
    async with Client(create_app(limited, tmp_path)) as client:
        refused = await client.post(path.format(subject_id="anna"), content=bytes(most + 1))
        assert (refused.status_code, "larger than" in refused.text) == (413, True)
        if is_fhir(path):
            assert [issue["code"] for issue in refused.json()["issue"]] == ["too-long"]
        else:
            assert is_glurpc(path) or refused.json()["code"] == "too_large"
        # One byte less passes the gate; behind it nothing runs here, so that only the answer differs.
        taken = await client.post(path.format(subject_id="anna"), content=bytes(most))
        assert taken.status_code != 413


async def test_an_unknown_path_is_told_apart_only_by_who_may_ask(stranger: Client, tmp_path: Path) -> None:
    assert (await stranger.get("/nothing")).status_code == 401
    async with Client(create_app(Settings(), tmp_path)) as anybody:
        assert (await anybody.post("/nothing", content=bytes(1 << 20))).status_code == 404


def test_a_declaration_may_stand_above_the_route_or_below_it() -> None:
    router = APIRouter()

    @router.get("/above")
    @access("everybody", counted=False)
    async def above() -> None: ...

    @access("everybody", counted=False)
    @router.get("/below")
    async def below() -> None: ...

    assert declared_access(above) == declared_access(below) == Access("everybody", counted=False)


async def test_openapi_tells_what_the_gate_answers(app: FastAPI, stranger: Client) -> None:
    document = (await stranger.get("/openapi.json")).json()
    declared = {(method.lower(), path): found for method, path, found in routes(app)}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            access = declared[method, path]
            assert access is not None
            expected = {"400", "403", "413"} | ({"401"} if access.audience == "key" else set())
            expected |= {"429"} if access.counted else set()
            assert expected == operation["responses"].keys() & {"400", "401", "403", "413", "429"}, path
            expected |= operation["responses"].keys() & {"404", "406", "422"} | {"500"}
            for status in expected:
                (media_type,) = operation["responses"][status]["content"]
                of_others = is_nightscout(path) or is_glurpc(path)
                ours = "application/fhir+json" if is_fhir(path) else "application/problem+json"
                assert media_type == ("application/json" if of_others else ours)
            if access.audience == "key":
                assert operation["x-glucast-scope"] == (access.scope or "any")
                assert ({} in operation["security"]) == (not is_nightscout(path)), "keys may be off, but not there"
    problem = (await stranger.get("/subjects")).json()
    assert problem.keys() == set(document["components"]["schemas"]["Problem"]["properties"])
