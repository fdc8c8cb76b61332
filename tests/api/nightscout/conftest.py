"""Fixtures of Anna's Nightscout site: a file of keys, a token and a secret of hers, the API behind them, a client."""

import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from query_api.key_file import sha1
from streams.settings import Settings
from tests.kit.keys import person_in
from tests.kit.nightscout import SECRET, Times
from tests.kit.query import Client, serving


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def token(keys: Path) -> str:
    person_in(keys, "anna", SECRET)
    return person_in(keys, "anna")


@pytest.fixture
def guarded(settings: Settings, keys: Path, token: str) -> Settings:
    return settings.model_copy(update={"api_keys_file": keys})


@pytest.fixture
async def site(guarded: Settings, tmp_path: Path, token: str) -> AsyncIterator[Client]:
    """Anna's site."""
    async with serving(guarded, tmp_path / "query", headers={"api-secret": sha1(token)}) as client:
        yield client


@pytest.fixture
def at() -> Times:
    """Times five minutes apart; step 0 is that of the last five minutes as the test begins."""
    now = datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)
    now -= datetime.timedelta(minutes=now.minute % 5)
    return lambda step: now + datetime.timedelta(minutes=5 * step)
