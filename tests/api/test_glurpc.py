"""GluRPC's endpoints: fields, statuses and errors as its clients know them."""

import dataclasses
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from deploy.brokers.embedded import EmbeddedBroker
from query_api.app import create_app
from query_api.pipeline_status import PipelineStatus
from query_api.routers.glurpc import load_of
from schemas.topics import FORECASTS, LANE_TOPICS
from streams.kafka.provision import provision
from streams.settings import Settings
from tests.kit.keys import key_in
from tests.kit.query import Client, body_of, samples_of, serving
from tests.kit.samples import dexcom, glucose_rows
from tests.kit.small_pipeline import working
from tests.kit.waiting import until_async

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXPORT = dexcom(glucose_rows(217))
SAMPLES = 110
SHORT = dexcom(glucose_rows(60))
NOBODY = "0" * 64
WARNINGS = {
    "has_warnings", "too_short", "calibration", "quality", "imputation", "out_of_range", "time_duplicates", "messages"
}  # fmt: skip
NO_WARNINGS = dict.fromkeys(WARNINGS, False) | {"messages": []}
HEALTH = {
    "status", "load_status", "cache_size", "models_initialized", "available_priority_models",
    "available_general_models", "avg_fulfillment_time_ms", "vmem_usage_mb", "device", "total_http_requests",
    "total_http_errors", "avg_request_time_ms", "median_request_time_ms", "min_request_time_ms",
    "max_request_time_ms", "inference_requests_by_priority", "total_inference_errors", "total_calc_runs",
    "total_calc_errors", "inference_queue_size", "inference_queue_capacity", "calc_queue_size", "calc_queue_capacity"
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """One application and its pipeline for all, asked under GluRPC's address."""
    home = tmp_path_factory.mktemp("glurpc")
    broker = EmbeddedBroker(home)
    broker.start()
    try:
        settings = Settings(broker=broker.address, state_dir=home, partitions=2, rate_limit="100000/minute")
        await provision(settings)
        async with working(settings), serving(settings, home / "query") as client:
            client.base_url = httpx.URL("http://127.0.0.1/glurpc")
            yield client
    finally:
        broker.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def handle(client: Client) -> str:
    answer = await client.post("/process_unified", json=body_of(EXPORT))
    return str(answer.json()["handle"])


async def test_a_file_is_processed(client: Client) -> None:
    answer = await client.post("/process_unified", json=body_of(EXPORT, force_calculate=False))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert said.keys() == {"handle", "total_samples", "warnings", "error"}
    assert (len(said["handle"]), said["total_samples"], said["error"]) == (64, SAMPLES, None)
    assert said["warnings"] == NO_WARNINGS


async def test_a_gap_that_was_filled_is_told_as_flag_and_sentence(client: Client) -> None:
    rows = glucose_rows(217)
    answer = await client.post("/process_unified", json=body_of(dexcom([*rows[:150], *rows[151:]])))
    assert answer.json()["warnings"] == NO_WARNINGS | {
        "has_warnings": True, "imputation": True, "messages": ["IMPUTATION: Contains imputed gaps"]
    }  # fmt: skip


async def test_times_that_were_moved_to_the_grid_are_no_warning_here(client: Client) -> None:
    second = datetime.timedelta(seconds=20)
    raw = dexcom([(time + second, value) for time, value in glucose_rows(217)])
    answer = await client.post("/process_unified", json=body_of(raw))
    assert answer.json()["warnings"] == NO_WARNINGS


UNUSABLE = {"too short": SHORT, "no export": b"not a glucose file\n" * 50, "picture": b"\x89PNG\r\n\x1a\n" + bytes(99)}


@pytest.mark.parametrize("raw", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_file_that_cannot_be_used_is_an_error_in_an_answer(client: Client, raw: bytes) -> None:
    processed = await client.post("/process_unified", json=body_of(raw))
    assert processed.status_code == 200
    reason = processed.json()["error"]
    assert processed.json() == {"handle": None, "total_samples": None, "warnings": NO_WARNINGS, "error": reason}
    drawn = await client.post("/quick_plot", json=body_of(raw))
    assert drawn.status_code == 200
    assert drawn.json() == {"plot_data": {}, "warnings": NO_WARNINGS, "error": reason}
    assert len(reason) > 20


async def test_bytes_that_are_no_base64_are_an_error_in_an_answer(client: Client) -> None:
    for path in ("/process_unified", "/quick_plot"):
        answer = await client.post(path, json={"csv_base64": "@@@"})
        assert (answer.status_code, "base64" in answer.json()["error"]) == (200, True)


async def test_a_file_is_converted_or_the_error_says_why_not(client: Client) -> None:
    good = await client.post("/convert_to_unified", files={"file": ("a.csv", EXPORT, "text/csv")})
    assert good.status_code == 200
    assert good.json().keys() == {"csv_content", "error"}
    assert good.json()["error"] is None
    assert good.json()["csv_content"].startswith("sequence_id,original_datetime,")
    again = await client.post("/process_unified", json=body_of(good.json()["csv_content"].encode()))
    assert again.json()["total_samples"] == SAMPLES
    for raw in (b"", b"garbage"):
        bad = await client.post("/convert_to_unified", files={"file": ("a.csv", raw)})
        assert (bad.status_code, bad.json()["csv_content"], bool(bad.json()["error"])) == (200, None, True)


async def test_a_plot_is_the_bare_figure(client: Client, handle: str) -> None:
    for headers in ({}, {"accept": "*/*"}, {"accept": "image/png"}):
        for index in (0, 1 - SAMPLES):
            answer = await client.post("/draw_a_plot", json={"handle": handle, "index": index}, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
            assert answer.json().keys() == {"data", "layout"}
    ours = await client.post(
        "http://127.0.0.1/draw_a_plot", json={"handle": handle, "index": 0}, headers={"accept": "application/json"}
    )
    theirs = await client.post("/draw_a_plot", json={"handle": handle, "index": 0, "force_calculate": True})
    assert theirs.json() == ours.json()


async def test_quick_plot_is_the_figure_of_the_last_sample(client: Client, handle: str) -> None:
    answer = await client.post("/quick_plot", json=body_of(EXPORT))
    assert answer.status_code == 200
    drawn = await client.post("/draw_a_plot", json={"handle": handle, "index": 0})
    assert answer.json() == {"plot_data": drawn.json(), "warnings": NO_WARNINGS, "error": None}


@pytest.mark.parametrize(
    ("question", "status", "detail"),
    [
        ({"index": -100000}, 400, "Index -100000 out of range. Valid range: -109 to 0"),
        ({"index": -SAMPLES}, 400, "Index -110 out of range. Valid range: -109 to 0"),
        ({"handle": NOBODY}, 404, "Handle not found or expired"),
        ({"handle": "8 digits"}, 404, "Handle not found or expired"),
        ({"handle": "7 digit"}, 422, ["handle"]),
        ({"handle": "0" * 65}, 422, ["handle"]),
        ({"index": 1}, 422, ["index"]),
        ({"index": 12}, 422, ["index"]),
        ({"index": -1.5}, 422, ["index"]),
        ({"index": "x"}, 422, ["index"]),
        ({"index": None}, 422, ["index"]),
        ({"force_calculate": "perhaps"}, 422, ["force_calculate"]),
    ],
)
async def test_plots_that_there_are_not(
    client: Client, handle: str, question: dict[str, Any], status: int, detail: str | list[str]
) -> None:
    answer = await client.post("/draw_a_plot", json={"handle": handle, "index": 0} | question)
    assert answer.headers["content-type"] == "application/json"
    assert answer.status_code == status, answer.text
    if isinstance(detail, str):
        assert answer.json() == {"detail": detail}
    else:
        (wrong,) = answer.json()["detail"]
        assert wrong.keys() == {"type", "loc", "msg"}
        assert wrong["loc"] == ["body", *detail]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/process_unified", {}),
        ("/process_unified", {"csv_base64": ""}),
        ("/quick_plot", {"csv_base64": 7}),
        ("/draw_a_plot", []),
    ],
)
async def test_bodies_that_are_no_question_are_422(client: Client, path: str, body: Any) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == 422
    assert [wrong["loc"][0] for wrong in answer.json()["detail"]] == ["body"]
    assert (await client.post(path, content=b"{")).status_code == 422
    assert (await client.post("/convert_to_unified")).status_code == 422


async def test_what_is_too_large_is_413(client: Client) -> None:
    raw = bytes(client.services.settings.max_upload_bytes + 1)
    for answer in (
        await client.post("/convert_to_unified", files={"file": ("a.csv", raw)}),
        await client.post("/process_unified", json=body_of(raw)),
        await client.post("/quick_plot", json=body_of(raw)),
        await client.post("/draw_a_plot", content=bytes(1 << 20)),
    ):
        assert (answer.status_code, list(answer.json())) == (413, ["detail"])


async def test_paths_and_methods_that_do_not_exist(client: Client) -> None:
    assert (await client.get("/nothing")).json() == {"detail": "Not Found"}
    assert (await client.get("/draw_a_plot")).json() == {"detail": "Method Not Allowed"}


async def manage(client: Client, action: str, handle: str | None = None) -> dict[str, Any]:
    params = {"action": action} | ({} if handle is None else {"handle": handle})
    answer = await client.post("/cache_management", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found.keys() == {"success", "message", "cache_size", "persisted_count", "items_affected"}
    return found


@pytest.mark.parametrize(
    ("params", "status", "detail"),
    [
        ({"action": "explode"}, 400, "Unknown action: explode. Valid actions are: flush, info, delete, save, load"),
        ({"action": "delete"}, 400, "Handle parameter required for delete action"),
        ({"action": "load", "handle": ""}, 400, "Handle parameter required for load action"),
    ],
)
async def test_actions_that_make_no_sense(client: Client, params: dict[str, str], status: int, detail: str) -> None:
    answer = await client.post("/cache_management", params=params)
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})
    missing = (await client.post("/cache_management")).json()["detail"]
    assert [wrong["loc"] for wrong in missing] == [["query", "action"]]


