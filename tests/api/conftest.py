"""An embedded broker with topics a test, the pipeline, and clients of the application in this process."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from deploy.brokers.embedded import EmbeddedBroker
from query_api import image
from query_api.app import create_app
from query_api.services import Services
from streams.kafka.provision import provision
from streams.settings import Settings
from tests.api.small_pipeline import SmallPipeline, working
from tests.samples import dexcom, glucose_rows

SECONDS = 20.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
async def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    settings = Settings(
        broker=broker.address, state_dir=tmp_path / "state", partitions=2, answer_timeout_seconds=SECONDS
    )
    await provision(settings)
    return settings


@pytest.fixture
async def pipeline(settings: Settings) -> AsyncIterator[SmallPipeline]:
    async with working(settings) as pipeline:
        yield pipeline


class FakeBrowser:
    """Samples a picture that is the hash of its figure."""

    drawn = 0

    async def calc_fig(self, figure: dict[str, Any], opts: dict[str, Any]) -> bytes:
        type(self).drawn += 1
        await asyncio.sleep(0)
        magic = b"\x89PNG\r\n\x1a\n" if opts["format"] == "png" else b"<svg>"
        return magic + hashlib.sha256(orjson.dumps(figure)).digest()

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(autouse=True)
def browser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[FakeBrowser]:
    """No Chromium, unless the test is about it."""

    async def open_fake() -> FakeBrowser:
        return FakeBrowser()

    FakeBrowser.drawn = 0
    if "browser" not in request.keywords:
        monkeypatch.setattr(image, "_open", open_fake)
    return FakeBrowser


class Client(httpx.AsyncClient):
    """A client of one application in this process."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        super().__init__(transport=transport, base_url="http://127.0.0.1", timeout=60, **options)
        self.app = app

    @property
    def services(self) -> Services:
        found: Services = self.app.state.services
        return found


@contextlib.asynccontextmanager
async def serving(settings: Settings, directory: Path, **options: Any) -> AsyncIterator[Client]:
    """The application with its table in `directory`, ready."""
    app = create_app(settings, directory)
    async with app.router.lifespan_context(app), Client(app, **options) as client:
        await until(lambda: client.services.follower.caught_up and client.services.publisher.connected)
        yield client


@pytest.fixture
async def client(settings: Settings, tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(settings, tmp_path / "query") as client:
        yield client


async def until(condition: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Wait until a condition holds; the test fails at the deadline."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, not an event
            await asyncio.sleep(0.01)


async def until_async(condition: Callable[[], Awaitable[Any]], seconds: float = SECONDS) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return found


def body_of(raw: bytes, **more: Any) -> dict[str, Any]:
    return {"csv_base64": base64.b64encode(raw).decode(), **more}


@pytest.fixture
def export() -> bytes:
    """Ten hours of a Dexcom: 121 points, 14 samples."""
    return dexcom(glucose_rows(121))
