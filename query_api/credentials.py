"""How a key comes with a request: in `X-API-Key`, and on the Nightscout site in every form that its clients use.

    api-secret: <SHA-1 of the key in hexadecimal>     xDrip+, Loop, Trio, xDrip4iOS, share2nightscout-bridge, …
    api-secret: <the key>, or token=<the key>         xDrip4iOS' test, Home Assistant
    ?token=<the key>                                  LoopFollow, GlucoDataHandler, nightguard
    Authorization: Bearer <JSON web token>            AAPS, and others by the third API

A web token carries the key that it was made for, as Nightscout's do: signed with that key, it is good for some hours
and only as long as the key is, on every replica and after a restart. Whoever can read the file of keys can make none.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import jwt
from starlette.datastructures import Headers

TOKEN_SECONDS = 8 * 3600
TOKEN_REQUEST = "/api/v2/authorization/request/"  # noqa: S105 - a path
_ALGORITHM, _KEY = "HS256", "accessToken"
LONGEST = 512
CLOCKS_DIFFER_SECONDS = 60
"""Of the machines of two replicas: one signs, the other looks at the times."""


def api_key(headers: Headers) -> tuple[str, ...]:
    """What `X-API-Key` holds."""
    key = headers.get("x-api-key")
    return (key,) if key else ()


def nightscout(path: str, headers: Headers, query: bytes) -> tuple[str, ...]:
    """Every text that may be a key or its SHA-1, at most four; absent where a client sends the word null."""
    found = (text for text in _texts(path, headers, query) if text and text != "null" and len(text) <= LONGEST)
    return tuple(dict.fromkeys(found))


def _texts(path: str, headers: Headers, query: bytes) -> Iterator[str]:
    if path.startswith(TOKEN_REQUEST):  # it alone: it is what is asked about
        yield path.removeprefix(TOKEN_REQUEST)
        return
    yield headers.get("api-secret", "").removeprefix("token=").strip()
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield _key_in(token.strip())
    yield dict(parse_qsl(query.decode("latin-1"))).get("token", "")


def web_token(key: str, name: str, permissions: list[list[str]]) -> dict[str, Any]:
    """What Nightscout answers who shows a key: a token for the header Authorization, and until when it is good."""
    now = int(time.time())
    claims = {_KEY: key, "iat": now, "exp": now + TOKEN_SECONDS}
    token = jwt.encode(claims, _signing(key), algorithm=_ALGORITHM)
    return {
        "token": token, "sub": name, "permissionGroups": permissions, "iat": claims["iat"], "exp": claims["exp"]
    }  # fmt: skip


def _key_in(token: str) -> str:
    """The key of a web token that is signed with it and has not expired; else nothing."""
    try:
        claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
        key = claims.get(_KEY)
        if not isinstance(key, str):
            return ""
        jwt.decode(
            token,
            _signing(key),
            algorithms=[_ALGORITHM],
            options={"require": ["iat", "exp"]},
            leeway=CLOCKS_DIFFER_SECONDS,
        )
    except (jwt.PyJWTError, ValueError):
        return ""
    return key


def _signing(key: str) -> bytes:
    return hashlib.sha256(b"glucast web token " + key.encode(errors="surrogateescape")).digest()
