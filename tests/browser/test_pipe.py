"""The pipe to Chromium is closed while a thread reads from it, and its file descriptors go to the next browser."""

import contextlib
import fcntl
import os
import struct
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from query_api.image import pipe_class


class Reader(threading.Thread):
    """Reads once, as choreographer does: it waits in there until Chromium has said something."""

    def __init__(self, pipe: Any) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self.messages: Any = None

    def run(self) -> None:
        with contextlib.suppress(Exception):  # that it is closed
            self.messages, _ = self._pipe.read_jsons()


@contextlib.contextmanager
def opened() -> Iterator[tuple[Any, int]]:
    """A pipe, and the end of it that Chromium has."""
    pipe = pipe_class()()
    chromium = os.dup(pipe.from_external_to_choreo)
    try:
        pipe.open()
        yield pipe, chromium
    finally:
        pipe.close()
        os.close(chromium)


def reading(pipe: Any, chromium: int) -> Reader:
    """A reader that has taken all there is, and waits for more."""
    reader = Reader(pipe)
    reader.start()
    deadline = time.monotonic() + 30
    while not (_is_empty(chromium) and _sleeps(reader)):
        assert reader.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return reader


def _is_empty(end: int) -> bool:
    return struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, b"\0" * 4)) == (0,)


def _sleeps(thread: threading.Thread) -> bool:
    with open(f"/proc/self/task/{thread.native_id}/stat") as stat:  # noqa: PTH123 - not there for long
        return stat.read().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"method": "Inspec', id="half a message"),
        pytest.param(b'{"id": 7}\0{bye}\n', id="a message and goodbye"),
    ],
)
def test_a_reader_has_left_when_its_pipe_is_closed(said: bytes) -> None:
    with opened() as (pipe, chromium):
        os.write(chromium, said)
        reader = reading(pipe, chromium)
        pipe.close()
        reader.join(10)
        assert not reader.is_alive()
        assert (reader.messages == [{"id": 7}]) == said.endswith(b"{bye}\n")


def test_a_reader_takes_nothing_from_the_pipe_of_the_next_browser() -> None:
    with opened() as (old, dying):
        os.write(dying, b'{"method": "Inspector.detached"}')
        reader = reading(old, dying)
        old.close()
        with opened() as (new, chromium):  # under the numbers of the old one: Linux gives the lowest that are free
            with contextlib.suppress(BrokenPipeError):
                os.write(dying, b" ")
            os.write(chromium, b'{"id": 0}\0')
            reader.join(10)
            assert new.read_jsons(blocking=False)[0] == [{"id": 0}]


def test_a_reader_that_is_told_goodbye_closes_the_pipe() -> None:
    with opened() as (pipe, chromium):
        os.write(chromium, b"{bye}\n")
        reader = Reader(pipe)
        reader.start()
        reader.join(10)
        assert not reader.is_alive()
        assert not pipe.is_ready()