@pytest.mark.parametrize("handle", [NOBODY, "../../etc/passwd", "x"])
async def test_actions_on_what_is_not_stored_do_not_succeed(client: Client, handle: str) -> None:
    for action in ("delete", "load", "save"):
        said = await manage(client, action, handle)
        assert (said["success"], said["items_affected"], bool(said["message"])) == (False, 0, True)


async def test_a_handle_is_saved_deleted_and_loaded(client: Client) -> None:
    raw = dexcom(glucose_rows(121))
    handle = (await client.post("/process_unified", json=body_of(raw))).json()["handle"]
    await until_async(lambda: len(samples_of(client, handle)) == 14 + 12, "all forecasts of the upload")
    before = await manage(client, "info")
    assert (await manage(client, "load", handle))["success"] is True  # it is there, never saved
    saved = await manage(client, "save", handle)
    assert (saved["success"], saved["persisted_count"]) == (True, 1)
    gone = await manage(client, "delete", handle)
    assert (gone["success"], gone["items_affected"], gone["cache_size"]) == (True, 1, before["cache_size"] - 1)
    assert (await client.post("/draw_a_plot", json={"handle": handle, "index": 0})).status_code == 404
    assert (await manage(client, "load", handle))["success"] is True
    assert (await client.post("/draw_a_plot", json={"handle": handle, "index": 0})).status_code == 200


