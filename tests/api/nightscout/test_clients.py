"""Clients of Nightscout as others have written them, unmodified, against this API over a real socket."""

import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from py_nightscout import Api

from streams.settings import Settings
from tests.kit.keys import person_in
from tests.kit.nightscout import entry
from tests.kit.query import listening
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

SECRET = "anna's own secret"


@pytest.fixture
async def site(settings: Settings, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The address of the site, and a token for it."""
    keys = tmp_path / "keys"
    person_in(keys, "anna", SECRET)
    token = person_in(keys, "anna")
    guarded = settings.model_copy(update={"api_keys_file": keys})
    async with listening(guarded, tmp_path) as url:
        yield url, token


async def test_py_nightscout_reads_what_was_uploaded_by_secret_and_by_token(
    site: tuple[str, str], pipeline: SmallPipeline
) -> None:
    url, token = site
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    sent = [entry(200 + step, now + datetime.timedelta(minutes=5 * step), direction="Flat") for step in range(-96, 1)]
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/api/v1/entries.json", json=sent, headers={"api-secret": token}) as answer:
            assert (answer.status, len(await answer.json())) == (200, 97)
        for secret in (SECRET, f"token={token}", token):
            api = Api(url, secret, session)
            status = await api.get_server_status()
            assert (status.status, status.name, status.settings["units"]) == ("ok", "glucast", "mg/dl")

            async def newest(api: Api = api) -> bool:
                found = await api.get_sgvs()
                return bool(found) and found[0].sgv == 200 and len(found) == 10

            await until_async(newest, "the readings")
            found = await api.get_sgvs()
            assert [(each.sgv, each.direction) for each in found] == [(value, "Flat") for value in range(200, 190, -1)]
            assert found[0].date == now
            assert await api.get_treatments() == []

            async def forecast(api: Api = api) -> bool:
                return set(await api.get_latest_devices_status()) == {"glucast"}

            await until_async(forecast, "a forecast")
        with pytest.raises(aiohttp.ClientResponseError) as refused:
            await Api(url, "a wrong secret", session).get_server_status()
        assert refused.value.status == 401
