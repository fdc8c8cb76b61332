"""Connections that keep the API waiting take no place for long, and none from those that ask."""

import asyncio
import contextlib
import logging
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
import uvicorn
from fastapi import FastAPI, Request
from pydantic import StringConstraints, TypeAdapter
from starlette.responses import Response

from deploy.brokers.wire import LOOPBACK, HeldPort
from query_api import connections
from query_api.access import access
from query_api.app import create_app, server_config
from query_api.event_log import MOST_WAITING
from streams.settings import Settings
from tests.kit.followed import Followed, reading
from tests.kit.keys import person_in
from tests.kit.waiting import until_async

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PLACES = 32
LONG = 3600.0
PATIENCE = 60.0
"""Of a test: the machine may be busy elsewhere."""
GET = b"GET /asked HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /asked HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"


class Served:
    """A server with the routes of these tests beside the application's own, which nothing runs behind."""

    def __init__(self, port: int, key: str, followed: Followed) -> None:
        self.port, self.key, self.followed = port, key, followed
        self.begun = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.go_on = asyncio.Event()

    async def connected(self, first: bytes = b"") -> Peer:
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        self.writers.append(writer)
        writer.write(first)
        await writer.drain()
        return reader, writer

    async def answer(self, request: bytes = GET) -> bytes:
        """The head of the answer to a request on a connection of its own."""
        reader, writer = await self.connected(request)
        try:
            async with asyncio.timeout(PATIENCE):
                return await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """No wait ends by itself, but those that a test asks for."""

    def set_to(**seconds: float) -> None:
        for name, value in seconds.items():
            monkeypatch.setattr(connections, name, value)

    set_to(HEADER_SECONDS=LONG, BODY_SECONDS=LONG, IDLE_SECONDS=LONG, READ_SECONDS=LONG)
    return set_to


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    key = person_in(tmp_path / "keys", "anna")
    app = create_app(
        Settings(
            rate_limit="100000/minute",
            waiters=PLACES // 4,
            event_clients=PLACES // 4,
            api_keys_file=tmp_path / "keys",
        ),
        tmp_path,
    )
    app.router.lifespan_context = nothing_behind
    port = HeldPort()
    here = Served(port.number, key, Followed(tmp_path / "followed"))
    app.state.services = SimpleNamespace(event_streams=here.followed.streams)

    @app.get("/slow")
    @access("everybody")
    async def slow() -> int:
        here.begun += 1
        await here.go_on.wait()
        return 1

    @app.get("/broken")
    @access("everybody")
    async def broken(request: Request) -> None:
        TypeAdapter(Annotated[str, StringConstraints(max_length=3)]).validate_python(request.headers["x-secret"])

    @app.get("/large")
    @access("everybody")
    async def large() -> Response:
        here.begun += 1
        return Response(bytes(64 << 20))

    @app.api_route("/asked", methods=["GET", "POST"])
    @access("everybody", body_bytes=1 << 20)
    async def asked(request: Request) -> int:
        return len(await request.body())

    config = server_config(app, Settings(waiters=PLACES // 4, event_clients=PLACES // 4))
    config.host, config.port, config.timeout_keep_alive = LOOPBACK, port.number, int(LONG)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until_async(lambda: server.started, "the server listens")
    yield here
    here.go_on.set()
    for writer in here.writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in here.writers), return_exceptions=True)
    server.should_exit = True
    await task
    here.followed.model.close()


@contextlib.asynccontextmanager
async def nothing_behind(app: FastAPI) -> AsyncIterator[None]:
    yield


