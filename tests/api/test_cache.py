"""What is stored can be looked at, deleted, flushed, saved and brought back."""

from pathlib import Path
from typing import Any

import pytest

from query_api.saved_handles import load, points_of
from schemas.errors import RejectedError
from tests.kit.query import Client, body_of, samples_of
from tests.kit.samples import dexcom, glucose_rows
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

SAMPLES = 14 + 12


async def manage(client: Client, action: str, handle: str | None = None) -> dict[str, Any]:
    response = await client.post(
        "/cache_management", params={"action": action} | ({"handle": handle} if handle else {})
    )  # fmt: skip
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert answer["success"]
    return answer


async def uploaded(client: Client, pipeline: SmallPipeline, raw: bytes) -> str:
    """A handle whose forecasts are all there."""
    handle = (await client.post("/process_unified", json=body_of(raw))).json()["handle"]
    await until_async(lambda: len(samples_of(client, handle)) == SAMPLES, "all forecasts of the upload")
    return str(handle)


async def figure(client: Client, handle: str, index: int) -> Any:
    response = await client.post(
        "/draw_a_plot", json={"handle": handle, "index": index}, headers={"accept": "application/json"}
    )  # fmt: skip
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_deleted_handle_is_gone_and_can_be_uploaded_again(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    handle = await uploaded(client, pipeline, export)
    assert (await manage(client, "info"))["cache_size"] == 1
    assert (await manage(client, "delete", handle))["items_affected"] == 1
    assert (await client.post("/draw_a_plot", json={"handle": handle, "index": 0})).status_code == 404
    assert (await manage(client, "info"))["cache_size"] == 0
    assert await uploaded(client, pipeline, export) == handle


async def test_flush_removes_every_handle(client: Client, pipeline: SmallPipeline) -> None:
    handles = [await uploaded(client, pipeline, dexcom(glucose_rows(121, level=level))) for level in (130, 150)]
    assert (await manage(client, "flush"))["items_affected"] == 2
    for handle in handles:
        assert (await client.post("/draw_a_plot", json={"handle": handle, "index": 0})).status_code == 404
    assert (await manage(client, "flush"))["items_affected"] == 0


async def test_a_saved_handle_comes_back_after_everything_was_flushed(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    handle = await uploaded(client, pipeline, export)
    before = [await figure(client, handle, index) for index in (0, -13, 12)]
    assert (await manage(client, "save", handle))["persisted_count"] == 1
    await manage(client, "flush")

    assert (await manage(client, "load", handle))["items_affected"] == 1

    assert [await figure(client, handle, index) for index in (0, -13, 12)] == before
    again = await client.post("/process_unified", json=body_of(export))
    assert again.json()["handle"] == handle


async def test_saving_without_a_handle_saves_all(client: Client, pipeline: SmallPipeline) -> None:
    for level in (130, 150):
        await uploaded(client, pipeline, dexcom(glucose_rows(121, level=level)))
    answer = await manage(client, "save")
    assert (answer["items_affected"], answer["persisted_count"]) == (2, 2)


async def test_what_is_not_computed_yet_is_not_saved(client: Client, pipeline: SmallPipeline, export: bytes) -> None:
    pipeline.hold = True
    handle = (await client.post("/process_unified", json=body_of(export))).json()["handle"]
    response = await client.post("/cache_management", params={"action": "save", "handle": handle})
    assert (response.status_code, "try again" in response.json()["detail"]) == (422, True)


async def test_a_saved_file_gives_the_series_back_and_a_foreign_one_is_refused(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    handle = await uploaded(client, pipeline, export)
    await manage(client, "save", handle)
    directory = client.services.parquet_dir
    points = points_of(load(directory, handle))
    assert [value / 100 for value in points.centi] == [value for _, value in glucose_rows(121)]

    other = "0" * 64
    (directory / f"{other}.parquet").write_bytes((directory / f"{handle}.parquet").read_bytes())
    _cut(directory / f"{handle}.parquet")
    for name, words in ((other, "another handle"), (handle, "damaged")):
        with pytest.raises(RejectedError, match=words):
            load(directory, name)
        response = await client.post("/cache_management", params={"action": "load", "handle": name})
        assert (response.status_code, words in response.json()["detail"]) == (422, True)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


async def test_saving_can_be_switched_off(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    off = client.services.settings.model_copy(update={"enable_cache_persistence": False})
    client.app.state.services = _replaced(client, off)
    response = await client.post("/cache_management", params={"action": "save"})
    assert (response.status_code, "switched off" in response.json()["detail"]) == (422, True)


def _replaced(client: Client, settings: Any) -> Any:
    import dataclasses

    return dataclasses.replace(client.services, settings=settings)
