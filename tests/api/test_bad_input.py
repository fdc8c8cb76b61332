"""Whatever is sent: a clear reason, never a 5xx, and nothing that stops the service."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from deploy.brokers.embedded import EmbeddedBroker
from streams.kafka.provision import provision
from streams.settings import Settings
from tests.kit.query import Client, body_of, serving, without_chromium
from tests.kit.samples import dexcom, glucose_rows
from tests.kit.small_pipeline import working

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """One application and its pipeline for all: what is refused leaves nothing behind."""
    home = tmp_path_factory.mktemp("bad-input")
    broker = EmbeddedBroker(home)
    broker.start()
    try:
        settings = Settings(broker=broker.address, state_dir=home, partitions=2, rate_limit="100000/minute")
        await provision(settings)
        with without_chromium():
            async with working(settings), serving(settings, home / "query") as client:
                yield client
    finally:
        broker.stop()


FILES: dict[str, tuple[bytes, str]] = {
    "garbage": (b"not a glucose file\n" * 50, "format"),
    "truncated": (dexcom(glucose_rows(121))[:400], "incomplete"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(200), "PNG"),
    "too short": (dexcom(glucose_rows(107)), "8 h 50 min"),
    "negative": (dexcom([(time, -value) for time, value in glucose_rows(121)]), "impossible"),
    "2,000 mg/dL": (dexcom([*glucose_rows(121)[:-1], (glucose_rows(121)[-1][0], 2000)]), "impossible"),
    "wrong unit": (dexcom(glucose_rows(121), unit="mmol/L"), "mmol/L"),
}


@pytest.mark.parametrize("path", ["/process_unified", "/quick_plot"])
async def test_files_that_cannot_be_used_get_a_reason(client: Client, path: str) -> None:
    for name, (raw, words) in FILES.items():
        response = await client.post(path, json=body_of(raw))
        problem = response.json()
        assert response.status_code == 422, (name, problem)
        assert response.headers["content-type"] == "application/problem+json"
        assert problem["error"] == problem["detail"]
        assert words in problem["detail"], name


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"csv_base64": ""}, "empty"),
        ({"csv_base64": "@@@"}, "base64"),
        ({"csv_base64": "YQ"}, "base64"),
        ({"csv_base64": "äö"}, "base64"),
        ({}, "csv_base64"),
        ({"csv_base64": 7}, "csv_base64"),
        ({"csv_base64": "YQ==", "force_calculate": "maybe"}, "force_calculate"),
        ({"csv_base64": "YQ==", "timezone": "Mars/Base"}, "timezone"),
        ({"csv_base64": "YQ==", "timezone": "../../etc/passwd"}, "timezone"),
        ([], "body"),
        ("text", "body"),
        (None, "body"),
    ],
)
async def test_bodies_that_are_no_question_get_a_reason(client: Client, body: Any, words: str) -> None:
    response = await client.post("/process_unified", json=body)
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    assert words in response.json()["detail"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"csv_base64": "\\ud800"}', b"[" * 5000])
async def test_bytes_that_are_no_json_get_a_reason(client: Client, content: bytes) -> None:
    for path in ("/process_unified", "/draw_a_plot", "/quick_plot", "/subjects/anna/readings"):
        response = await client.post(path, content=content, headers={"content-type": "application/json"})
        assert response.status_code in (400, 422), path
        assert response.json()["detail"]


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        ({"handle": "0" * 64, "index": 0}, 404),
        ({"handle": "../../etc/passwd", "index": 0}, 404),
        ({"handle": "x" * 129, "index": 0}, 422),
        ({"handle": "", "index": 0}, 422),
        ({"handle": "0" * 64}, 422),
        ({"handle": "0" * 64, "index": 1.5}, 422),
        ({"handle": "0" * 64, "index": True}, 422),
        ({"handle": "0" * 64, "index": 10**30}, 422),
        ({"handle": 1, "index": 0}, 422),
    ],
)
async def test_plots_of_nothing_are_refused(client: Client, ask: dict[str, Any], status: int) -> None:
    response = await client.post("/draw_a_plot", json=ask)
    if ask["handle"] == "0" * 64 and ask.get("index") == 10**30:
        status = 404  # the handle is looked at first
    assert response.status_code == status, response.text


async def test_an_index_out_of_range_is_answered_with_the_range(client: Client, export: bytes) -> None:
    handle = (await client.post("/process_unified", json=body_of(export))).json()["handle"]
    for index in (-14, 13, 10**9, -(10**9)):
        response = await client.post("/draw_a_plot", json={"handle": handle, "index": index})
        assert (response.status_code, "-13 to 12" in response.json()["detail"]) == (422, True)


@pytest.mark.parametrize("params", [{}, {"action": "explode"}, {"action": "delete"}, {"action": "load"}])
async def test_cache_actions_that_make_no_sense_are_refused(client: Client, params: dict[str, str]) -> None:
    assert (await client.post("/cache_management", params=params)).status_code == 422


@pytest.mark.parametrize("handle", ["../../etc/passwd", "..", "%2e%2e", "A" * 64, "0" * 63])
async def test_a_handle_is_never_a_path(client: Client, handle: str) -> None:
    response = await client.post("/cache_management", params={"action": "load", "handle": handle})
    assert (response.status_code, "64 hexadecimal" in response.json()["detail"]) == (422, True)


async def test_unknown_handles_cannot_be_deleted_saved_or_loaded(client: Client) -> None:
    for action in ("delete", "save", "load"):
        response = await client.post("/cache_management", params={"action": action, "handle": "0" * 64})
        assert response.status_code == 404


FORM = "multipart/form-data; boundary=x"
FILE_HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'


@pytest.mark.parametrize(
    ("path", "kind", "head"),
    [
        ("/process_unified", "application/json", b'{"csv_base64": "'),
        ("/convert_to_unified", FORM, FILE_HEAD),
    ],
)
async def test_a_body_over_the_limit_is_cut_off_unread(client: Client, path: str, kind: str, head: bytes) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield head
        for _ in range(60):
            sent += 1
            yield bytes(1 << 20)

    response = await client.post(path, content=endless(), headers={"content-type": kind})
    assert (response.status_code, "MiB" in response.json()["detail"]) == (413, True)
    assert sent <= 16


async def test_a_declared_length_over_the_limit_is_refused_at_once(client: Client) -> None:
    response = await client.post("/process_unified", content=bytes(60 << 20))
    assert response.status_code == 413


async def test_a_file_over_the_limit_in_a_body_below_it_is_refused(client: Client) -> None:
    raw = bytes(client.services.settings.max_upload_bytes + 1)
    assert (await client.post("/convert_to_unified", files={"file": ("a.csv", raw)})).status_code == 413
    response = await client.post("/process_unified", json={"csv_base64": base64.b64encode(raw).decode()})
    assert response.status_code == 413


async def test_converting_what_is_no_export_gets_a_reason(client: Client) -> None:
    for raw in (b"", b"garbage", b"\x89PNG\r\n\x1a\n"):
        response = await client.post("/convert_to_unified", files={"file": ("a.csv", raw)})
        assert (response.status_code, bool(response.json()["error"])) == (422, True)
    assert (await client.post("/convert_to_unified")).status_code == 422


@pytest.mark.parametrize("path", ["/convert_to_unified", "/glurpc/convert_to_unified"])
async def test_json_that_would_grow_in_a_parser_is_told_what_it_is_and_the_next_file_is_converted(
    client: Client, path: str
) -> None:
    wide = {"dateString": "2026-01-01T00:00:00Z", "sgv": {f"k{number}": 1 for number in range(10_000)}}
    narrow = [{"dateString": "2026-01-01T00:00:00Z", "sgv": 100}] * 10_000
    for raw in (
        json.dumps([wide, *narrow]).encode(),
        b"[" + b"{}," * 250_000 + b"{}]",
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'[{"sgv": ' + b"9" * 1_000_000 + b"}]",
    ):
        answer = await client.post(path, files={"file": ("a.json", raw)})
        assert answer.status_code == (200 if "glurpc" in path else 422)
        assert "Nightscout" in answer.json()["error"] or "export" in answer.json()["error"]
    answer = await client.post(path, files={"file": ("a.csv", dexcom(glucose_rows(121)))})
    assert (answer.status_code, answer.json()["error"]) == (200, None)


@pytest.mark.parametrize(
    "body", [[], {"readings": []}, {"readings": "x"}, 7, "x", None, [[]], {"glucose": 100}, {"time": "2026-01-01"}]
)
async def test_readings_that_are_none_are_refused(client: Client, body: Any) -> None:
    response = await client.post("/subjects/anna/readings", json=body)
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")


async def test_too_many_readings_at_once_are_refused(client: Client) -> None:
    item = {"time": "2026-01-01T00:00:00Z", "glucose": 100, "unit": "mg/dL"}
    assert (await client.post("/subjects/anna/readings", json=[item] * 2017)).status_code == 422
    assert (await client.post("/subjects/anna/readings", content=bytes(2 << 20))).status_code == 413


async def test_paths_and_methods_that_do_not_exist_are_problems_too(client: Client) -> None:
    for response, status in ((await client.get("/nothing"), 404), (await client.get("/draw_a_plot"), 405)):
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize("subject", ["a b", "-x", "x" * 129, "a%00", "a%0Ab"])
async def test_a_name_that_is_no_subject_id_is_refused(client: Client, subject: str) -> None:
    assert (await client.get(f"/subjects/{subject}/forecast")).status_code == 422


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "application/json", "there is no body"),
        (b'{"csv_base64": "YQ=="}', "text/plain", "no JSON object"),
        (b'{"csv_base64": "YQ==', "application/json", "no valid JSON"),
        (b"[]", "application/json", "no JSON object"),
    ],
)
async def test_a_body_that_is_no_json_object_is_told_what_to_send(
    client: Client, content: bytes, kind: str, words: str
) -> None:
    refused = await client.post("/process_unified", content=content, headers={"content-type": kind})
    assert (refused.status_code, words in refused.json()["detail"]) == (422, True), refused.json()
    assert "send a JSON object with the header content-type: application/json" in refused.json()["detail"]


async def test_a_method_that_is_not_answered_names_those_that_are(client: Client) -> None:
    refused = await client.get("/process_unified")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert refused.json()["detail"] == "GET is not answered here; this path takes POST"
