"""The page in a real Chromium: files, the documentation, whom it asks, and what it complains of."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.brokers.wire import HeldPort
from query_api.app import Server, create_app, server_config
from streams.settings import Settings
from tests.browser.window import FITS, Chromium, Window, window
from tests.kit.samples import dexcom, glucose_rows
from tests.kit.small_pipeline import SmallPipeline
from tests.kit.waiting import until_async

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

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


async def test_a_file_is_uploaded_and_its_samples_are_browsed(
    chromium: Chromium, url: str, pipeline: SmallPipeline
) -> None:
    async with window(chromium, url) as tab:
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
        await tab.until(FITS)
        await give(tab, b"nonsense")
        await tab.until("document.getElementById('message').textContent.includes('format')")
        assert await tab.evaluate("document.getElementById('file-plot').hidden"), "of the file before"
        assert await tab.complaints(but="status of 422") == []


async def test_a_large_file_says_how_much_of_it_has_gone(chromium: Chromium, url: str, pipeline: SmallPipeline) -> None:
    async with window(chromium, url) as tab:
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


async def test_the_docs_ask_nobody_else_fit_a_phone_and_are_read_by_everybody(chromium: Chromium, url: str) -> None:
    async with window(chromium, f"{url}docs") as tab:
        await tab.show(390, 844)
        operations = "document.querySelectorAll('#swagger-ui .opblock').length"
        await tab.until(f"{operations} >= 14")
        assert "glucast" in await tab.evaluate("document.querySelector('#swagger-ui .title').textContent")
        await tab.evaluate("document.querySelector('#swagger-ui .opblock-summary-control').click()")
        await tab.until("document.querySelector('#swagger-ui .opblock-body .responses-table') !== null")
        assert await tab.complaints() == []
        asked = await tab.asked()
        assert all(address.startswith((url, "data:")) for address in asked), asked
        assert {f"{url}static/swagger-ui-bundle.js", f"{url}openapi.json"} <= {*asked}

        await tab.until(FITS)
        # Of Swagger's own making are an operation's head with buttons in it, and the choices of an answer's example.
        theirs = ("nested-interactive", "select-name")
        assert [each for each in await tab.barriers() if not each.startswith(theirs)] == []
        light = "getComputedStyle(document.getElementById('swagger-ui')).filter === 'none'"
        assert await tab.evaluate(light)
        await tab.show(390, 844, "dark")
        await tab.until(f"!({light})")
        await tab.evaluate("document.querySelector('#swagger-ui .opblock').style.width = '900px'")
        await tab.until(f"!({FITS})")  # what does not fit is seen, also where a phone makes the page smaller for it


async def test_the_page_asks_nobody_else(chromium: Chromium, url: str) -> None:
    async with window(chromium, url) as tab:
        await tab.until("!document.getElementById('nobody').hidden")
        assert await tab.complaints() == []
        assert all(address.startswith((url, "data:")) for address in await tab.asked())


async def test_what_goes_wrong_in_a_page_is_found(chromium: Chromium, url: str) -> None:
    """The watch of the other tests sees what it is there for: what the page says, and what Chromium says of it."""
    async with window(chromium, url) as tab:
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
