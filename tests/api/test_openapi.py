"""The API is what its description says: schemathesis asks everything that the document allows, and what it does not.

The long form, thousands of cases, is one setting away:

    GLUCAST_TEST_CASES=400 pytest -s tests/api/test_openapi.py
"""

import asyncio
import datetime
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from streams.settings import Settings
from tests.kit.keys import key_in, person_in
from tests.kit.nightscout import entry
from tests.kit.query import listening
from tests.kit.small_pipeline import SmallPipeline, at
from tests.kit.waiting import until_async

CASES = int(os.environ.get("GLUCAST_TEST_CASES", "3"))
"""That are made up for each operation, beside those that its schema's limits give."""
PHASES = "examples,coverage,fuzzing" if CASES < 20 else "examples,coverage,fuzzing,stateful"
SITE = "^/(api/v|pebble)"
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(3600 if CASES > 20 else 600)
async def test_the_api_answers_as_it_is_described(settings: Settings, pipeline: SmallPipeline, tmp_path: Path) -> None:
    async with listening(unhurried(settings), tmp_path) as url:
        await forecast_at(url)
        await ask(url, tmp_path)


@pytest.mark.timeout(3600 if CASES > 20 else 600)
async def test_with_keys_on_it_does_too(settings: Settings, pipeline: SmallPipeline, tmp_path: Path) -> None:
    """With a key for everything: what others may not, and what a key in its wrong place does, test_attacks.py asks.

    The gate is the one thing that keys change, so the short form asks each operation a single question.
    """
    key = key_in(tmp_path / "keys", "everything")
    guarded = settings.model_copy(update={"api_keys_file": tmp_path / "keys"})
    async with listening(unhurried(guarded), tmp_path) as url:
        await forecast_at(url, {"x-api-key": key})
        short = () if CASES > 20 else ("--max-examples", "1", "--phases", "fuzzing")
        await ask(url, tmp_path, "--exclude-path-regex", SITE, "--header", f"X-API-Key: {key}", *short)


@pytest.mark.timeout(3600 if CASES > 20 else 600)
async def test_the_nightscout_site_answers_as_it_is_described(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    token = person_in(tmp_path / "keys", "anna")
    guarded = settings.model_copy(update={"api_keys_file": tmp_path / "keys"})
    async with listening(unhurried(guarded), tmp_path) as url:
        now = datetime.datetime.now(datetime.UTC)
        async with httpx.AsyncClient(base_url=url, headers={"api-secret": token}) as client:
            assert (await client.post("/api/v1/entries", json=[entry(118, now)])).status_code == 200

            async def there() -> bool:
                return bool((await client.get("/api/v1/entries")).json())

            await until_async(there, "an entry")
        await ask(url, tmp_path, "--include-path-regex", SITE, "--header", f"api-secret: {token}")


async def forecast_at(url: str, headers: Mapping[str, str] | None = None) -> None:
    """Anna has a forecast there, and scores of those before it: so there is something to conform."""
    readings = [{"time": at(5 * step), "glucose": 120, "unit": "mg/dL", "simulated": True} for step in range(115)]
    async with httpx.AsyncClient(base_url=url, timeout=60, headers=headers) as client:
        assert (await client.post("/subjects/anna/readings", json=readings)).status_code == 202

        async def there() -> bool:
            asked = [await client.get(f"/subjects/anna/{what}") for what in ("forecast", "scores")]
            return all(answer.status_code == 200 for answer in asked)

        await until_async(there, "a forecast, and scores of those before it")


def unhurried(settings: Settings) -> Settings:
    """Nobody is refused for asking often."""
    return settings.model_copy(update={"rate_limit": "100000/minute", "wrong_key_rate_limit": "100000/minute"})


async def ask(url: str, directory: Path, *options: str) -> None:
    asking = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run", f"{url}/openapi.json",
        "--max-examples", str(CASES), "--phases", PHASES, *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=directory,
    )  # fmt: skip
    said, _ = await asking.communicate()
    print(said.decode()[-2000:])  # how many cases there were: shown by pytest -s
    assert asking.returncode == 0, said.decode()
