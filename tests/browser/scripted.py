"""The page with an API that answers what a test says, and when: what arrives late or in another order, or is refused.

What it answers has the shapes of the API's own models, which build it, so that it cannot tell the page what that never
would.
"""

import asyncio
import contextlib
import datetime
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from statistics import NormalDist
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from deploy.brokers.wire import HeldPort
from query_api.figure import figure
from query_api.routers import page
from query_api.routers.overview import Glance, NewestReading, Outlook, Overview
from query_api.style import Style
from query_api.told_alerts import AlertsAnswer
from query_api.units import document
from schemas.alert import AlertSettings
from schemas.fan_chart import OUTER_LEVELS, FanChart
from tests.kit.charts import fan_chart
from tests.kit.waiting import until_async

Answer = Response | BaseModel | dict[str, Any]
Says = Callable[[str, bytes], Awaitable[Answer] | Answer]
"""Of whom is asked, and with which body."""
STEP = datetime.timedelta(minutes=5)


class ScriptedApi:
    """Who is there, and what is said of them; a later answer to the same question takes the place of one before."""

    def __init__(self, *subjects: Glance) -> None:
        self.asked: list[str] = []
        self._answers: list[tuple[re.Pattern[str], Says]] = []
        self._streams: list[asyncio.Queue[bytes | None]] = []
        self.before: dict[str, Callable[[], Awaitable[Response | None]]] = {}
        """By path what comes before anything is answered, also one of the page's own files; or instead of it."""
        self.people(*subjects)
        self.follows()
        self.says("GET /subjects/_/alerts", lambda subject, _: alerts(subject))
        self.says("GET /subjects/_/alerts/settings", lambda *_: AlertSettings())

    def says(self, question: str, says: Says) -> None:
        """`question`: method and path, where ``_`` is the subject and ``*`` anything."""
        pattern = re.escape(question).replace("/_", "/([^/]+)").replace(r"\*", ".*")
        self._answers.insert(0, (re.compile(pattern), says))

    def people(self, *subjects: Glance) -> None:
        self.says("GET /overview", lambda *_: Overview(subjects=list(subjects), more=0))

    def follows(self) -> None:
        """Whoever wants to follow events may."""
        self.says("GET /events", lambda *_: self._stream())

    def tell(self, kind: str, data: BaseModel | dict[str, Any]) -> None:
        """An event, to everybody who follows."""
        body = data.model_dump_json() if isinstance(data, BaseModel) else json.dumps(data)
        for stream in self._streams:
            stream.put_nowait(f"event: {kind}\ndata: {body}\nid: {len(self.asked)}\n\n".encode())

    def cut(self) -> None:
        """All streams of events end."""
        while self._streams:
            self._streams.pop().put_nowait(None)

    def count(self, question: str) -> int:
        """How often it was asked."""
        return self.asked.count(question)

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        for pattern, says in self._answers:
            if (found := pattern.fullmatch(self.asked[-1])) is not None:
                said = says(found.group(1) if pattern.groups else "", await request.body())
                return _response(await said if isinstance(said, Awaitable) else said)
        nothing = {"code": "no_forecast", "detail": "no forecast yet: nothing is known", "expected_time": None}
        return _response(nothing)  # with 200, as where a reason is asked for: a browser complains of every 404

    def _stream(self) -> Response:
        told: asyncio.Queue[bytes | None] = asyncio.Queue()
        told.put_nowait(f"id: {len(self.asked)}\nretry: 20\n\n".encode())
        self._streams.append(told)

        async def events() -> AsyncIterator[bytes]:
            while (event := await told.get()) is not None:
                yield event

        return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def refused(status: int, code: str, detail: str) -> Response:
    return JSONResponse({"detail": detail, "code": code}, status, {"cache-control": "no-store"})


def _response(said: Answer) -> Response:
    if isinstance(said, Response):
        return said
    content = said.model_dump(mode="json") if isinstance(said, BaseModel) else said
    return JSONResponse(content, headers={"cache-control": "no-store"})


