"""Clients of the application in this process, over a broker with topics and the pipeline."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from query_api import publish, submit
from streams.settings import Settings
from tests.kit.fixtures import broker, pipeline, settings  # noqa: F401 - fixtures
from tests.kit.query import Client, FakeBrowser, serving, without_chromium
from tests.kit.samples import dexcom, glucose_rows


@pytest.fixture(autouse=True)
def browser() -> Iterator[type[FakeBrowser]]:
    """No Chromium."""
    with without_chromium() as browser:
        yield browser


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers share this process with the API: where the machine is busy elsewhere all of them are late."""
    monkeypatch.setattr(publish, "CONFIRM_SECONDS", 60.0)
    monkeypatch.setattr(submit, "COMMAND_SECONDS", 60.0)


@pytest.fixture
async def client(settings: Settings, tmp_path: Path) -> AsyncIterator[Client]:  # noqa: F811
    async with serving(settings, tmp_path / "query") as client:
        yield client


@pytest.fixture
def export() -> bytes:
    """Ten hours of a Dexcom: 121 points, 14 samples."""
    return dexcom(glucose_rows(121))
