"""Web tokens: signed with the key that they carry, good for some hours, and nothing else."""

import jwt
import pytest
from starlette.datastructures import Headers

from query_api import credentials
from query_api.key_file import sha256

KEY = "anna-0123456789abcdef"


def offered(token: str) -> tuple[str, ...]:
    return credentials.nightscout("/api/v1/entries", Headers({"authorization": f"Bearer {token}"}), b"")


def signed(claims: dict[str, object], algorithm: str = "HS256", key: bytes | None = None) -> str:
    return jwt.encode(claims, credentials._signing(KEY) if key is None else key, algorithm=algorithm)


def test_a_web_token_brings_its_key_for_eight_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    given = credentials.web_token(KEY, "phone", [["*:*:read"]])
    assert offered(given["token"]) == (KEY,)
    assert (type(given["iat"]), type(given["exp"]), given["exp"] - given["iat"]) == (int, int, 8 * 3600)
    monkeypatch.setattr(credentials, "TOKEN_SECONDS", -61)
    assert offered(credentials.web_token(KEY, "phone", [])["token"]) == ()


def test_what_another_key_signed_or_nobody_brings_none() -> None:
    good = jwt.decode(credentials.web_token(KEY, "phone", [])["token"], options={"verify_signature": False})
    assert offered(signed(good)) == (KEY,)
    for bad in (
        signed(good, key=b"another key of at least 32 bytes!!"),
        signed(good, key=bytes.fromhex(sha256(KEY))),
        signed({**good, "accessToken": "eve-0123456789abcdef"}),
        signed({name: value for name, value in good.items() if name != "exp"}),
        signed({**good, "accessToken": 7}),
        jwt.encode(good, "", algorithm="none"),
        signed(good, "HS512", key=2 * credentials._signing(KEY)),
        signed(good)[:-2],
        "a.b.c",
        "",
    ):
        assert offered(bad) == (), bad


def test_texts_that_are_too_long_or_the_word_null_are_no_keys() -> None:
    for text in ("null", "", "token=", "x" * 513):
        assert credentials.nightscout("/pebble", Headers({"api-secret": text}), b"token=null") == ()
    many = b"&".join(b"a%d=1" % number for number in range(5000))
    assert credentials.nightscout("/pebble", Headers({}), many + b"&token=x") == ("x",)
