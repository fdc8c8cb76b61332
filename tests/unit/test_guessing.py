"""A secret that is guessed ten thousand times, by one address or by hundreds, in every form, is not found."""

from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from query_api.access import Access
from query_api.auth import Keys
from query_api.callers import Callers
from query_api.key_file import sha1
from streams.settings import Settings
from tests.kit.keys import person_in

GUESSES = 10_000
PERSON = Access(scope="read", whose="person")


@pytest.fixture
def token(tmp_path: Path) -> str:
    return person_in(tmp_path / "keys", "anna")


@pytest.fixture
def callers(tmp_path: Path, token: str) -> Callers:
    return Callers(Settings(api_keys_file=tmp_path / "keys"))


def asked(
    callers: Callers, headers: dict[str, str], address: str, query: str = ""
) -> tuple[int | None, dict[str, Any]]:
    """The status that a request for a person's readings is refused with, and the request's scope after it."""
    scope: dict[str, Any] = {
        "type": "http", "path": "/api/v1/entries", "query_string": query.encode(), "client": (address, 1),
        "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    refusal = callers.refusal(scope, Headers({"host": "localhost", **headers}), PERSON, {})
    return (None if refusal is None else refusal.status), scope


def guess(number: int, token: str) -> tuple[dict[str, str], str]:
    """As near to the token as a guess can be, in the forms of the clients."""
    near = f"{token[:-6]}{number:06x}" if not token.endswith(f"{number:06x}") else "x" * 12
    return (({"api-secret": sha1(near)}, ""), ({"api-secret": near}, ""), ({}, f"token={near}"))[number % 3]


def test_one_address_is_not_heard_after_twenty(callers: Callers, token: str) -> None:
    statuses, known = [], 0
    for number in range(GUESSES):
        headers, query = guess(number, token)
        status, scope = asked(callers, headers, "192.0.2.1", query)
        statuses.append(status)
        known += scope["key"] is not None
    assert statuses[:20] == [401] * 20
    assert set(statuses[20:]) == {429}
    assert known == 0
    status, scope = asked(callers, {"api-secret": sha1(token)}, "192.0.2.1")
    assert (status, scope["key"]) == (429, None), "not even the right one"


def test_one_phone_with_an_old_key_keeps_nobody_out_who_shares_its_address(callers: Callers, token: str) -> None:
    """As behind a proxy, or in one household."""
    for _ in range(500):
        for old in ("an-old-key-0123456789", sha1("another old key")):
            assert asked(callers, {"api-secret": old}, "192.0.2.1")[0] == 401
    assert asked(callers, {"api-secret": sha1(token)}, "192.0.2.1")[0] is None
    for number in range(GUESSES // 100):
        status, _ = asked(callers, {"api-secret": sha1(str(number))}, "192.0.2.1")
        assert status == (401 if number < 18 else 429), number
    assert asked(callers, {"api-secret": sha1(token)}, "192.0.2.1")[0] == 429


def test_a_wrong_key_that_is_known_of_one_address_is_counted_for_another(callers: Callers) -> None:
    for address in range(30):
        for number in range(25):
            status, _ = asked(callers, {"api-secret": sha1(str(number))}, f"192.0.2.{address}")
            assert status == (401 if number < 20 else 429)


def test_many_addresses_find_nothing_and_keep_nobody_else_out(callers: Callers, token: str) -> None:
    for number in range(GUESSES):
        headers, query = guess(number, token)
        status, scope = asked(callers, headers, f"198.51.{number % 600 // 250}.{number % 250}", query)
        assert status in (401, 429)
        assert scope["key"] is None
    status, scope = asked(callers, {"api-secret": sha1(token)}, "203.0.113.9")
    assert (status, scope["caller"]) == (None, scope["key"].name)


def test_no_guess_is_taken_where_nothing_limits_them(tmp_path: Path, token: str) -> None:
    keys = Keys(tmp_path / "keys")
    near = (f"{token[:-6]}{number:06x}" for number in range(GUESSES) if not token.endswith(f"{number:06x}"))
    assert not any(keys.find((text, sha1(text))) for text in near)
    found = keys.find((token,))
    assert found is not None
    assert found.subject == "anna"
