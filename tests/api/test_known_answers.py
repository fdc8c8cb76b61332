"""A request whose like was answered before: answered as the route would, behind the gate, from what holds now."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from query_api.routers import samples, subjects
from schemas.fan_chart import FanChart
from streams.settings import Settings
from tests.api.test_subjects import forecast_of, publish
from tests.kit.keys import key_in, old_key, person_in
from tests.kit.query import Client, body_of, serving
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

PLOT = "/subjects/anna/forecast/plot"


@contextmanager
def without_routes() -> Iterator[None]:
    """The routes do not work meanwhile: what is answered all the same was known."""

    def broken(_: object, answer: Coroutine[Any, Any, Any]) -> Any:
        answer.close()
        raise AssertionError("a route was asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "while_connected", broken)
        patch.setattr(subjects, "while_connected", broken)
        yield


def said(response: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    return response.status_code, response.content, dict(response.headers)


async def drawing(client: Client, export: bytes, **more: Any) -> dict[str, Any]:
    """A question that has been answered once."""
    handle = (await client.post("/process_unified", json=body_of(export))).json()["handle"]
    question = {"handle": handle, "index": 0, **more}
    assert (await client.post("/draw_a_plot", json=question)).status_code == 200
    return question


async def test_the_answer_is_the_route_s_own(client: Client, pipeline: SmallPipeline, export: bytes) -> None:
    question = await drawing(client, export)
    figure = {"accept": "application/json"}
    for path, body, headers in (
        ("/draw_a_plot", question, {}),
        ("/draw_a_plot", question, figure),
        ("/draw_a_plot", question | {"index": 12, "unit": "mmol/L"}, figure),
        ("/quick_plot", body_of(export), {}),
    ):
        first = await client.post(path, json=body, headers=headers)
        assert first.status_code == 200, first.text
        with without_routes():
            again = await client.post(path, json=body, headers=headers)
        assert said(again) == said(first)
    counted = client.services.metrics.exposition().decode()
    assert 'route="/quick_plot",status="200"} 2.0' in counted


async def test_what_differs_in_anything_is_another_question(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    question = await drawing(client, export)
    with without_routes():
        assert (await client.post("/draw_a_plot", json=question)).status_code == 200
        for other in (question | {"index": -1}, question | {"unit": "mmol/L"}, question | {"force_calculate": True}):
            assert (await client.post("/draw_a_plot", json=other)).status_code == 500
        figure = await client.post("/draw_a_plot", json=question, headers={"accept": "application/json"})
        assert figure.status_code == 500
    untold = await client.post("/draw_a_plot", json=question, headers={"content-type": "text/plain"})
    assert untold.status_code == 422


async def test_a_deleted_handle_is_answered_no_more(client: Client, pipeline: SmallPipeline, export: bytes) -> None:
    question = await drawing(client, export)
    file = body_of(export)
    assert (await client.post("/quick_plot", json=file)).status_code == 200
    await client.post("/cache_management", params={"action": "delete", "handle": question["handle"]})
    assert (await client.post("/draw_a_plot", json=question)).status_code == 404
    with without_routes():
        assert (await client.post("/quick_plot", json=file)).status_code == 500


async def test_a_plot_of_a_subject_is_that_of_the_present_forecast(client: Client, pipeline: SmallPipeline) -> None:
    await publish(client, 96)
    await forecast_of(client)
    first = await client.get(PLOT)
    tag = first.headers["etag"]
    with without_routes():
        assert said(await client.get(PLOT)) == said(first)
        unchanged = await client.get(PLOT, headers={"if-none-match": tag})
        assert (unchanged.status_code, unchanged.headers["etag"], unchanged.content) == (304, tag, b"")
        assert (await client.get(f"{PLOT}?epistemic=true")).status_code == 500
    await client.delete("/subjects/anna/window")
    assert (await client.get(PLOT)).status_code == 404


async def test_nobody_gets_past_the_gate(
    settings: Settings, tmp_path: Path, pipeline: SmallPipeline, export: bytes
) -> None:
    key, digest = old_key()
    (tmp_path / "keys").write_text(f"clinic {digest}\n")
    locked = settings.model_copy(update={"api_keys_file": tmp_path / "keys", "rate_limit": "6/minute"})
    async with serving(locked, tmp_path / "query", headers={"x-api-key": key}) as client:
        question = await drawing(client, export)
        assert (await client.post("/draw_a_plot", json=question)).status_code == 200
        assert (await client.post("/draw_a_plot", json=question, headers={"x-api-key": ""})).status_code == 401
        assert (await client.post("/draw_a_plot", json=question, headers={"x-api-key": "guess"})).status_code == 403
        statuses = [(await client.post("/draw_a_plot", json=question)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]


async def test_what_one_key_was_shown_is_not_shown_to_another(
    settings: Settings, tmp_path: Path, pipeline: SmallPipeline
) -> None:
    file = tmp_path / "keys"
    everybody, anna, ben = key_in(file, "all"), person_in(file, "anna"), person_in(file, "ben")
    locked = settings.model_copy(update={"api_keys_file": file})
    async with serving(locked, tmp_path / "query", headers={"x-api-key": everybody}) as client:
        await publish(client, 96)
        await forecast_of(client)
        for _ in range(2):
            answers = [
                (await client.get(PLOT, headers={"x-api-key": key})).status_code for key in (anna, everybody, ben)
            ]
            assert answers == [200, 200, 403]


async def test_a_body_that_grows_too_large_is_refused_in_words(client: Client) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 4096
            await asyncio.sleep(0)

    response = await client.post("/draw_a_plot", content=endless(), headers={"content-type": "application/json"})
    assert (response.status_code, "larger than" in response.json()["detail"]) == (413, True)


async def test_a_file_is_drawn_once_for_its_picture_and_its_figure(
    client: Client, pipeline: SmallPipeline, export: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from query_api import plots

    made: list[FanChart] = []
    figure = plots.figure
    monkeypatch.setattr(plots, "figure", lambda chart, style: made.append(chart) or figure(chart, style))
    assert (await client.post("/quick_plot", json=body_of(export))).status_code == 200
    await until_async(lambda: len(pipeline.inferred) == 14 + 12, "every sample computed")
    assert len(made) == 1
