"""The query API in this process: the application over its own table, a client of it, and a browser that is none."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from deploy.brokers.wire import LOOPBACK, HeldPort
from query_api import image
from query_api.app import Server, create_app, server_config
from query_api.problem_types import PROBLEMS, address
from query_api.problems import MEDIA_TYPE
from query_api.projections.fan_charts import ChartRow
from query_api.request_metrics import RequestMetrics
from query_api.services import Services, running
from streams.settings import Settings
from tests.kit.waiting import until_async


class FakeTab:
    """Prints a document that is the hash of its HTML."""

    target_id = "tab"

    def __init__(self) -> None:
        self._html = ""

    async def send_command(self, command: str, params: dict[str, Any]) -> dict[str, Any]:
        if command == "Page.getFrameTree":
            return {"result": {"frameTree": {"frame": {"id": "frame"}}}}
        if command == "Page.setDocumentContent":
            self._html = params["html"]
            return {"result": {}}
        if command == "Page.printToPDF":
            document = b"%PDF-1.4\n" + hashlib.sha256(self._html.encode()).digest()
            return {"result": {"data": base64.b64encode(document).decode()}}
        return {"error": {"message": command}}


class FakeBrowser:
    """Samples a picture that is the hash of its figure."""

    drawn = 0

    async def calc_fig(self, figure: dict[str, Any], opts: dict[str, Any]) -> bytes:
        type(self).drawn += 1
        await asyncio.sleep(0)
        magic = b"\x89PNG\r\n\x1a\n" if opts["format"] == "png" else b"<svg>"
        return magic + hashlib.sha256(orjson.dumps(figure)).digest()

    async def create_tab(self, _: str) -> FakeTab:
        return FakeTab()

    async def close_tab(self, _: str) -> None:
        """Nothing to close."""

    async def close(self) -> None:
        """Nothing to close."""


@contextlib.contextmanager
def without_chromium() -> Iterator[type[FakeBrowser]]:
    """Pictures are drawn by the fake browser meanwhile, counted from 0."""

    async def open_fake() -> FakeBrowser:
        return FakeBrowser()

    FakeBrowser.drawn = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image, "_open", open_fake)
        yield FakeBrowser


class Client(httpx.AsyncClient):
    """A client of one application in this process."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        hooks = {"response": [_is_a_known_problem]}
        super().__init__(transport=transport, base_url="http://127.0.0.1", timeout=60, event_hooks=hooks, **options)
        self.app = app

    @property
    def services(self) -> Services:
        found: Services = self.app.state.services
        return found


async def _is_a_known_problem(response: httpx.Response) -> None:
    """Every problem that any test meets has a type that leads somewhere (`query_api.problem_types`)."""
    if response.headers.get("content-type") == MEDIA_TYPE:
        document = orjson.loads(await response.aread())
        known = PROBLEMS.get(document["code"])
        assert known is not None, f"{document['code']} is not described in query_api/problem_types.py"
        told = known.status, known.title, address(document["code"])
        assert told == (response.status_code, document["title"], document["type"])


@contextlib.asynccontextmanager
async def serving(settings: Settings, directory: Path, **options: Any) -> AsyncIterator[Client]:
    """The application with its table in `directory`, ready."""
    app = create_app(settings, directory)
    async with app.router.lifespan_context(app), Client(app, **options) as client:
        services = client.services
        await until_async(lambda: services.follower.caught_up and services.publisher.connected, "the API is ready")
        yield client


def samples_of(client: Client, handle: str) -> dict[int, ChartRow]:
    """The forecasts of an uploaded handle that its read model holds."""
    model = client.services.read_model
    stored = model.uploads.handle(handle)
    return {} if stored is None else model.samples(stored)


def body_of(raw: bytes, **more: Any) -> dict[str, Any]:
    """The JSON body of an upload."""
    return {"csv_base64": base64.b64encode(raw).decode(), **more}


@contextlib.asynccontextmanager
async def listening(settings: Settings, directory: Path, port: int | None = None) -> AsyncIterator[str]:
    """The address of an API on a port of its own, or this one, which has read what Kafka holds."""
    app = create_app(settings, directory / "query")
    config = server_config(app, settings)
    held = HeldPort()
    config.host, config.port = LOOPBACK, port or held.number
    server = Server(config)
    task = asyncio.create_task(server.serve())
    try:
        await until_async(lambda: server.started, "the server listens")
        services = app.state.services
        await until_async(lambda: services.follower.caught_up and services.publisher.connected, "it is ready")
        yield f"http://{LOOPBACK}:{config.port}"
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def standing(settings: Settings, directory: Path, **options: Any) -> AsyncIterator[Client]:
    """The application over a table that only the test writes to (`Client.services.read_model`): no Kafka answers."""
    nowhere = HeldPort()
    settings = settings.model_copy(update={"broker": f"{LOOPBACK}:{nowhere.number}"})
    app = create_app(settings, directory)
    async with running(settings, directory, RequestMetrics()) as services, Client(app, **options) as client:
        services.follower._has_caught_up = True
        app.state.services = services
        yield client
