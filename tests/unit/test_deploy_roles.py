"""The children of `glucast up`: their settings."""

import asyncio
import dataclasses
import io
import os
import sys

import pytest

from deploy.log_lines import LogLines
from deploy.roles import Counts, api, notifier, trial, workers
from deploy.supervisor import Supervisor


def test_who_is_kept_busy_by_a_backlog_gives_way_unless_the_user_says_otherwise() -> None:
    children = workers(Counts(calc=2), 0, {"GLUCAST_BROKER": "localhost:9092"})
    nice = {child.name: child.environment.get("GLUCAST_NICENESS") for child in children}
    assert nice == {"inference": "5", "ingest": None, "calc-0": "5", "calc-1": "5"}
    told = workers(Counts(), 0, {"GLUCAST_NICENESS": "0"})
    assert {child.environment["GLUCAST_NICENESS"] for child in told} == {"0"}


@pytest.mark.parametrize(
    ("bound", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.3", "10.1.2.3")],  # noqa: S104
)
def test_a_role_is_asked_where_it_listens(bound: str, asked: str) -> None:
    """Else it is never ready: no spare process, nobody simulated, and no word of where the page is."""
    shared = {"GLUCAST_HEALTH_HOST": bound}
    children = [api(bound, 8000, {}), *workers(Counts(), 0, shared), trial("trial", 1, shared), notifier(0, shared)]
    assert {child.host for child in children} == {asked}


async def test_an_api_of_another_address_of_this_machine_is_ready_when_it_answers_there() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.2", 0) as server:
        port = server.sockets[0].getsockname()[1]
        kept = Supervisor(LogLines(["api"], io.StringIO()))
        command = (sys.executable, "-c", "import time; time.sleep(60)")
        kept.add(dataclasses.replace(api("127.0.0.2", port, os.environ), command=command))
        assert (await kept.readiness())["api"].ready
        await kept.stop()
