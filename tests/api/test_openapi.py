"""The API is what its description says: schemathesis asks everything that the document allows, and what it does not.

The long form, thousands of cases, is one setting away:

    GLUCAST_TEST_CASES=400 pytest -s tests/api/test_openapi.py
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn

from deploy.brokers.wire import LOOPBACK, free_port
from query_api.app import create_app, server_config
from streams.settings import Settings
from tests.kit.small_pipeline import SmallPipeline, at
from tests.kit.waiting import until_async

CASES = int(os.environ.get("GLUCAST_TEST_CASES", "3"))
"""That are made up for each operation, beside those that its schema's limits give."""
PHASES = "examples,coverage,fuzzing" if CASES < 20 else "examples,coverage,fuzzing,stateful"
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(3600 if CASES > 20 else 180)
async def test_the_api_answers_as_it_is_described(settings: Settings, pipeline: SmallPipeline, tmp_path: Path) -> None:
    unhurried = settings.model_copy(update={"rate_limit": "100000/minute"})
    app = create_app(unhurried, tmp_path / "query")
    config = server_config(app, unhurried)
    config.host, config.port = LOOPBACK, free_port()
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        await until_async(lambda: server.started, "the server listens")
        services = app.state.services
        await until_async(lambda: services.follower.caught_up, "it knows what Kafka holds")
        readings = [{"time": at(5 * step), "glucose": 120, "unit": "mg/dL", "simulated": True} for step in range(97)]
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{config.port}", timeout=60) as client:
            assert (await client.post("/subjects/anna/readings", json=readings)).status_code == 202
        await until_async(lambda: services.read_model.fan_charts.latest("anna"), "a forecast")
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run",
            f"http://{LOOPBACK}:{config.port}/openapi.json", "--max-examples", str(CASES),
            "--phases", PHASES,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip
        said, _ = await asking.communicate()
    finally:
        server.should_exit = True
        await task
    print(said.decode()[-2000:])  # how many cases there were: shown by pytest -s
    assert asking.returncode == 0, said.decode()
