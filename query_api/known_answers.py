"""A request whose like has been answered before is answered from what is stored, without taking it apart again.

A route that has answered remembers with the request what its answer is drawn from (`Known`). The next request with the
same bytes asks that before anything of it is decoded. It looks at the table anew each time: what was deleted, replaced
or has grown old since is not answered here but by the route. So is whatever is not in the cache of drawings.

It stands behind the gate: who may ask, how often and how much is decided there, before. What a caller may not see must
be refused there too, not in a route that remembers.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cachetools import LRUCache
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from query_api.conditional import known_tags
from query_api.key_file import Key
from query_api.services import Services

MOST_REQUESTS = 4096
"""Requests that are remembered, of a few hundred bytes each, however long they are: those that nobody asks again go
first."""

_KEY = "glucast_known"
_TELLING = frozenset({b"accept", b"content-type"})
"""Headers that an answer depends on. `If-None-Match` is looked at when there is an answer."""


class Known(Protocol):
    """What the answer to a request is drawn from."""

    def answer(self, uses: Services, tags: str | None) -> Response | None:
        """The answer of now, made without waiting for anybody; None where the route has to find out."""


class _Remembered(NamedTuple):
    known: Known
    route: object


@dataclass(frozen=True, slots=True)
class _Key:
    """All of a request that its answer depends on, and who makes it, as their key is now."""

    caller: str
    with_key: Key | None
    asked: bytes
    """The digest of the rest."""


class KnownAnswers:
    """The ASGI application around the routes, inside the gate."""

    def __init__(self, app: ASGIApp, posts: Collection[str]) -> None:
        """`posts`: paths whose POST requests are told apart by their bodies."""
        self._app = app
        self._posts = frozenset(posts)
        self._remembered: LRUCache[_Key, _Remembered] = LRUCache(MOST_REQUESTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        digest = b""
        if scope["method"] == "POST":
            if scope["path"] not in self._posts:
                await self._app(scope, receive, send)
                return
            digest, receive = await _read(receive)
        key = _key(scope, digest)
        found = self._remembered.get(key)
        if found is not None and (answer := self._answer(found, scope)) is not None:
            scope["route"] = found.route  # the gate counts by it
            await answer(scope, receive, send)
            return
        scope[_KEY] = self._remembered, key
        await self._app(scope, receive, send)

    @staticmethod
    def _answer(found: _Remembered, scope: Scope) -> Response | None:
        return found.known.answer(scope["app"].state.services, known_tags(Headers(scope=scope)))


def remember(request: Request, known: Known) -> None:
    """What the answer to this request is drawn from, for the next one like it. Call it when it was answered."""
    route = request.scope.get("route")
    if (place := request.scope.get(_KEY)) is not None and isinstance(route, APIRoute):
        remembered, key = place
        remembered[key] = _Remembered(known, route)


def _key(scope: Scope, body: bytes) -> _Key:
    """`body`: its digest."""
    asked = hashlib.sha256()
    headers = (text for item in scope["headers"] if item[0] in _TELLING for text in item)
    for part in (scope["method"].encode(), scope["path"].encode(), scope["query_string"], body, *headers):
        asked.update(len(part).to_bytes(8, "big") + part)
    return _Key(scope["caller"], scope.get("key"), asked.digest())


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """The digest of the whole body, and what lets the application read it all the same."""
    digest = hashlib.sha256()
    came: list[Message | HTTPException] = []
    more = True
    while more:
        try:
            message = await receive()
        except HTTPException as error:  # it is too large, and the application says so
            came.append(error)
            break
        came.append(message)
        digest.update(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
    came.reverse()

    async def again() -> Message:
        if not came:
            return await receive()
        item = came.pop()
        if isinstance(item, HTTPException):
            raise item
        return item

    return digest.digest(), again
