"""Asking a role whether it is ready: an answer, or none, and never an error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deploy.brokers.wire import HeldPort
from deploy.readiness import Readiness, get, probe


@asynccontextmanager
async def answering(*parts: bytes, pause_seconds: float = 0.0) -> AsyncIterator[int]:
    """The port of a server that sends these bytes to whoever connects, a pause before each."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for part in parts:
                await asyncio.sleep(pause_seconds)
                writer.write(part)
                await writer.drain()
        except ConnectionError:
            pass  # who asked has gone
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def http(status: int, body: bytes) -> bytes:
    return f"HTTP/1.1 {status} Some\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def test_an_answer_has_a_status_and_a_body() -> None:
    async with answering(http(200, b"{}")) as port:
        assert await get(port, "/readyz") == (200, b"{}")
        assert await probe(port) == Readiness(True)
    async with answering(http(404, b"nothing")) as port:
        assert await get(port, "/else") == (404, b"nothing")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"reasons": [{"code": "lag", "text": "7 behind"}, "model"]}', "7 behind, model"),
        (b'{"reasons": {"a": {"code": "lag"}}}', "lag"),
        (b'{"reasons": []}', "not ready"),
        (b"[]", "not ready"),
        (b"<html>", "not ready"),
    ],
)
async def test_a_role_that_is_not_ready_says_why(body: bytes, reason: str) -> None:
    async with answering(http(503, body)) as port:
        assert await probe(port) == Readiness(False, reason)


async def test_a_role_that_does_not_listen_yet_is_starting() -> None:
    nobodys = HeldPort()
    assert await get(nobodys.number, "/readyz") == (0, b"")
    assert await probe(nobodys.number) == Readiness(False, "starting")


@pytest.mark.parametrize(
    "parts", [(b"",), (b"SSH-2.0-OpenSSH\r\n",), (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",)]
)
async def test_what_is_no_answer_is_none(parts: tuple[bytes, ...]) -> None:
    async with answering(*parts) as port:
        assert await get(port, "/readyz") == (0, b"")


async def test_an_answer_that_trickles_in_is_not_waited_for() -> None:
    """The time holds for all of it, not for each byte."""
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 1000, pause_seconds=0.05) as port, asyncio.timeout(20):
        assert await get(port, "/readyz", timeout_seconds=0.3) == (0, b"")


async def test_proxies_of_the_environment_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    nobodys = HeldPort()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{nobodys.number}")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    async with answering(http(200, b"ready")) as port:
        assert await get(port, "/readyz") == (200, b"ready")
