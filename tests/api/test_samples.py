"""Files and their samples over HTTP, against the real steps and a broker."""

import asyncio
import base64
from typing import Any

import pytest

import query_api.submit
from agents.core.fingerprint import upload_id
from deploy.bench.faults_audit import read_all
from query_api.holders import EVERYBODY
from query_api.submit import Submit
from schemas import topics
from schemas.errors import UnavailableError
from tests.kit.query import Client, FakeBrowser, body_of, samples_of
from tests.kit.samples import dexcom, glucose_rows, libre
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

PNG = b"\x89PNG"
SAMPLES = 14 + 12
LANES = tuple(topics.LANE_TOPICS.values())


async def computed(client: Client, pipeline: SmallPipeline) -> None:
    """Every sample is, and what a draw has demanded besides, which it does where the machine is busy."""

    async def done() -> bool:
        if len(pipeline.inferred) < SAMPLES or pipeline.seen[topics.DEMANDS.name] < await count(topics.DEMANDS):
            return False
        return pipeline.inferred.total() == sum([await count(lane) for lane in LANES])

    async def count(topic: topics.Topic) -> int:
        return len(await read_all(client.services.settings, topic.name))

    await until_async(done, "every sample computed")


async def process(client: Client, raw: bytes, **more: Any) -> dict[str, Any]:
    response = await client.post("/process_unified", json=body_of(raw, **more))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_file_becomes_a_handle_and_plots(client: Client, pipeline: SmallPipeline, export: bytes) -> None:
    answer = await process(client, export)
    assert (answer["total_samples"], answer["error"]) == (14, None)
    assert set(answer["warnings"]) >= {"has_warnings", "messages", "imputation"}
    for index in (0, -13, 12, 5):
        response = await client.post("/draw_a_plot", json={"handle": answer["handle"], "index": index})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "image/png"
        assert response.content.startswith(PNG)


