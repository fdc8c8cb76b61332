"""The Chromium that draws pictures: it dies, hangs and is stopped while it starts, and nothing is left of it."""

import asyncio
import contextlib
import gc
import os
import signal
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from query_api import image
from query_api.figure import figure
from query_api.image import Images
from schemas.errors import UnavailableError
from tests.kit.charts import fan_chart
from tests.kit.query import FakeBrowser
from tests.kit.waiting import until_async

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def nothing_left_of_others() -> None:
    """What other files' tests have left says so now, and in none of ours."""
    gc.collect()


@pytest.fixture
def all_errors_retrieved(nothing_left_of_others: None, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task ends with an error that asyncio would log in the middle of whatever runs when it is collected."""
    yield
    gc.collect()
    said = [record.getMessage() for when in ("call", "teardown") for record in caplog.get_records(when)]
    assert not [message for message in said if "never retrieved" in message]


@contextlib.asynccontextmanager
async def drawing() -> AsyncIterator[Images]:
    images = Images()
    task = asyncio.create_task(images.run())
    try:
        await until_async(lambda: images.ready, "Chromium is ready", 60)
        yield images
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_pictures_have_their_size_and_are_drawn_once() -> None:
    async with drawing() as images:
        pictures = await asyncio.gather(*(images.render("one", lambda: figure(fan_chart())) for _ in range(5)))
        assert len(set(pictures)) == 1
        assert images.renders == 1
        assert struct.unpack(">II", pictures[0][16:24]) == (1000, 600)
        assert (await images.render("two", lambda: figure(fan_chart()), "svg")).startswith(b"<svg")


@pytest.mark.usefixtures("all_errors_retrieved")
async def test_a_browser_that_dies_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(image, "RESTART_SECONDS", 0.05)
    async with drawing() as images:
        await images.render("one", lambda: figure(fan_chart()))
        images._browser.subprocess.kill()

        async def drawn() -> bytes | None:
            with contextlib.suppress(UnavailableError):
                return await images.render("two", lambda: figure(fan_chart()))
            return None

        assert (await until_async(drawn, "a picture by another Chromium", 60)).startswith(PNG)


def _reads_a_log(thread: threading.Thread) -> bool:
    """Kaleido's thread for what its Chromium says. It is no daemon: a process does not end before it."""
    return thread.name.startswith("browser_proc")


@pytest.mark.usefixtures("all_errors_retrieved")
@pytest.mark.parametrize("after_seconds", [0.0, 0.05, 0.2, 0.8])
async def test_stopped_while_chromium_starts_nothing_is_left_of_it(after_seconds: float) -> None:
    task = asyncio.create_task(Images().run())
    await asyncio.sleep(after_seconds)
    task.cancel()
    await asyncio.wait([task])
    await until_async(lambda: not any(map(_reads_a_log, threading.enumerate())), "nobody reads Chromium's log")


@pytest.mark.usefixtures("all_errors_retrieved")
async def test_a_chromium_that_hangs_is_killed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "CLOSE_SECONDS", 0.5)
    async with drawing() as images:
        await images.render("one", lambda: figure(fan_chart()))
        hanging = images._browser.subprocess
        os.killpg(hanging.pid, signal.SIGSTOP)
    await until_async(lambda: hanging.poll() is not None, "Chromium has gone")
    await until_async(lambda: not any(map(_reads_a_log, threading.enumerate())), "nobody reads Chromium's log")


@pytest.mark.usefixtures("all_errors_retrieved")
async def test_a_chromium_that_hangs_while_it_starts_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silent = tmp_path / "chromium"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    monkeypatch.setattr(image, "START_SECONDS", 0.5)
    monkeypatch.setattr(image, "CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(image, "RESTART_SECONDS", 0.05)
    monkeypatch.setenv("BROWSER_PATH", str(silent))
    async with drawing() as images:
        assert images.problem == "Chromium does not start (TimeoutError)"
        monkeypatch.undo()
        await until_async(lambda: images.problem is None, "Chromium starts", 60)
        assert await images.render("one", lambda: figure(fan_chart()))


async def test_who_waits_in_vain_for_a_slow_start_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[FakeBrowser] = []
    go_on = asyncio.Event()

    async def slow() -> FakeBrowser:
        await go_on.wait()
        opened.append(FakeBrowser())
        return opened[-1]

    monkeypatch.setattr(image, "_open", slow)
    monkeypatch.setattr(image, "RENDER_SECONDS", 0.05)
    images = Images()
    task = asyncio.create_task(images.run())
    with pytest.raises(UnavailableError):
        await images.render("one", lambda: figure(fan_chart()))
    monkeypatch.setattr(image, "RENDER_SECONDS", 20.0)
    go_on.set()
    assert await images.render("one", lambda: figure(fan_chart()))
    await asyncio.sleep(0)  # a browser that was said to have failed would be ended now
    assert images.ready
    assert len(opened) == 1
    task.cancel()
    await asyncio.wait([task])


async def test_without_chromium_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    class ChromeNotFoundError(RuntimeError):
        """As choreographer raises it."""

    async def missing() -> None:
        raise ChromeNotFoundError

    monkeypatch.setattr(image, "_open", missing)
    images = Images()
    task = asyncio.create_task(images.run())
    with pytest.raises(UnavailableError, match="install Debian's chromium"):
        await images.render("one", lambda: figure(fan_chart()))
    task.cancel()
    await asyncio.wait([task])
