"""Senders as others publish them for Node, unmodified: from a Dexcom account to a site of ours, over real sockets."""

import datetime
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from query_api.key_file import sha1
from schemas import topics
from schemas.reading import Reading
from streams.settings import Settings
from tests.kit import node
from tests.kit.cgm_services import PASSWORD, USER, DexcomService, serving
from tests.kit.clients import until_there
from tests.kit.nightscout import SECRET, Times
from tests.kit.query import listening
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

STEPS = range(-5, 1)

NIGHTSCOUT_CONNECT = """
const [site, secret, service, accountName, password] = process.argv.slice(1);
const axios = require("axios");
const plain = { create: (asked) => axios.create({ ...asked, baseURL: asked.baseURL.replace("https:", "http:") }) };
const from = require("nightscout-connect/lib/sources/dexcomshare")(
  { shareServer: new URL(service).host, shareAccountName: accountName, sharePassword: password }, plain);
const record = require("nightscout-connect/lib/outputs/nightscout")({ url: site, apiSecret: secret }, axios);
(async () => {
  const known = await record.gap_for();
  console.log("told", JSON.stringify(known));
  const session = await from.sessionFromAuth(await from.authFromCredentials());
  const found = from.transformGlucose(await from.dataFromSesssion(session, known));
  console.log("told", JSON.stringify(await record({ ...found, treatments: [] })));
})();
"""
"""Its source and its output module, one after the other as its loop does it. Its source knows https alone."""

SHARE2NIGHTSCOUT_BRIDGE = """
const [site, secret, service, accountName, password] = process.argv.slice(1);
const engine = require("share2nightscout-bridge");
const here = (address) => address.replace(/^https:\\/\\/[^/]+/, service);
const { auth, login, LatestGlucose } = engine.Defaults;
engine({
  login: { accountName, password, auth: here(auth), login: here(login) },
  fetch: { LatestGlucose: here(LatestGlucose), minutes: 1440, maxCount: 1 },
  nightscout: { API_SECRET: secret, endpoint: site },
  maxFailures: 3,
  firstFetchCount: 6,
});
"""


@pytest.fixture
async def url(guarded: Settings, tmp_path: Path, pipeline: SmallPipeline) -> AsyncIterator[str]:
    """Anna's site on a port."""
    async with listening(guarded, tmp_path) as url:
        yield url


@pytest.fixture
def account(at: Times) -> Iterator[tuple[DexcomService, str]]:
    """Anna's at Dexcom with half an hour of readings, and its address."""
    service = DexcomService([(at(step), 118 + step) for step in STEPS])
    with serving(service.app) as address:
        yield service, address


async def entries(url: str, count: int) -> list[dict[str, Any]]:
    """What a reader of the site finds once so many are there, newest first."""
    async with httpx.AsyncClient(base_url=url, headers={"api-secret": sha1(SECRET)}) as client:

        async def there() -> list[dict[str, Any]] | None:
            answer = await client.get("/api/v1/entries.json", params={"count": 100})
            found: list[dict[str, Any]] = answer.raise_for_status().json()
            return found if len(found) >= count else None

        found: list[dict[str, Any]] = await until_async(there, f"{count} entries")
        return found


async def sent(settings: Settings, count: int) -> list[Reading]:
    """What is on the topic of readings once so many are there."""
    records = await until_there(settings, topics.READINGS.name, lambda held: len(held) >= count)
    return [Reading.from_json(record.value) for record in records if record.value is not None]


def told(printed: str) -> list[Any]:
    return [json.loads(line[5:]) for line in printed.splitlines() if line.startswith("told ")]


async def test_nightscout_connect_brings_readings_and_goes_on_where_it_was(
    url: str, account: tuple[DexcomService, str], settings: Settings, at: Times
) -> None:
    service, address = account
    asked = (url, SECRET, address, USER, PASSWORD)
    printed = await node.run(NIGHTSCOUT_CONNECT, *asked, package="nightscout-connect")
    assert "RECORDED BATCH, total entries 6" in printed
    known, bookmark = told(printed)
    assert known == {}  # nothing was there
    assert datetime.datetime.fromisoformat(bookmark["entries"]) == at(0)  # from the answer to what it sent
    readings = await sent(settings, len(STEPS))
    assert sorted((each.time, each.glucose_mgdl) for each in readings) == sorted(service.measured)
    assert {(each.subject_id, each.device, each.direction) for each in readings} == {
        ("anna", "nightscout-connect", "FortyFiveUp")
    }
    shown = await entries(url, len(STEPS))
    assert [(each["sgv"], each["direction"]) for each in shown] == [(118 + step, "FortyFiveUp") for step in STEPS][::-1]

    printed = await node.run(NIGHTSCOUT_CONNECT, *asked, package="nightscout-connect")
    assert datetime.datetime.fromisoformat(told(printed)[0]["entries"]) == at(0)  # from what the site has


async def test_share2nightscout_bridge_brings_readings(
    url: str, account: tuple[DexcomService, str], settings: Settings
) -> None:
    service, address = account
    printed = await node.run(
        SHARE2NIGHTSCOUT_BRIDGE, url, SECRET, address, USER, PASSWORD, package="share2nightscout-bridge"
    )
    assert "Nightscout upload error null status 200" in printed
    readings = await sent(settings, len(STEPS))
    assert sorted((each.time, each.glucose_mgdl) for each in readings) == sorted(service.measured)
    assert {(each.subject_id, each.device, each.direction) for each in readings} == {("anna", "share2", "FortyFiveUp")}
    assert [each["sgv"] for each in await entries(url, len(STEPS))] == [118 + step for step in STEPS][::-1]


async def test_a_wrong_secret_brings_nothing(url: str, account: tuple[DexcomService, str], settings: Settings) -> None:
    asked = (url, "not Anna's secret", account[1], USER, PASSWORD)
    printed = await node.run(SHARE2NIGHTSCOUT_BRIDGE, *asked, package="share2nightscout-bridge")
    assert "Nightscout upload error null status 401" in printed
    assert await sent(settings, 0) == []
