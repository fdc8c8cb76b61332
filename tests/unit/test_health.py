"""A worker's health server listens where it is told, and tells whether it is ready and what it measures."""

import aiohttp
import pytest

from deploy.brokers.wire import HeldPort
from streams.health import HealthServer, NotReady
from streams.metrics import Metrics

REASONS = [NotReady("starting", "the model is loading")]


async def test_it_answers_at_its_address_and_at_no_other() -> None:
    reasons = list(REASONS)
    server, nobodys = HealthServer(Metrics(), lambda: reasons), HeldPort()
    await server.start("127.0.0.2", nobodys.number)
    url = f"http://127.0.0.2:{server.port}"
    try:
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{url}/readyz") as answer:
                told = {"ready": False, "reasons": [{"code": "starting", "text": "the model is loading"}]}
                assert (answer.status, await answer.json()) == (503, told)
            reasons.clear()
            async with client.get(f"{url}/readyz") as answer:
                assert answer.status == 200
            async with client.get(f"{url}/metrics") as answer:
                assert "# TYPE glucast_events_total counter" in await answer.text()
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get(f"http://127.0.0.1:{server.port}/livez")
    finally:
        await server.stop()
