"""A typed client that a generator makes of the API's own description works against a server that listens."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from query_api.app import create_app
from query_api.routers.docs import described
from schemas.grid import MGDL_PER_MMOLL
from streams.settings import Settings
from tests.kit.query import listening
from tests.kit.small_pipeline import SmallPipeline, at
from tests.kit.waiting import until_async

CONFIG = Path(__file__).parents[2] / "deploy/client.yaml"
PACKAGE = "glucast_client"


PARTS = (
    "client", "models", "api.subjects.publish_readings", "api.subjects.forecast", "api.subjects.forecast_plot",
    "api.reports.report", "api.reports.day",
)  # fmt: skip


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Modules of the client, imported while no event loop waits. A warning of the generator fails."""
    pytest.importorskip("openapi_python_client", reason="the generator is not installed: deploy/setup.sh --test")
    directory = tmp_path_factory.mktemp("client")
    document = directory / "openapi.json"
    document.write_text(json.dumps(described(create_app(Settings()))), "utf-8")
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none",
         "--path", document, "--config", CONFIG, "--output-path", directory / PACKAGE],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(directory))
    yield {name.rpartition(".")[2]: importlib.import_module(f"{PACKAGE}.{name}") for name in PARTS}
    sys.path.remove(str(directory))
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


async def test_readings_go_in_and_forecasts_days_and_reports_come_out(
    generated: dict[str, Any], settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    models = generated["models"]
    async with listening(settings, tmp_path) as url, generated["client"].Client(base_url=url) as client:
        times = [at(5 * step) for step in range(98)]
        readings = [
            models.SentReading.from_dict({"time": time, "glucose": 100 + step % 30, "unit": "mg/dL", "simulated": True})
            for step, time in enumerate(times)
        ]
        answer = await generated["publish_readings"].asyncio("anna", client=client, body=readings)
        assert (answer.accepted, answer.rejected) == (len(readings), [])

        async def forecast() -> Any:
            found = await generated["forecast"].asyncio("anna", client=client)
            return (
                found
                if isinstance(found, models.ForecastAnswer) and found.issue_time.isoformat() == times[-1]
                else None
            )

        found = await until_async(forecast, "the forecast of the last reading", 60)
        assert (found.subject_id, len(found.median_mgdl), found.simulated) == ("anna", 12, True)
        plot = await generated["forecast_plot"].asyncio("anna", client=client)
        assert plot.payload.read().startswith(b"\x89PNG")

        async def report() -> Any:
            made = await generated["report"].asyncio("anna", client=client)
            return made if isinstance(made, models.ReportAnswer) and made.readings == len(readings) else None

        made = await until_async(report, "a report of all readings", 60)
        assert (made.covered_days, made.representative) == (1, False)
        assert made.ranges.from_70_to_180 == 100
        day = await generated["day"].asyncio("anna", client=client, unit=models.DayUnit.MMOLL)
        assert [round(each.glucose, 2) for each in day.readings] == [
            round((100 + step % 30) / MGDL_PER_MMOLL, 2) for step in range(len(times))
        ]
        assert day.forecasts
        nobody = await generated["report"].asyncio("nobody", client=client)
        assert (nobody.status, nobody.code) == (404, "no_readings")
