"""Uploads with keys of single people, through Kafka and back out of saved files: each finds, counts and ends its own.

The rule, and what others are told: tests/unit/test_holders.py.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from httpx import Response

from query_api.key_file import SCOPES
from streams.settings import Settings
from tests.kit.keys import key_in, person_in
from tests.kit.query import Client, body_of, serving
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

FIGURE = {"accept": "application/json"}
NO_HANDLE = "0" * 64


class Caller:
    """Somebody with a key."""

    def __init__(self, client: Client, key: str) -> None:
        self._client, self._headers = client, {"x-api-key": key}

    async def post(self, path: str, **options: Any) -> Response:
        headers = self._headers | options.pop("headers", {})
        return await self._client.post(path, headers=headers, **options)

    async def upload(self, raw: bytes) -> str:
        answer = await self.post("/process_unified", json=body_of(raw))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["handle"])

    async def draw(self, handle: str, index: int = 0) -> Response:
        return await self.post("/draw_a_plot", json={"handle": handle, "index": index}, headers=FIGURE)

    async def manage(self, action: str, handle: str | None = None) -> Response:
        return await self.post("/cache_management", params={"action": action} | ({"handle": handle} if handle else {}))

    async def sizes(self) -> tuple[int, int]:
        """How many handles there are for them, and how many of these are saved."""
        info = (await self.manage("info")).json()
        return info["cache_size"], info["persisted_count"]


@pytest.fixture
async def client(settings: Settings, tmp_path: Path) -> AsyncIterator[Client]:
    keys = tmp_path / "keys"
    for name in ("anna", "eve"):
        person_in(keys, name, f"key-of-{name}-alone", scopes=SCOPES)
    person_in(keys, "anna", "reader-of-anna", scopes=["read"])
    key_in(keys, "family", "key-of-both-of-them", subjects=["eve", "anna"])
    key_in(keys, "clinic", "key-of-everybody")
    locked = settings.model_copy(update={"api_keys_file": keys, "max_cache_size": 2, "rate_limit": "9999/minute"})
    async with serving(locked, tmp_path / "query") as client:
        yield client


async def test_equal_files_of_two_people_have_nothing_in_common(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    anna, eve, family, clinic, reader = (
        Caller(client, key)
        for key in (
            "key-of-anna-alone",
            "key-of-eve-alone",
            "key-of-both-of-them",
            "key-of-everybody",
            "reader-of-anna",
        )
    )
    handles = [await caller.upload(export) for caller in (anna, eve, family, clinic)]
    of_anna, of_eve, of_family, of_clinic = handles
    assert len(set(handles)) == 4
    assert await anna.upload(export) == of_anna

    drawn = {
        anna: {of_anna}, reader: {of_anna}, eve: {of_eve}, family: {of_anna, of_eve, of_family}, clinic: set(handles),
    }  # fmt: skip
    for _ in range(2):  # the second time from what is remembered
        for caller, theirs in drawn.items():
            unknown = await caller.draw(NO_HANDLE)
            for handle in handles:
                answer = await caller.draw(handle)
                if handle in theirs:
                    assert answer.status_code == 200, answer.text
                else:
                    assert (answer.status_code, answer.json()) == (404, unknown.json())
    older = {"handle": of_eve, "index": 0}
    assert (await anna.post("/glurpc/draw_a_plot", json=older)).status_code == 404
    assert (await eve.post("/glurpc/draw_a_plot", json=older)).status_code == 200
    for caller, handle in ((anna, of_anna), (eve, of_eve), (anna, of_anna)):
        assert (await caller.post("/quick_plot", json=body_of(export))).json()["handle"] == handle

    assert [await caller.sizes() for caller in (anna, eve, family, clinic)] == [(1, 0), (1, 0), (3, 0), (4, 0)]
    for action in ("delete", "save", "load"):
        assert (await eve.manage(action, of_anna)).status_code == 404
        theirs = await eve.post("/glurpc/cache_management", params={"action": action, "handle": of_anna})
        assert theirs.json()["success"] is False

    await until_async(lambda: len(_samples(client, of_anna)) == 26, "all forecasts of Anna's upload")
    assert (await anna.manage("save")).json()["items_affected"] == 1
    assert (await eve.manage("flush")).json()["items_affected"] == 1
    assert [(await anna.draw(of_anna)).status_code, (await eve.draw(of_eve)).status_code] == [200, 404]
    assert [await caller.sizes() for caller in (anna, eve, clinic)] == [(1, 1), (0, 0), (3, 1)]
    assert (await eve.manage("load", of_anna)).status_code == 404
    assert (await anna.manage("flush")).status_code == 200
    assert (await anna.manage("load", of_anna)).status_code == 200
    assert (await anna.draw(of_anna)).status_code == 200
    assert (await eve.draw(of_anna)).status_code == 404

    erased = await client.delete("/subjects/anna", headers={"x-api-key": "key-of-anna-alone"})
    assert erased.status_code == 200, erased.text
    assert [await caller.sizes() for caller in (anna, family, clinic)] == [(0, 0), (1, 0), (2, 0)]
    assert (await clinic.draw(of_anna)).status_code == 404
    assert (await clinic.draw(of_clinic)).status_code == 200


def _samples(client: Client, handle: str) -> dict[int, Any]:
    model = client.services.read_model
    stored = model.uploads.handle(handle)
    return {} if stored is None else dict(model.samples(stored))
