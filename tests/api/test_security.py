"""Who may ask, how often, from where; and what is never written down."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from query_api import auth
from query_api.app import create_app
from query_api.auth import Keys
from query_api.callers import check_exposure
from query_api.origins import is_loopback
from query_api.rate_limit import RateLimit
from schemas.errors import ConfigurationError
from streams.settings import Settings
from tests.kit.keys import key_in, old_key, person_in
from tests.kit.query import Client, serving

COMPOSE = {"host": "0.0.0.0", "allow_unauthenticated": True, "allowed_hosts": "api"}  # noqa: S104
PROTECTED = ("/process_unified", "/draw_a_plot", "/quick_plot", "/cache_management", "/subjects/anna/readings")


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def key(keys_file: Path) -> str:
    key, digest = old_key()
    keys_file.write_text(f"# who may ask\nclinic {digest}\n")
    return key


@pytest.fixture
async def guarded(
    settings: Settings, tmp_path: Path, keys_file: Path, key: str
) -> AsyncIterator[tuple[Client, str]]:  # fmt: skip
    locked = settings.model_copy(update={"api_keys_file": keys_file, "rate_limit": "20/minute"})
    async with serving(locked, tmp_path / "query") as client:
        yield client, key


async def test_a_key_is_asked_for_before_the_body_is_looked_at(guarded: tuple[Client, str]) -> None:
    client, key = guarded
    for path in PROTECTED:
        missing = await client.post(path, content=b"nonsense")
        assert (missing.status_code, "API key required" in missing.json()["detail"]) == (401, True)
    wrong = await client.post("/draw_a_plot", content=b"nonsense", headers={"x-api-key": "guess"})
    assert (wrong.status_code, wrong.json()["detail"]) == (403, "Invalid API key")
    right = await client.post("/draw_a_plot", content=b"nonsense", headers={"x-api-key": key})
    assert right.status_code == 422
    assert (await client.get("/subjects/anna/forecast")).status_code == 401


async def test_what_needs_no_key_is_open(guarded: tuple[Client, str]) -> None:
    client, _ = guarded
    for path in ("/health", "/livez", "/readyz", "/metrics", "/", "/static/page.js", "/docs", "/openapi.json"):
        assert (await client.get(path)).status_code == 200, path
    assert (await client.post("/convert_to_unified")).status_code == 422


async def test_conversions_have_a_rate_of_their_own_by_address(
    settings: Settings, tmp_path: Path, keys_file: Path, key: str
) -> None:
    locked = settings.model_copy(update={"api_keys_file": keys_file, "convert_rate_limit": "2/minute"})
    async with serving(locked, tmp_path / "query") as client:
        answers = [await client.post("/convert_to_unified", headers={"x-api-key": key}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [422, 422, 429]
        assert int(answers[-1].headers["retry-after"]) > 0
        assert (await client.get("/subjects", headers={"x-api-key": key})).status_code == 200


async def test_too_many_requests_of_a_key_are_told_when_to_come_back(guarded: tuple[Client, str]) -> None:
    client, key = guarded
    statuses = [(await client.get("/subjects", headers={"x-api-key": key})).status_code for _ in range(20)]
    assert set(statuses) == {200}
    limited = await client.get("/subjects", headers={"x-api-key": key})
    assert limited.status_code == 429
    assert 1 <= int(limited.headers["retry-after"]) <= 60


async def test_guessing_keys_is_limited_too(guarded: tuple[Client, str]) -> None:
    client, _ = guarded
    statuses = [(await client.get("/subjects", headers={"x-api-key": str(n)})).status_code for n in range(22)]
    assert statuses[0] == 403
    assert statuses[-1] == 429


async def test_an_address_that_guessed_too_often_is_not_heard_even_when_it_guesses_right(
    guarded: tuple[Client, str],
) -> None:
    client, key = guarded
    statuses = [(await client.get("/subjects", headers={"x-api-key": str(n)})).status_code for n in range(30)]
    assert statuses == [403] * 20 + [429] * 10
    right = await client.get("/subjects", headers={"x-api-key": key})
    assert (right.status_code, int(right.headers["retry-after"]) > 0) == (429, True)


async def test_a_key_is_for_what_it_says_and_for_whom_it_names(
    settings: Settings, tmp_path: Path, keys_file: Path
) -> None:
    reader = person_in(keys_file, "anna", scopes=["read"])
    writer = person_in(keys_file, "anna", scopes=["write"])
    everybody = key_in(keys_file, "everybody", scopes=["read", "write"])
    asks: list[tuple[str, str, str, int, str | None]] = [
        ("GET", "/subjects/anna/forecasts", reader, 200, None),
        ("GET", "/subjects/anna/forecasts", everybody, 200, None),
        ("GET", "/subjects/anna/forecasts", writer, 403, "wrong_scope"),
        ("GET", "/subjects/eve/forecasts", reader, 403, "foreign_subject"),
        ("POST", "/subjects/anna/readings", writer, 422, None),
        ("POST", "/subjects/%61nna/readings", writer, 422, None),
        ("POST", "/subjects/anna/readings", reader, 403, "wrong_scope"),
        ("POST", "/subjects/eve/readings", writer, 403, "foreign_subject"),
        ("DELETE", "/subjects/anna/window", writer, 403, "wrong_scope"),
        ("POST", "/process_unified", writer, 422, None),
        ("POST", "/process_unified", reader, 403, "wrong_scope"),
        ("POST", "/draw_a_plot", reader, 422, None),
        ("GET", "/models", reader, 403, "not_for_everybody"),
        ("POST", "/draw_a_plot", everybody, 422, None),
        ("POST", "/cache_management", everybody, 403, "wrong_scope"),
        ("GET", "/subjects", reader, 200, None),
        ("GET", "/nothing", reader, 404, None),
    ]
    async with serving(settings.model_copy(update={"api_keys_file": keys_file}), tmp_path / "query") as client:
        for method, path, key, status, code in asks:
            answer = await client.request(method, path, headers={"x-api-key": key})
            assert answer.status_code == status, (method, path, answer.text)
            assert code is None or answer.json()["code"] == code


async def test_neither_keys_nor_subjects_nor_handles_are_logged(
    guarded: tuple[Client, str], capsys: pytest.CaptureFixture[str]
) -> None:
    client, key = guarded
    headers = {"x-api-key": key}
    await client.get("/subjects/very-secret-name/forecast", headers=headers)
    await client.post("/draw_a_plot", json={"handle": "ab" * 32, "index": 0}, headers=headers)
    await client.post("/cache_management", params={"action": "delete", "handle": "ab" * 32}, headers=headers)
    written = "".join(capsys.readouterr())
    assert "/subjects/{subject_id}/forecast" in written
    assert "clinic" in written
    for secret in (key, key[:8], "very-secret-name", "ab" * 8):
        assert secret not in written
    metrics = (await client.get("/metrics")).text
    assert "very-secret-name" not in metrics


def test_keys_are_read_again_when_their_file_changes(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CHECK_SECONDS", 0.0)
    (first, one), (second, two) = old_key(), old_key()
    keys_file.write_text(f"one {one}\n")
    keys = Keys(keys_file)

    def names(*texts: str) -> list[str | None]:
        return [key and key.name for text in texts for key in [keys.find([text])]]

    assert names(first, second) == ["one", None]
    keys_file.write_text(f"two {two.upper()}  # replaces one\n")
    os.utime(keys_file, ns=(1, 1))
    assert names(first, second) == [None, "two"]
    keys_file.write_text("two not-a-digest\n")
    assert names(second) == ["two"]
    keys_file.unlink()
    assert names(second) == ["two"]


@pytest.mark.parametrize("text", ["key", "name " + "0" * 63, "a b " + "0" * 64, "\udcff"])
def test_a_file_of_keys_with_a_damaged_line_is_refused(keys_file: Path, text: str) -> None:
    keys_file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError, match="API keys"):
        Keys(keys_file)


def test_addresses_that_others_reach_need_keys_or_a_decision() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org"):  # noqa: S104
        with pytest.raises(ConfigurationError, match="reachable from other machines"):
            check_exposure(Settings(host=host))
        check_exposure(Settings(host=host, allow_unauthenticated=True))
        check_exposure(Settings(host=host, api_keys_file=Path("keys")))
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert is_loopback(host)
        check_exposure(Settings(host=host))


def test_a_rate_that_is_none_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="120/minute"):
        RateLimit("often")


async def test_foreign_pages_cannot_use_a_service_without_keys(client: Client) -> None:
    params = {"action": "flush"}
    foreign = await client.post("/cache_management", params=params, headers={"origin": "https://evil.example"})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "foreign_origin")
    rebound = await client.post("/cache_management", params=params, headers={"host": "evil.example:8000"})
    assert (rebound.status_code, rebound.json()["code"]) == (403, "foreign_host")
    own = await client.get("/subjects", headers={"origin": "http://127.0.0.1"})
    assert own.status_code == 200


async def test_listed_origins_may_call(settings: Settings, tmp_path: Path) -> None:
    shared = settings.model_copy(update={"cors_origins": ("https://app.example",)})
    async with serving(shared, tmp_path / "query") as client:
        headers = {"origin": "https://app.example"}
        answer = await client.get("/subjects", headers=headers)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        preflight = await client.options(
            "/draw_a_plot", headers=headers | {"access-control-request-method": "POST"}
        )  # fmt: skip
        assert preflight.status_code == 200


async def test_every_answer_carries_protective_headers(client: Client) -> None:
    for path in ("/", "/subjects", "/nothing", "/static/page.js"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (await client.get("/subjects")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "page.html", "app.py", "plotly.min.js.map"])
async def test_only_named_files_are_served(client: Client, name: str) -> None:
    assert (await client.get(f"/static/{name}")).status_code == 404


MALFORMED = [
    {"host": "[::1"},
    {"host": "[::1]]:80"},
    {"host": "local host"},
    {"host": "localhost:port"},
    {"host": "localhost/..//evil.example"},
    {"host": "user@localhost"},
    {"host": "\xff\xfe"},
    {"host": ""},
    {"host": "a" * 300},
    {"origin": "http://[::1"},
    {"origin": "http://[v1.x]"},
    {"origin": "http://a b"},
    {"origin": "\xff://x"},
    {"origin": "http://127.0.0.1/path"},
]


@pytest.mark.parametrize("headers", MALFORMED, ids=str)
async def test_names_that_are_none_are_refused_in_words(tmp_path: Path, headers: dict[str, str]) -> None:
    async with Client(create_app(Settings(), tmp_path)) as client:
        for path in ("/livez", "/subjects/anna/forecast", "/nothing"):
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            answer = await client.get(path, headers=raw)
            assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
            assert answer.json()["code"] == f"malformed_{next(iter(headers))}"


async def test_two_hosts_are_none(tmp_path: Path) -> None:
    async with Client(create_app(Settings(), tmp_path)) as client:
        answer = await client.get("/livez", headers=[(b"host", b"localhost"), (b"host", b"evil.example")])
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_host")


@pytest.mark.parametrize(
    ("host", "settings", "served"),
    [
        ("localhost:8000", {}, True),
        ("LOCALHOST", {}, True),
        ("[::1]:8000", {}, True),
        ("127.0.0.9", {}, True),
        ("192.0.2.7", {}, False),
        ("glucast.example", {"allowed_hosts": "glucast.example, b.example"}, True),
        ("evil.example", {"allowed_hosts": "glucast.example"}, False),
        ("localhost:8000", COMPOSE, True),
        ("api:8000", COMPOSE, True),
        ("192.0.2.7:8000", COMPOSE, True),
        ("[2001:db8::7]", COMPOSE, True),
        ("evil.example:8000", COMPOSE, False),
        ("localhost.evil.example", COMPOSE, False),
        ("anything.example", COMPOSE | {"allowed_hosts": "*"}, True),
        ("glucast.lan", {"host": "glucast.lan", "allow_unauthenticated": True}, True),
    ],
)
async def test_only_known_names_are_served(
    tmp_path: Path, host: str, settings: dict[str, object], served: bool
) -> None:
    """Also in a container, which listens everywhere: a page whose name points here must not read what is answered."""
    async with Client(create_app(Settings(**settings), tmp_path)) as client:  # type: ignore[arg-type]
        for path in ("/livez", "/docs", "/nothing"):
            answer = await client.get(path, headers={"host": host})
            assert (answer.status_code != 403) == served, answer.text
            assert served or answer.json()["code"] == "foreign_host"