async def test_health_has_the_fields_that_its_client_takes_and_no_others(client: Client) -> None:
    answer = await client.get("/health")
    assert (answer.status_code, answer.json().keys()) == (200, HEALTH)
    assert len(HEALTH) == 23


async def test_health_counts_what_waits_was_done_and_failed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    lane, live, backfill = (topic.name for topic in LANE_TOPICS.values())
    waiting = dict.fromkeys([topic.name for topic in FORECASTS.values()], 7) | {lane: 0, live: 30, backfill: 768}
    status = PipelineStatus(2, waiting, dict.fromkeys(waiting, 40) | {live: 50}, dead_letters=3)

    async def told() -> PipelineStatus:
        return status

    monkeypatch.setattr(client.services.pipeline, "status", told)
    health = (await client.get("/health")).json()
    assert (health["status"], health["models_initialized"], health["load_status"]) == ("ok", True, "heavily loaded")
    assert (health["available_priority_models"], health["available_general_models"]) == (2, 0)
    assert (health["inference_queue_size"], health["inference_queue_capacity"]) == (798, 1536)
    assert (health["calc_queue_size"], health["total_calc_runs"], health["total_calc_errors"]) == (21, 120, 3)
    assert health["inference_requests_by_priority"] == {"0": 40, "1": 50, "3": 40}
    assert health["total_http_errors"] == client.services.metrics.unsuccessful
    times = [health[f"{name}_request_time_ms"] for name in ("min", "median", "max")]
    assert times == sorted(times)
    assert 0 < times[0] <= health["avg_request_time_ms"] <= times[2]
    status = dataclasses.replace(status, inference_workers=0, waiting={lane: 1})
    health = (await client.get("/health")).json()
    assert (health["status"], health["available_priority_models"], health["load_status"]) == ("degraded", 0, "idle")


