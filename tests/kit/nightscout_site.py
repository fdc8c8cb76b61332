"""A Nightscout site on loopback, as far as somebody needs it who pushes into it: its device statuses, as documented.

What is kept is what cgm-remote-monitor keeps (lib/api/devicestatus, lib/server/devicestatus.js): each document as it
came, one of an `_id`; a second one of it is an error of the database. The newest by `created_at` are read.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tests.kit.listening import listening

SECRET = "a secret of a site"


@dataclasses.dataclass(slots=True)
class Site:
    """`statuses`: how the next requests are answered instead; `loses_answers`: what is posted is kept, unanswered."""

    url: str = ""
    documents: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    statuses: list[int] = dataclasses.field(default_factory=list)
    loses_answers: bool = False
    refused: int = 0
    asked: int = 0

    @property
    def ours(self) -> list[dict[str, Any]]:
        return [each for each in self.documents if each["device"] == "glucast"]

    def newest(self, count: int) -> list[dict[str, Any]]:
        return sorted(self.documents, key=lambda each: str(each["created_at"]), reverse=True)[:count]

    async def answer(self, request: web.Request) -> web.Response:
        wanted = hashlib.sha1(SECRET.encode(), usedforsecurity=False).hexdigest()
        if request.headers.get("api-secret") != wanted:
            self.refused += 1
            return web.json_response({"status": 401, "message": "Unauthorized"}, status=401)
        if self.statuses:
            return web.json_response({"status": "no"}, status=self.statuses.pop(0))
        if request.method == "GET":
            self.asked += 1
            return web.json_response(self.newest(int(request.query.get("count", "10"))))
        came = await request.json()
        for document in came:
            if any(each["_id"] == document["_id"] for each in self.documents):
                return web.json_response({"status": 500, "message": "Mongo Error"}, status=500)
            self.documents.append(document)
        if self.loses_answers:
            await asyncio.Event().wait()
        return web.json_response(came)


@contextlib.asynccontextmanager
async def nightscout_site() -> AsyncIterator[Site]:
    """A site that listens while the block runs."""
    site = Site()
    application = web.Application()
    application.router.add_route("*", "/api/v1/devicestatus.json", site.answer)
    async with listening(application) as site.url:
        yield site