async def test_the_figure_shows_the_recorded_hour_beside_its_forecast(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    handle = (await process(client, export))["handle"]
    ask = {"handle": handle, "index": 0}
    response = await client.post("/draw_a_plot", json=ask, headers={"accept": "application/json"})
    assert len(response.content) <= 40_000
    figure = response.json()
    measured = next(trace for trace in figure["data"] if trace["name"] == "measured")
    assert measured["y"] == [value for _, value in glucose_rows(121)[-24:]]
    assert sum(trace.get("fill") == "toself" for trace in figure["data"]) == 12


async def test_what_is_known_is_answered_without_kafka(
    client: Client, pipeline: SmallPipeline, export: bytes, browser: type[FakeBrowser]
) -> None:
    handle = (await process(client, export))["handle"]
    first = await client.post("/draw_a_plot", json={"handle": handle, "index": 0})
    await computed(client, pipeline)
    seen, drawn = dict(pipeline.seen), browser.drawn

    again = await process(client, export)
    second = await client.post("/draw_a_plot", json={"handle": handle, "index": 0})
    quick = await client.post("/quick_plot", json=body_of(export))

    assert again["handle"] == handle
    assert second.content == first.content == base64.b64decode(quick.json()["plot_base64"])
    assert pipeline.seen[topics.UPLOADS.name] == seen[topics.UPLOADS.name] == 1
    assert pipeline.seen[topics.DEMANDS.name] == seen.get(topics.DEMANDS.name, 0)
    assert browser.drawn == drawn


async def test_force_computes_again_and_gives_the_same(client: Client, pipeline: SmallPipeline, export: bytes) -> None:
    handle = (await process(client, export))["handle"]
    ask = {"handle": handle, "index": 0}
    json = {"accept": "application/json"}
    first = await client.post("/draw_a_plot", json=ask, headers=json)
    await computed(client, pipeline)
    before = pipeline.inferred[handle, 0]

    second = await client.post("/draw_a_plot", json=ask | {"force_calculate": True}, headers=json)

    assert pipeline.inferred[handle, 0] == before + 1
    assert second.json() == first.json()


async def test_forced_processing_asks_for_every_sample_again(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    handle = (await process(client, export))["handle"]
    await until_async(lambda: sum(pipeline.inferred.values()) == 14 + 12, "every sample computed")
    assert (await process(client, export, force_calculate=True))["handle"] == handle
    await until_async(lambda: sum(pipeline.inferred.values()) == 2 * (14 + 12), "every sample computed twice")


async def test_a_hundred_waiters_share_one_computation(client: Client, pipeline: SmallPipeline, export: bytes) -> None:
    pipeline.hold = True
    handle = (await process(client, export))["handle"]
    asks = [
        asyncio.create_task(client.post("/draw_a_plot", json={"handle": handle, "index": -5, "force_calculate": True}))
        for _ in range(100)
    ]
    await until_async(lambda: client.services.submit.in_flight.waiters == 100, "a hundred waiters")
    assert client.services.submit.in_flight.computations == 1
    pipeline.hold = False
    answers = await asyncio.gather(*asks)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert pipeline.seen[topics.DEMANDS.name] == 1


async def test_more_waiters_than_allowed_are_sent_away_in_words(
    client: Client, pipeline: SmallPipeline, export: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.hold = True
    handle = (await process(client, export))["handle"]
    monkeypatch.setattr(client.services.submit.in_flight, "_limit", 1)
    first = asyncio.create_task(client.post("/draw_a_plot", json={"handle": handle, "index": -1}))
    await until_async(lambda: client.services.submit.in_flight.waiters == 1, "a waiter")
    second = await client.post("/draw_a_plot", json={"handle": handle, "index": -2})
    assert second.status_code == 503
    assert int(second.headers["retry-after"]) >= 1
    assert "try again" in second.json()["detail"]
    pipeline.hold = False
    assert (await first).status_code == 200


async def test_a_client_that_leaves_frees_its_waiter(client: Client, pipeline: SmallPipeline, export: bytes) -> None:
    pipeline.hold = True
    handle = (await process(client, export))["handle"]
    answer = asyncio.create_task(client.services.submit.forecast(EVERYBODY, handle, -3))
    await until_async(lambda: client.services.submit.in_flight.waiters == 1, "a waiter")
    answer.cancel()
    await until_async(lambda: client.services.submit.in_flight.waiters == 0, "no waiter")
    assert client.services.submit.in_flight.computations == 0


async def test_an_answer_that_takes_too_long_is_a_503(
    client: Client, pipeline: SmallPipeline, export: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.hold = True
    handle = (await process(client, export))["handle"]
    short = client.services.settings.model_copy(update={"answer_timeout_seconds": 0.2})
    monkeypatch.setattr(client.services.submit, "_settings", short)
    response = await client.post("/draw_a_plot", json={"handle": handle, "index": -3})
    assert response.status_code == 503
    assert "retry-after" in response.headers
    assert "ask again" in response.json()["detail"]


async def test_a_model_that_fails_is_reported_to_who_waits(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    pipeline.fail = True
    handle = (await process(client, export))["handle"]
    response = await client.post("/draw_a_plot", json={"handle": handle, "index": 0})
    assert (response.status_code, response.json()["detail"]) == (503, "the model failed")


async def test_deleting_ends_pending_work_and_answers_its_waiters(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    pipeline.hold = True
    handle = (await process(client, export))["handle"]
    waiting = asyncio.create_task(client.post("/draw_a_plot", json={"handle": handle, "index": -3}))
    await until_async(lambda: client.services.submit.in_flight.waiters == 1, "a waiter")
    # A demand that comes after the delete is refused instead: 404 as well, in other words.
    await until_async(lambda: pipeline.seen[topics.DEMANDS.name] == 1, "the demand on its way to the model")
    deleted = await client.post("/cache_management", params={"action": "delete", "handle": handle})
    assert deleted.json()["success"]
    answer = await waiting
    assert (answer.status_code, "deleted" in answer.json()["detail"]) == (404, True)


async def test_a_shorter_export_is_served_by_the_longer_one(client: Client, pipeline: SmallPipeline) -> None:
    rows = glucose_rows(130)
    long = await process(client, dexcom(rows))
    await until_async(lambda: len(samples_of(client, long["handle"])) == 130 - 107 + 12, "every sample is there")
    short = await process(client, dexcom(rows[10:]))
    assert short["handle"] != long["handle"]
    plots = [
        (await client.post("/draw_a_plot", json={"handle": handle, "index": 0})).content
        for handle in (short["handle"], long["handle"])
    ]
    assert plots[0] == plots[1]
    assert sum(pipeline.inferred.values()) == 130 - 107 + 12
    beyond = await client.post("/draw_a_plot", json={"handle": short["handle"], "index": -20})
    assert (beyond.status_code, "-12 to 12" in beyond.json()["detail"]) == (422, True)


async def test_converting_gives_unified_csv_and_stores_nothing(client: Client) -> None:
    response = await client.post("/convert_to_unified", files={"file": ("a.csv", libre(glucose_rows(60)))})
    assert response.status_code == 200
    assert response.json()["error"] is None
    assert response.json()["csv_content"].startswith("sequence_id,")
    assert client.services.read_model.uploads.handle_count() == 0


async def test_few_conversions_wait_and_the_others_are_told_when_to_come_back(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversions, go_on = client.services.conversions, asyncio.Event()
    answer = conversions._answer

    async def held(*asked: Any) -> Any:
        await go_on.wait()
        return await answer(*asked)

    monkeypatch.setattr(conversions, "_most_waiting", 1)
    monkeypatch.setattr(conversions, "_answer", held)
    file = {"file": ("a.csv", libre(glucose_rows(60)))}
    asks = [asyncio.create_task(client.post("/convert_to_unified", files=file)) for _ in range(3)]
    await until_async(lambda: any(ask.done() for ask in asks), "one is sent away")
    go_on.set()
    answers = await asyncio.gather(*asks)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503]
    (full,) = [answer for answer in answers if answer.status_code == 503]
    assert (full.json()["code"], int(full.headers["retry-after"]) > 0) == ("overloaded", True)


async def test_the_oldest_handles_make_room(
    client: Client, pipeline: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = client.services.settings.model_copy(update={"max_cache_size": 2})
    monkeypatch.setattr(client.services.submit, "_settings", two)
    handles = [(await process(client, dexcom(glucose_rows(121, level=120 + 10 * step))))["handle"] for step in range(4)]
    uploads = client.services.read_model.uploads
    await until_async(lambda: uploads.handle_count() == 2, "only two handles left")
    assert {stored.handle for stored in uploads.handles()} == set(handles[2:])


async def test_files_that_came_by_other_ways_make_room_too(
    client: Client, pipeline: SmallPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = client.services
    uploads = services.read_model.uploads
    for step in range(3):
        raw = dexcom(glucose_rows(121, level=120 + 10 * step))
        await services.publisher.send(topics.UPLOADS, upload_id(raw, "UTC"), raw, {"timezone": b"UTC"})
        await until_async(lambda step=step: uploads.handle_count() == step + 1, "the handle is there")
    newest = {stored.handle for stored in uploads.handles()[1:]}
    monkeypatch.setattr(services.submit, "_settings", services.settings.model_copy(update={"max_cache_size": 2}))
    monkeypatch.setattr(query_api.submit, "EVICT_SECONDS", 0.1)
    bounding = asyncio.create_task(services.submit.keep_bounded())
    await until_async(lambda: uploads.handle_count() == 2, "room was made")
    bounding.cancel()
    assert {stored.handle for stored in uploads.handles()} == newest


async def test_a_cancelled_wait_is_not_an_answer_for_others(
    client: Client, pipeline: SmallPipeline, export: bytes
) -> None:
    pipeline.hold = True
    handle = (await process(client, export))["handle"]
    submit: Submit = client.services.submit
    leaver, stayer = (asyncio.create_task(submit.forecast(EVERYBODY, handle, -3)) for _ in range(2))
    await until_async(lambda: submit.in_flight.waiters == 2, "two waiters")
    leaver.cancel()
    pipeline.hold = False
    assert (await stayer).chart.index == -3


async def test_without_a_broker_known_forecasts_are_served_and_uploads_refused_in_words(
    client: Client, pipeline: SmallPipeline, export: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = (await process(client, export))["handle"]
    assert (await client.post("/draw_a_plot", json={"handle": handle, "index": 0})).status_code == 200

    async def unavailable(*_: object, **__: object) -> int:
        raise UnavailableError("no Kafka answers")

    monkeypatch.setattr(client.services.publisher, "send", unavailable)
    assert (await client.post("/draw_a_plot", json={"handle": handle, "index": 0})).status_code == 200
    response = await client.post("/process_unified", json=body_of(dexcom(glucose_rows(140))))
    assert (response.status_code, response.json()["detail"]) == (503, "no Kafka answers")
