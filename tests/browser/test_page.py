"""The page and the pictures in a real Chromium."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.brokers.wire import HeldPort
from query_api import image
from query_api.app import Server, create_app, server_config
from query_api.figure import figure
from query_api.image import Images
from schemas.errors import UnavailableError
from streams.settings import Settings
from tests.browser.window import Window, window
from tests.kit.charts import fan_chart
from tests.kit.query import FakeBrowser
from tests.kit.samples import dexcom, glucose_rows
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

PNG = b"\x89PNG"
PLOTTED = "document.querySelectorAll('#file-plot .scatterlayer .trace').length >= 14"


@pytest.fixture
async def url(settings: Settings, tmp_path: Path) -> AsyncIterator[str]:
    """The application behind a real server."""
    port = HeldPort()
    config = server_config(create_app(settings, tmp_path / "query"), settings)
    config.port = port.number
    server = Server(config)
    task = asyncio.create_task(server.serve())
    await until_async(lambda: server.started, "the server listens")
    yield f"http://127.0.0.1:{port.number}/"
    server.should_exit = True
    await task


async def give(tab: Window, raw: bytes) -> None:
    """Choose a file in the page's file field."""
    await tab.evaluate("document.getElementById('show-file').click()")
    await tab.evaluate(
        f"""(() => {{
          const chosen = new DataTransfer();
          chosen.items.add(new File([{json.dumps(raw.decode())}], "export.csv"));
          const field = document.getElementById("export");
          field.files = chosen.files;
          field.dispatchEvent(new Event("change"));
        }})()"""
    )


async def drop(tab: Window, raw: bytes) -> None:
    """Drop a file on the page, whatever it shows."""
    await tab.evaluate("document.getElementById('show-live').click()")
    await tab.evaluate(
        f"""(() => {{
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([{json.dumps(raw.decode())}], "dropped.csv"));
          const kinds = ["dragover", "drop"];
          for (const kind of kinds) document.body.dispatchEvent(new DragEvent(kind, {{dataTransfer, bubbles: true}}));
        }})()"""
    )


async def test_a_file_is_uploaded_and_its_samples_are_browsed(url: str, pipeline: SmallPipeline) -> None:
    async with window(url) as tab:
        await tab.show(390, 844, "dark")
        await drop(tab, dexcom(glucose_rows(121)))
        await tab.until(PLOTTED)
        await tab.until_nothing_is_cut_off("file-plot")
        assert await tab.barriers() == []
        assert await tab.evaluate("document.getElementById('file-progress').hidden")
        assert await tab.evaluate("document.getElementById('index').min") == "-13"
        title = await tab.until("document.querySelector('#file-plot .gtitle').textContent")
        slider = "document.getElementById('index')"
        await tab.evaluate(f"{slider}.value = 12, {slider}.dispatchEvent(new Event('input'))")
        await tab.until(f"document.querySelector('#file-plot .gtitle').textContent !== {json.dumps(title)}")
        await tab.until("document.documentElement.scrollWidth <= innerWidth")
        await give(tab, b"nonsense")
        await tab.until("document.getElementById('message').textContent.includes('format')")
        assert await tab.evaluate("document.getElementById('file-plot').hidden"), "of the file before"
        assert await tab.complaints(but="status of 422") == []


async def test_a_large_file_says_how_much_of_it_has_gone(url: str, pipeline: SmallPipeline) -> None:
    async with window(url) as tab:
        await tab.evaluate(
            """((progress) => {
              window.shares = [];
              new MutationObserver(() => window.shares.push(progress.value)).observe(progress, {attributes: true});
            })(document.getElementById("file-progress")), 0"""
        )
        await tab.sends_slowly(200_000)
        await drop(tab, dexcom(glucose_rows(2000)))
        await tab.until("window.shares.some((share) => share > 0 && share < 1)")
        await tab.until(PLOTTED)
        assert await tab.evaluate("document.getElementById('file-progress').hidden")


async def test_the_docs_are_shown_without_asking_anybody_else(url: str) -> None:
    async with window(f"{url}docs") as tab:
        operations = "document.querySelectorAll('#swagger-ui .opblock').length"
        await tab.until(f"{operations} >= 14")
        assert "glucast" in await tab.evaluate("document.querySelector('#swagger-ui .title').textContent")
        await tab.evaluate("document.querySelector('#swagger-ui .opblock-summary-control').click()")
        await tab.until("document.querySelector('#swagger-ui .opblock-body .responses-table') !== null")
        assert await tab.complaints() == []
        asked = await tab.asked()
        assert all(address.startswith((url, "data:")) for address in asked), asked
        assert {f"{url}static/swagger-ui-bundle.js", f"{url}openapi.json"} <= {*asked}


async def test_the_page_asks_nobody_else(url: str) -> None:
    async with window(url) as tab:
        await tab.until("document.getElementById('message').textContent.includes('publish readings')")
        assert await tab.complaints() == []
        assert all(address.startswith((url, "data:")) for address in await tab.asked())


async def test_what_goes_wrong_in_a_page_is_found(url: str) -> None:
    """The watch of the other tests sees what it is there for: what the page says, and what Chromium says of it."""
    async with window(url) as tab:
        await tab.evaluate(
            """(() => {
              document.head.append(Object.assign(document.createElement("script"), {src: "https://cdn.example/x.js"}));
              console.error("the page says so");
              setTimeout(() => { throw new Error("nobody catches it"); });
              Promise.reject(new Error("nobody waits for it"));
              fetch("/static/missing.js");
            })()"""
        )
        for word in ("cdn.example", "the page says so", "nobody catches it", "nobody waits for it", "missing.js"):

            async def is_heard(word: str = word) -> bool:
                return any(word in each for each in await tab.complaints())

            await until_async(is_heard, f"a complaint of {word}")
        assert all("missing.js" not in each for each in await tab.complaints(but="status of 404"))


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
@pytest.mark.parametrize("after_seconds", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
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