@contextlib.asynccontextmanager
async def serving(api: ScriptedApi) -> AsyncIterator[str]:
    """The page's own files, and that API behind them: its address."""
    app, port = FastAPI(openapi_url=None), HeldPort()
    app.include_router(page.router)
    app.add_route("/{path:path}", api.answer, methods=["GET", "PUT", "POST"])

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        before = api.before.get(scope["path"])
        instead = None if before is None else await before()
        await (instead or app)(scope, receive, send)

    server = uvicorn.Server(
        uvicorn.Config(answering, port=port.number, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve())
    await until_async(lambda: server.started, "the server listens")
    try:
        yield f"http://127.0.0.1:{port.number}/"
    finally:
        api.cut()
        server.should_exit = True
        await task


def now() -> datetime.datetime:
    """The newest five minutes that are over."""
    seconds = time.time()
    return datetime.datetime.fromtimestamp(seconds - seconds % 300, datetime.UTC)


def reading(glucose: float, at: datetime.datetime | None = None, **more: Any) -> NewestReading:
    fields = {"direction": "Flat", "simulated": False, "device": None, "before": [], "without_forecast": False}
    return NewestReading.model_validate({"time": at or now(), "glucose_mgdl": glucose} | fields | more)


def glance(
    subject: str, of: NewestReading | None = None, holding: Sequence[str] = (), outlook: Outlook | None = None
) -> Glance:
    fields = {"reading": of, "forecast": outlook, "withheld_times": [], "holding": list(holding), "holding_until": {}}
    return Glance.model_validate({"subject_id": subject} | fields)


def alerts(subject: str, **more: Any) -> AlertsAnswer:
    fields: dict[str, Any] = {
        "holding": [], "holding_until": {}, "snoozed_until": {}, "recent": [], "last_judged": None,
    }  # fmt: skip
    return AlertsAnswer.model_validate({"subject_id": subject} | fields | more)


def chart(subject: str, glucose: float, at: datetime.datetime | None = None, **more: Any) -> FanChart:
    """A level forecast of that glucose."""
    issued = at or now()
    normals = [NormalDist(glucose, 2 + step / 2) for step in range(12)]
    levels = {
        "past_mgdl": [glucose] * 96, "median_mgdl": [glucose] * 12, "mean_mgdl": [glucose] * 12,
        "quantiles_mgdl": [[normal.inv_cdf(level) for normal in normals] for level in OUTER_LEVELS],
    }  # fmt: skip
    return fan_chart(
        subject_id=subject, issue_time=issued, computed_at=issued, first_target_time=issued + STEP, **levels | more
    )


def present(of: FanChart, tag: str = '"1"') -> Response:
    """As GET …/forecast answers."""
    fields = {
        "age_seconds": 0, "newest_reading_time": of.issue_time.isoformat(),
        "valid_until": (of.issue_time + 3 * STEP).isoformat(),
    }  # fmt: skip
    headers = {"etag": tag, "cache-control": "no-store"}
    return JSONResponse(document(of, "mg/dL", curves=False) | fields, headers=headers)


def drawn(of: FanChart, style: Style | None = None) -> dict[str, Any]:
    """As its plot is answered."""
    return figure(of, style)


def history(api: ScriptedApi, subject: str, glucose: float) -> None:
    """One forecast of it is kept, and readings about a quarter of an hour apart."""
    kept = chart(subject, glucose, now() - 12 * STEP)
    past = f"GET /subjects/{subject}/forecasts"
    fields: dict[str, Any] = document(kept, "mg/dL", curves=False)
    api.says(past, lambda *_: {"forecasts": [fields]})
    api.says(f"{past}/*", lambda *_: {"earlier": None, "later": None, "forecast": fields})
    api.says(f"{past}/*/plot", lambda *_: drawn(kept))
    times = [kept.issue_time - 3 * each * STEP + each % 2 * datetime.timedelta(seconds=3) for each in range(8, 0, -1)]
    readings = [{"time": time.isoformat(), "glucose": glucose} for time in times]
    api.says(f"GET /subjects/{subject}/readings", lambda *_: {"readings": readings})
