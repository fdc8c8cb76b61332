"""What one key may ask for and send: its own limits, else those of the settings, and nobody else's share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from query_api.rate_limit import AmountLimit
from streams.settings import Settings
from tests.kit.keys import key_in, person_in
from tests.kit.told_api import told_api

READINGS = "/subjects/anna/readings"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


async def test_a_key_has_a_rate_of_its_own(file: Path, tmp_path: Path) -> None:
    few, more = key_in(file, "few", rate_limit="2/minute"), key_in(file, "more", rate_limit="9/minute")
    usual = key_in(file, "usual")
    async with told_api(Settings(api_keys_file=file, rate_limit="5/minute"), tmp_path) as client:
        for key, most in ((few, 2), (more, 9), (usual, 5)):
            answers = [await client.get("/subjects", headers={"x-api-key": key}) for _ in range(most + 1)]
            assert [answer.status_code for answer in answers] == [200] * most + [429]
            assert int(answers[-1].headers["retry-after"]) > 0


@pytest.mark.parametrize("declared", [True, False])
async def test_a_key_may_send_so_much(file: Path, tmp_path: Path, declared: bool) -> None:
    little, usual = key_in(file, "little", body_rate_limit="64/minute"), key_in(file, "usual")
    body = b" " * (40 << 10)

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    async with told_api(Settings(api_keys_file=file, body_rate_limit="100/minute"), tmp_path) as client:

        async def send(key: str) -> int:
            content = body if declared else chunks()
            return (await client.post(READINGS, content=content, headers={"x-api-key": key})).status_code

        # Of a body that comes without its length is known afterwards only that it was too much.
        late = 0 if declared else 1
        assert [await send(little) for _ in range(3 + late)] == [422] * (1 + late) + [429] * 2
        assert [await send(usual) for _ in range(4 + late)] == [422] * (2 + late) + [429] * 2
        assert (await client.get("/subjects", headers={"x-api-key": little})).status_code == 200, "nothing is sent"


async def test_a_limit_of_its_own_holds_on_the_nightscout_site_too(file: Path, tmp_path: Path) -> None:
    little, usual = person_in(file, "anna", body_rate_limit="64/minute"), person_in(file, "eve")
    settings = Settings(api_keys_file=file, nightscout_rate_limit="200/minute", body_rate_limit="1/minute")
    async with told_api(settings, tmp_path) as client:
        body = b"[" + b" " * (40 << 10) + b"]"
        for key, taken in ((little, 1), (usual, 4)):
            headers = {"api-secret": key}
            answers = [await client.post("/api/v1/devicestatus", content=body, headers=headers) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [200] * taken + [429] * (5 - taken)
        elsewhere = await client.post(READINGS, content=body, headers={"x-api-key": little})
        assert elsewhere.status_code == 429


def test_what_came_untold_fills_the_window_and_no_more() -> None:
    limit = AmountLimit("100/minute")
    limit.came("anna", 60)
    assert limit.wait_seconds("anna", 30) is None
    limit.came("anna", 1_000_000)
    assert limit.wait_seconds("anna", 1) is not None
    assert limit.wait_seconds("eve", 100) is None