async def test_the_load_in_words() -> None:
    found = [load_of(part) for part in (0, 0.009, 0.01, 0.25, 0.5, 0.75, 0.98, 0.99, 4)]
    assert found == [
        "idle", "idle", "lightly loaded", "loaded", "heavily loaded", "overloaded", "overloaded", "full", "full"
    ]  # fmt: skip


async def test_keys_are_asked_for_in_glurpcs_words_before_the_body_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    reader = key_in(path, "reader", scopes=["read"])
    settings = Settings(api_keys_file=path, rate_limit="8/minute")
    async with Client(create_app(settings, tmp_path)) as client:
        client.app.state.services = None  # nothing runs behind the routes
        for route in ("process_unified", "draw_a_plot", "quick_plot", "cache_management"):
            for headers, status, detail in (
                ({}, 401, "API key required"),
                ({"X-API-Key": "guess"}, 403, "Invalid API key"),
            ):
                answer = await client.post(f"/glurpc/{route}", content=b"{", headers=headers)
                assert (answer.status_code, answer.json()) == (status, {"detail": detail})
        own = {"X-API-Key": reader}
        assert (await client.post("/glurpc/draw_a_plot", content=b"{", headers=own)).status_code == 422
        for route in ("process_unified", "quick_plot", "cache_management"):
            answer = await client.post(f"/glurpc/{route}", content=b"{", headers=own)
            assert (answer.status_code, list(answer.json())) == (403, ["detail"])
        assert (await client.post("/glurpc/convert_to_unified")).status_code == 422  # open, as GluRPC's is
        for _ in range(8):
            answer = await client.post("/glurpc/draw_a_plot", content=b"{", headers=own)
        assert (answer.status_code, list(answer.json()), "retry-after" in answer.headers) == (429, ["detail"], True)


async def test_without_a_broker_it_is_503(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.services.publisher, "_producer", None)
    for path, body in (
        ("/process_unified", body_of(dexcom(glucose_rows(130)))),
        ("/quick_plot", body_of(dexcom(glucose_rows(131)))),
    ):
        answer = await client.post(path, json=body)
        assert (answer.status_code, list(answer.json()), "retry-after" in answer.headers) == (503, ["detail"], True)
