"""Events over HTTP: who may follow whom, how a stream looks, and that a restart loses and repeats nothing."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from query_api import app, event_streams
from streams.settings import Settings
from tests.kit.keys import key_in, person_in
from tests.kit.query import listening
from tests.kit.small_pipeline import SmallPipeline, at
from tests.kit.sse import Told, events, some


@contextlib.asynccontextmanager
async def following(
    client: httpx.AsyncClient, path: str, last: str | None = None, key: str | None = None
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[bytes]]]:
    headers = {name: value for name, value in (("last-event-id", last), ("x-api-key", key)) if value}
    async with client.stream("GET", path, headers=headers) as answer:
        yield answer, answer.aiter_raw()


async def publish(client: httpx.AsyncClient, subject: str, steps: range, key: str | None = None) -> None:
    readings = [{"time": at(5 * step), "glucose": 120 + step % 7, "unit": "mg/dL"} for step in steps]
    headers = {} if key is None else {"x-api-key": key}
    answer = await client.post(f"/subjects/{subject}/readings", json=readings, headers=headers)
    assert answer.status_code == 202, answer.text


def times(found: list[Told]) -> list[datetime.datetime]:
    """Of readings."""
    return [datetime.datetime.fromisoformat(each.data["time"]) for each in found if each.kind == "reading"]


def count(found: list[Told], kind: str) -> int:
    return [each.kind for each in found].count(kind)


async def told_until(stream: AsyncIterator[bytes], enough: Callable[[list[Told]], bool]) -> list[Told]:
    """Events until there are enough; AssertionError where they do not come."""
    found: list[Told] = []
    async with asyncio.timeout(60):
        async for each in events(stream):
            found += [each] if each.kind not in ("", "comment") else []
            if enough(found):
                return found
    raise AssertionError([each.kind for each in found])


async def test_a_restarted_api_goes_on_where_each_client_was(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with (
        listening(settings, tmp_path) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
        following(client, "/subjects/anna/events") as (answer, stream),
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["cache-control"] == "no-store"
        opening = await anext(stream)
        assert opening.startswith(b"id: ")
        assert b"\nretry: 2000\n" in opening
        await publish(client, "anna", range(97))
        found = await told_until(stream, lambda told: len(times(told)) == 97 and count(told, "forecast") >= 1)
        assert times(found) == sorted(times(found))
    seen = found[-1].id
    async with listening(settings, tmp_path) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        await publish(client, "anna", range(97, 100))
        async with following(client, "/subjects/anna/events", seen) as (_, stream):
            rest = await told_until(
                stream, lambda told: len(times(found + told)) == 100 and count(found + told, "forecast") == 5
            )
        both = times(found + rest)
        assert both == sorted(set(both)), "each reading once, in order"
        charts = [each.data["chart_id"] for each in found + rest if each.kind == "forecast"]
        assert len(charts) == len(set(charts))
        kept = (await client.get("/subjects/anna/forecasts")).json()["forecasts"]
        assert {chart["chart_id"] for chart in kept} == set(charts)


async def test_a_server_that_stops_ends_streams_and_waits_for_none(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have all the time of the world for a client that goes on reading."""
    monkeypatch.setattr(app, "STOP_SECONDS", 3600)
    async with contextlib.AsyncExitStack() as staying, asyncio.timeout(60):
        async with listening(settings, tmp_path) as url:
            client = await staying.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
            _, stream = await staying.enter_async_context(following(client, "/events"))
            assert (await anext(stream)).startswith(b"id: ")
        assert [piece async for piece in stream] == [], "what it answered is complete"


async def test_a_key_follows_its_own_people_until_it_is_withdrawn(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "HEARTBEAT_SECONDS", 0.2)
    file = tmp_path / "keys"
    anna = person_in(file, "anna")
    writer = key_in(file, "writer", scopes=("write",))
    everybody = key_in(file, "clinic")
    guarded = settings.model_copy(update={"api_keys_file": file, "event_clients": 4})
    async with listening(guarded, tmp_path) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        for path, key, code in (
            ("/events", None, "api_key_required"), ("/events", "guess", "invalid_api_key"),
            ("/subjects/bert/events", anna, "foreign_subject"), ("/subjects/anna/events", writer, "wrong_scope"),
        ):  # fmt: skip
            async with following(client, path, key=key) as (answer, _):
                await answer.aread()
                assert answer.json()["code"] == code, path
        async with (
            following(client, "/events", key=anna) as (_, own),
            following(client, "/events", key=everybody) as (_, all_of_them),
            following(client, "/subjects/anna/events", key=anna) as (_, same),
        ):
            for stream in (own, all_of_them, same):
                await anext(stream)
            async with following(client, "/events", key=anna) as (answer, _):
                await answer.aread()
                assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
                assert answer.headers["retry-after"]
            for subject in ("bert", "anna"):
                await publish(client, subject, range(2), everybody)
            assert [each.data["subject_id"] for each in await some(own, 2)] == ["anna"] * 2
            assert sorted(each.data["subject_id"] for each in await some(all_of_them, 4)) == ["anna"] * 2 + ["bert"] * 2
            lines = file.read_text().splitlines()
            file.write_text("\n".join(line for line in lines if '"anna-' not in line) + "\n")
            assert len(await some(same, 3)) == 2, "it has ended"
        async with following(client, "/events", key=anna) as (answer, _):
            assert answer.status_code == 403
