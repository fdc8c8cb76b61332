"""Every operation of the OpenAPI document is asked by everybody who must not: no list of routes can be too short.

Behind the gate nothing runs: what passes it is answered by 422, or by 500 for want of what would answer.
"""

import dataclasses
import datetime
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from httpx import Response

from query_api.access import declared_access
from query_api.app import create_app
from query_api.key_file import SCOPES, sha1
from query_api.problems import is_glurpc, is_nightscout
from query_api.routers.docs import described
from streams.settings import Settings
from tests.api.test_access import OPEN
from tests.kit.keys import key_in, old_key, person_in
from tests.kit.query import Client

ANY = {
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/status.json"),
    ("GET", "/api/v2/authorization/request/{token}"),
    ("GET", "/api/v3/status"),
}
"""Operations that ask nothing of a key but that it is one: they say what it may do."""
EVERY_HEADER = ("x-api-key", "api-secret", "authorization")
EVERY_NAME = ("token", "secret", "api_key", "api_secret", "api-secret", "apikey", "key", "x-api-key", "X-API-Key",
              "access_token", "authorization")  # fmt: skip
"""Under which somebody may hope that a key is looked for in an address."""


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One of the document, and an address of it."""

    method: str
    path: str
    described: dict[str, Any]

    @property
    def address(self) -> str:
        return self.path.replace("{subject_id}", "anna").replace("{", "").replace("}", "")

    @property
    def scope(self) -> str | None:
        """What a key needs, as the document says; None for what is open."""
        found: str | None = self.described.get("x-glucast-scope")
        return found

    @property
    def whose(self) -> str | None:
        found: str | None = self.described.get("x-glucast-whose")
        return found

    @property
    def of_the_site(self) -> bool:
        return is_nightscout(self.path)


@dataclasses.dataclass(frozen=True, slots=True)
class Attack:
    """The gate, the document, and keys that are all right somewhere."""

    client: Client
    operations: tuple[Operation, ...]

    def guarded(self) -> Iterator[Operation]:
        return (each for each in self.operations if each.scope is not None)

    async def ask(self, operation: Operation, key: str | None = None, **options: Any) -> Response:
        """Asked with a key where it belongs."""
        header = "api-secret" if operation.of_the_site else "x-api-key"
        headers = {} if key is None else {header: key}
        return await self.client.request(operation.method, operation.address, headers=headers, **options)


@pytest.fixture(scope="module")
def described_app(tmp_path_factory: pytest.TempPathFactory) -> tuple[FastAPI, tuple[Operation, ...]]:
    directory = tmp_path_factory.mktemp("attacks")
    path = directory / "keys"
    path.write_text(f"clinic {old_key()[1]}\n")
    for scope in SCOPES:
        key_in(path, f"everybody-{scope}", f"of-everybody-{scope}", scopes=[scope])
        person_in(path, "anna", f"of-anna-to-{scope}", scopes=[scope])
    person_in(path, "eve", "of-eve-for-everything", scopes=SCOPES)
    person_in(path, "anna", "of-anna-for-everything", scopes=SCOPES)
    key_in(path, "everything", "of-everybody-for-everything")
    gone = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    key_in(path, "expired", "of-everybody-expired", expires=gone)
    person_in(path, "anna", "of-anna-but-expired", expires=gone, scopes=SCOPES)
    names = ("rate_limit", "wrong_key_rate_limit", "convert_rate_limit", "nightscout_rate_limit")
    unhurried = dict.fromkeys(names, "9999999/minute")
    app = create_app(Settings(api_keys_file=path, **unhurried), directory)  # type: ignore[arg-type]
    operations = (
        Operation(method.upper(), route, described_operation)
        for route, of_it in described(app)["paths"].items()
        for method, described_operation in of_it.items()
    )
    return app, tuple(operations)


@pytest.fixture
async def attack(described_app: tuple[FastAPI, tuple[Operation, ...]]) -> AsyncIterator[Attack]:
    app, operations = described_app
    async with Client(app) as client:
        yield Attack(client, operations)


def code(answer: Response) -> tuple[int, str | None]:
    """The status, and what the problem is called where it is one of ours."""
    return answer.status_code, answer.json().get("code")


async def test_every_operation_says_what_it_asks_of_a_key(attack: Attack) -> None:
    assert len(attack.operations) > 90
    assert {(it.method, it.path) for it in attack.operations if it.scope is None} <= OPEN
    assert {(it.method, it.path) for it in attack.operations if it.scope == "any"} <= ANY
    for it in attack.operations:
        assert (it.scope is None) == (it.whose is None) == (not it.described.get("security")), it.path
        assert it.scope in (None, "any", *SCOPES)
        assert (it.whose == "path") == ("{subject_id}" in it.path), it.path
        assert (it.whose == "person") == (it.of_the_site and it.scope is not None), it.path


def test_what_is_not_in_the_document_is_open_or_another_name_of_what_is(
    described_app: tuple[FastAPI, tuple[Operation, ...]],
) -> None:
    app, _ = described_app
    in_it = {id(route.endpoint) for route in iter_route_contexts(app.routes) if route.include_in_schema}
    for route in iter_route_contexts(app.routes):
        access = declared_access(route.endpoint)
        assert access is not None
        if access.audience == "key":
            assert id(route.endpoint) in in_it, f"nobody who reads the document learns of {route.path}"
            if access.scope is None:
                assert {(method, route.path) for method in route.methods or ()} <= ANY


async def test_nobody_passes_without_a_key_or_with_one_that_is_none(attack: Attack) -> None:
    for it in attack.guarded():
        wrong = 401 if it.of_the_site else 403
        for key, status in (
            (None, 401), ("", 401), ("a-guess-of-somebody", wrong), (sha1("a guess"), wrong),
            ("of-everybody-expired", wrong), ("of-anna-but-expired", wrong),
        ):  # fmt: skip
            if "{token}" in it.path and key:
                continue  # there the key is in the path
            assert (await attack.ask(it, key)).status_code == status, (it.method, it.path, key)


async def test_no_key_does_what_it_is_not_for(attack: Attack) -> None:
    for it in attack.guarded():
        for scope in SCOPES:
            if it.scope in ("any", scope):
                continue
            for key in (f"of-everybody-{scope}", f"of-anna-to-{scope}"):
                answer = await attack.ask(it, key)
                assert answer.status_code == 403, (it.method, it.path, key)
                if not it.of_the_site and not is_glurpc(it.path) and "/fhir/" not in it.path:
                    assert code(answer) == (403, "wrong_scope"), (it.method, it.path, key)


async def test_no_key_of_somebody_else_is_taken(attack: Attack) -> None:
    """Eve may do everything, with what is hers. Where any key will do each is shown its own: others look there."""
    eve, anna, everybody = "of-eve-for-everything", "of-anna-for-everything", "of-everybody-for-everything"
    refused = {"path": (eve,), "person": (everybody,), "everybody": (eve, anna), "own": ()}
    for it in attack.guarded():
        for key in refused[it.whose or ""]:
            if "{token}" in it.path:
                continue
            assert (await attack.ask(it, key)).status_code == 403, (it.method, it.path, key)


async def test_a_key_is_nowhere_taken_from_where_it_does_not_belong(attack: Attack) -> None:
    """The right one, in the address or in the header of another door."""
    for it in attack.guarded():
        if "{token}" in it.path:
            continue
        key = "of-anna-for-everything" if it.of_the_site else "of-everybody-for-everything"
        names = [name for name in EVERY_NAME if not (it.of_the_site and name == "token")]
        assert (await attack.ask(it, params=dict.fromkeys(names, key))).status_code == 401, (it.method, it.path)
        foreign = {*EVERY_HEADER} - {"api-secret" if it.of_the_site else "x-api-key"}
        for text in (key, f"Bearer {key}", f"token={key}"):
            headers = dict.fromkeys(foreign, text)
            answer = await attack.client.request(it.method, it.address, headers=headers)
            assert answer.status_code == 401, (it.method, it.path, text)
        body = {"token": key, "api_key": key, "x-api-key": key}
        assert (await attack.ask(it, json=body)).status_code == 401, (it.method, it.path)


async def test_the_right_key_passes_everywhere(attack: Attack) -> None:
    """Else what stands above would be shown by a gate that lets nobody in."""
    for it in attack.guarded():
        person = it.of_the_site
        scope = "read" if it.scope == "any" else it.scope
        answer = await attack.ask(it, f"of-anna-to-{scope}" if person else f"of-everybody-{scope}")
        if "{token}" in it.path:
            answer = await attack.client.get(it.path.replace("{token}", f"of-anna-to-{scope}"))
        assert answer.status_code not in (401, 403, 429), (it.method, it.path, answer.text)
        if it.whose in ("path", "own"):
            own = await attack.ask(it, f"of-anna-to-{scope}")
            assert own.status_code not in (401, 403, 429), (it.method, it.path, own.text)