async def ends(peer: Peer) -> bytes:
    """What came until the server ended the connection."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await peer[0].read()
    except ConnectionError:
        return b""


WAITING = {
    "silent": b"",
    "an empty line": b"\r\n",
    "half a header": b"GET /asked HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    "half a body": POST + b"{",
    "half a body, refused": POST.replace(b"100000", b"9000000") + b"{",
    "between requests": GET,
}


@pytest.mark.parametrize("first", WAITING.values(), ids=WAITING)
async def test_a_crowd_that_waits_makes_room_for_who_asks(served: Served, first: bytes) -> None:
    for _ in range(3 * PLACES):
        await served.connected(first)
    for _ in range(5):
        assert (await served.answer()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("first", WAITING.values(), ids=WAITING)
async def test_every_wait_for_a_client_ends(
    served: Served, patience: Callable[..., None], first: bytes
) -> None:  # fmt: skip
    patience(HEADER_SECONDS=0.2, BODY_SECONDS=0.2, IDLE_SECONDS=0.2)
    peer = await served.connected(first)
    came = await ends(peer)
    assert came.startswith((b"HTTP/1.1 200", b"HTTP/1.1 413")) or came == b""


async def test_a_header_that_comes_byte_by_byte_ends_too(served: Served, patience: Callable[..., None]) -> None:
    patience(HEADER_SECONDS=0.3)
    reader, writer = await served.connected(GET[:-4])

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"\r\nx: y")
                await writer.drain()
                await asyncio.sleep(0.02)

    async with asyncio.timeout(PATIENCE):
        await trickle()


async def test_a_body_that_comes_byte_by_byte_ends_too(served: Served, patience: Callable[..., None]) -> None:
    patience(BODY_SECONDS=0.3)
    reader, writer = await served.connected(POST)
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)


async def test_guesses_are_counted_by_whom_a_proxy_speaks_for(served: Served) -> None:
    """Of one on this machine, or that FORWARDED_ALLOW_IPS names: else all of its clients were one address."""

    async def status(key: str, client: str) -> int:
        head = f"GET /nothing HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nX-Forwarded-For: {client}\r\n\r\n"
        return int((await served.answer(head.encode())).split(b" ")[1])

    guesses = [await status(f"guess-{number}", "203.0.113.1") for number in range(21)]
    assert guesses == [403] * 20 + [429]
    assert await status(served.key, "203.0.113.1") == 429
    assert await status(served.key, "203.0.113.2") == 404
    assert await status(served.key, "203.0.113.2, 203.0.113.1") == 429, "the last is what the proxy itself has seen"


CHUNK = bytes(1 << 20)


@pytest.mark.parametrize("path", ["/process_unified", "/quick_plot", "/api/v1/entries", "/subjects/anna/readings"])
async def test_a_gigabyte_in_chunks_is_neither_read_nor_kept(served: Served, path: str) -> None:
    """With a key that may send: without one nothing of a body is read."""
    header = "api-secret" if path.startswith("/api/") else "x-api-key"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{header}: {served.key}\r\n"
    reader, writer = await served.connected(
        f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    before, sent = resident_bytes(), 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(60):
            while sent < 1 << 30 and not reader.at_eof():
                writer.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
                await writer.drain()
                sent += len(CHUNK)
    assert sent < 128 << 20, "it was read on"
    assert resident_bytes() - before < 64 << 20, "it was kept"
    answer = await ends((reader, writer))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")


def resident_bytes() -> int:
    """Of this process, in which the server runs."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_slow_body_that_keeps_coming_is_heard_to_its_end(
    served: Served, patience: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece comes right behind each look whether one came: the next finds it, however late this process is."""
    patience(BODY_SECONDS=0.1, BODY_BYTES=1)
    look, piece = connections.PatientProtocol._check_body, bytes(20_000)

    def looked(protocol: connections.PatientProtocol) -> None:
        look(protocol)
        writer.write(piece)

    monkeypatch.setattr(connections.PatientProtocol, "_check_body", looked)
    reader, writer = await served.connected(POST + piece)
    async with asyncio.timeout(PATIENCE):
        assert b" 200 " in await reader.readline()


async def test_who_is_being_answered_loses_no_place_and_no_time(served: Served, patience: Callable[..., None]) -> None:
    patience(HEADER_SECONDS=0.2, BODY_SECONDS=0.2, IDLE_SECONDS=0.2)
    slow = [await served.connected(GET.replace(b"asked", b"slow")) for _ in range(PLACES // 4)]
    await until_async(lambda: served.begun == len(slow), "all of them are being answered")
    crowd = [await served.connected() for _ in range(3 * PLACES)]
    await asyncio.gather(*map(ends, crowd))
    served.go_on.set()
    for reader, _ in slow:
        async with asyncio.timeout(PATIENCE):
            assert b" 200 " in await reader.readline()


async def test_an_address_leaves_places_to_others(served: Served) -> None:
    """All of its connections are being answered: a further one gets none, and they go on."""
    slow = [await served.connected(GET.replace(b"asked", b"slow")) for _ in range(PLACES // 2)]
    await until_async(lambda: served.begun == len(slow), "all of them are being answered")
    assert await ends(await served.connected(GET)) == b""
    served.go_on.set()
    for reader, _ in slow:
        assert b" 200 " in await reader.readline()
    await until_async(lambda: _asked(served), "there are places again")


async def _asked(served: Served) -> bool:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        return (await served.answer()).startswith(b"HTTP/1.1 200")
    return False


async def test_a_header_without_end_is_not_kept(served: Served) -> None:
    reader, writer = await served.connected(GET[:-4] + b"\r\nx: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            writer.write(b"y" * (64 << 10))
            await writer.drain()
    came = await ends((reader, writer))
    assert came == b"" or came.startswith(b"HTTP/1.1 431")


async def test_trailers_without_end_are_not_kept(served: Served) -> None:
    reader, writer = await served.connected(
        b"POST /asked HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx: "
    )
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            writer.write(b"y" * (64 << 10))
            await writer.drain()
    await ends((reader, writer))


async def test_who_does_not_read_the_answer_is_given_up(served: Served, patience: Callable[..., None]) -> None:
    patience(READ_SECONDS=0.3)
    _, writer = await served.connected()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(GET.replace(b"asked", b"large"))
    await until_async(lambda: served.begun, "it is being answered")
    await until_async(lambda: _nobody_writes(served), "the connection is ended")


async def test_who_follows_events_and_reads_none_gives_its_place_back(
    served: Served, patience: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not because too many wait for it: it is cut off in the middle of being sent one."""
    patience(READ_SECONDS=0.3)
    is_full = asyncio.Event()
    pause = connections.PatientProtocol.pause_writing

    def noted(protocol: connections.PatientProtocol) -> None:
        pause(protocol)
        is_full.set()

    monkeypatch.setattr(connections.PatientProtocol, "pause_writing", noted)
    head = GET.removesuffix(b"\r\n") + f"X-API-Key: {served.key}\r\n\r\n".encode()
    reader, writer = await served.connected(head.replace(b"/asked", b"/subjects/anna/events"))
    async with asyncio.timeout(PATIENCE):
        await reader.readuntil(b"retry: 2000")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    streams = served.followed.streams
    assert streams.clients == 1
    for step in range(MOST_WAITING // 4):  # together more than what lies between holds
        served.followed.apply(reading("anna", step, reason="x" * (400 << 10)))
    await until_async(is_full.is_set, "nothing more goes into the connection")
    await until_async(lambda: streams.clients == 0, "its place is free")


def _nobody_writes(served: Served) -> bool:
    return not [task for task in asyncio.all_tasks() if "run_asgi" in repr(task)]


@pytest.mark.parametrize("first", [WAITING["half a body"], GET.replace(b"asked", b"slow")])
async def test_a_client_that_leaves_is_no_error(served: Served, first: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _, writer = await served.connected(first)
    await until_async(lambda: [t for t in asyncio.all_tasks() if "run_asgi" in repr(t)], "the request has begun")
    writer.transport.abort()
    served.go_on.set()
    await until_async(lambda: _nobody_writes(served), "the request has ended")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_error_of_our_own_says_where_and_not_whom_it_is_about(
    served: Served, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await served.answer(GET.replace(b"asked", b"broken")[:-2] + b"X-Secret: quillfeather 173.4567\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"application/problem+json" in answer
    said = caplog.text + "".join(capsys.readouterr())
    assert "ValidationError" in said
    assert "in broken" in said
    assert "quillfeather" not in said
    assert "173.4567" not in said


def test_there_are_places_for_all_who_may_follow_events(tmp_path: Path) -> None:
    """An address may take half of the places; one whose clients may follow must not be turned away for that."""
    settings = Settings(waiters=1, event_clients=300)
    assert server_config(create_app(settings, tmp_path), settings).limit_concurrency == 4 * 300 + 1
