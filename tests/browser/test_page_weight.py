"""How much the page brings and asks for, in whose colours its plots are, and what can be saved from it."""

import json
from pathlib import Path

import httpx
import pytest

from query_api.routers.page import PLOTLY
from streams.settings import Settings
from tests.browser.test_live_page import PLOTTED, api, choose, publish, text
from tests.browser.window import Chromium, Window, window
from tests.kit.small_pipeline import SmallPipeline

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

MOST_BYTES = 1_300_000
MOST_REQUESTS = 40
PAPER = "getComputedStyle(document.querySelector('#plot .main-svg')).backgroundColor"
DARK, LIGHT = "rgb(29, 35, 41)", "rgb(255, 255, 255)"


async def sizes(client: httpx.AsyncClient, tab: Window) -> dict[str, int]:
    """Bytes of each address that the page has asked for, but for the stream of events."""
    asked = {address.partition("#")[0] for address in await tab.asked() if not address.endswith("/events")}
    return {address: len((await client.get(address)).content) for address in asked if address.startswith("http")}


async def shown(client: httpx.AsyncClient, tab: Window) -> None:
    await publish(client, "anna", range(121))
    await choose(tab, "anna")
    await tab.until(PLOTTED)


async def test_the_page_is_light_and_its_large_script_is_kept(
    chromium: Chromium, settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with api(settings, tmp_path) as client, window(chromium, f"{client.base_url}") as tab:
        await shown(client, tab)
        found = await sizes(client, tab)
        own = {name: size for name, size in found.items() if PLOTLY not in name}
        assert 10_000 < sum(own.values()) <= MOST_BYTES, own
        assert len(found) <= MOST_REQUESTS, found
        (plotly,) = found.keys() - own.keys()
        kept = (await client.get(plotly)).headers["cache-control"]
        assert kept == "public, max-age=86400", "it is not asked for again"
        assert await tab.complaints() == []


async def test_plots_have_the_colours_of_the_page_and_change_with_them(
    chromium: Chromium, settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with api(settings, tmp_path) as client, window(chromium, f"{client.base_url}") as tab:
        await tab.show(1280, 900, "dark")
        await shown(client, tab)
        await tab.until(f"{PAPER} === {json.dumps(DARK)}")
        await tab.show(1280, 900, "light")
        await tab.until(f"{PAPER} === {json.dumps(LIGHT)}")
        asked = await tab.asked()
        plots = [address for address in asked if "/forecast/plot?" in address]
        assert ("theme=dark" in plots[0], "theme=light" in plots[-1]) == (True, True)
        assert all("timezone=" in address for address in plots)

        await tab.show(1280, 900, "dark")
        await tab.evaluate(
            "(() => { window.saved = []; let made; const make = URL.createObjectURL;"
            " URL.createObjectURL = (blob) => make.call(URL, (made = blob));"
            " HTMLAnchorElement.prototype.click = function () {"
            " window.saved.push([this.download.split(' ')[0], made.type, made.size]); }; })()"
        )
        for part in ("forecast", "day", "report"):
            await tab.evaluate(f"document.getElementById('save-{part}').click()")
            await tab.until(f"window.saved.some(([name]) => name === '{part}')", 60)
        await tab.evaluate("document.getElementById('save-report-page').click()")
        await tab.until("window.saved.length === 4")
        saved = await tab.evaluate("window.saved")
        assert [(name, kind.partition(";")[0]) for name, kind, _ in saved] == [
            ("forecast", "image/png"), ("day", "image/png"), ("report", "application/pdf"), ("report", "text/html"),
        ]  # fmt: skip
        assert all(size > 5_000 for *_, size in saved)
        assert any("day/plot" in address and "theme=dark" in address for address in await tab.asked())
        assert await tab.evaluate(text("message")) == ""
        await tab.open(f"{client.base_url}/subjects/anna/report?format=html")
        assert await tab.barriers() == []
        assert await tab.complaints() == []
