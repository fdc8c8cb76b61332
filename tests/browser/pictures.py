"""The page in each of its states, as pictures that people look at before it changes: 44 PNG files.

    python -m tests.browser.pictures DIRECTORY

Nothing is asserted here, and nothing of it runs with the tests: they know whether all is there and fits, and not
whether the first glance tells what is now, what comes next and how sure that is.
"""

import asyncio
import math
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from streams.settings import Settings
from tests.browser.test_live_page import PLOTTED, choose, falling, pick, publish, scored, text
from tests.browser.test_page import PLOTTED as FILE_PLOTTED
from tests.browser.test_page import drop
from tests.browser.window import Chromium, Window, browsing, window
from tests.kit.brokers import embedded
from tests.kit.query import listening
from tests.kit.samples import dexcom, glucose_rows
from tests.kit.small_pipeline import working

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
_ALL = '[...document.querySelectorAll(".plot:not([hidden])")].filter((each) => each.offsetParent).every((each) =>'
WIDE = f'{_ALL} Math.abs(each.querySelector(".main-svg").clientWidth - each.clientWidth) <= 4)'
"""Every plot has the width of its place."""
COLOURED = f"""{_ALL}
  getComputedStyle(each.querySelector(".main-svg")).backgroundColor === getComputedStyle(each).backgroundColor)"""
"""And the page's colours."""


def waving(step: int) -> float:
    """A day as people have it."""
    return 130.0 + 45.0 * math.sin(step / 9)


async def states(client: httpx.AsyncClient, tab: Window, settings: Settings) -> AsyncIterator[str]:
    """Bring the page from state to state; yields the name of each."""
    await tab.until("!document.getElementById('nobody').hidden")
    yield "empty"
    await publish(client, "bert", range(114, 121))
    await choose(tab, "bert")
    await tab.until("!document.getElementById('nothing').hidden")
    yield "no-forecast"
    await publish(client, "emma", range(115), waving)
    await choose(tab, "emma")
    # Until all forecasts of before are made, and the latest is of the newest reading.
    await tab.until(f"/of ([^,]+), .*no longer holds; the newest reading is of \\1:/.test({text('why')})")
    yield "stale"
    await publish(client, "anna", range(121), waving)
    await choose(tab, "anna")
    await tab.until(PLOTTED)
    yield "live"
    await choose(tab, "anna", "history")
    await tab.until("document.querySelectorAll('#then-plot .scatterlayer .trace').length >= 14")
    await tab.evaluate("document.getElementById('then').value = document.getElementById('then').min,"
                       "document.getElementById('then').dispatchEvent(new Event('input'))")  # fmt: skip
    await tab.until(f"{text('then-facts')}.includes('the 90 % range')")
    yield "history"
    assert (await client.put("/subjects/carl/alerts/settings", json={"preset": "early"})).status_code == 200
    await publish(client, "carl", range(121), falling)
    await choose(tab, "carl")
    await tab.until("!document.getElementById('holding').hidden")
    await tab.until(PLOTTED)
    yield "alert"
    await choose(tab, "carl", "alerts")
    await tab.until("document.querySelectorAll('#told li').length >= 1")
    await tab.evaluate("document.querySelector('#settings details').open = true")
    yield "alerts"
    await scored(settings, "dora")
    await pick(tab, "subject", "dora")
    await tab.evaluate("document.getElementById('tab-scores').click()")
    await tab.until("document.querySelectorAll('#score-rows tr').length >= 2")
    yield "scores"
    await drop(tab, dexcom(glucose_rows(121)))
    await tab.until(FILE_PLOTTED)
    yield "upload"
    await drop(tab, b"nonsense")
    await tab.until(f"{text('message')}.includes('format')")
    yield "error"
    await tab.evaluate("document.getElementById('show-live').click()")
    await choose(tab, "anna")
    await tab.until(PLOTTED)


async def photograph(tab: Window, name: str, directory: Path, *, is_served: bool = True) -> None:
    """Without a server plots keep the colours they have: it draws them."""
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            await tab.show(width, height, scheme)
            await tab.until(f"{WIDE} && {COLOURED}" if is_served else WIDE)
            (directory / f"{name}-{size}-{scheme}.png").write_bytes(await tab.picture())


async def run(chromium: Chromium, settings: Settings, home: Path, directory: Path) -> None:
    async with working(settings), window(chromium, "about:blank") as tab:
        async with (
            listening(settings, home) as url,
            httpx.AsyncClient(base_url=url, timeout=30) as client,
        ):
            await tab.open(url)
            async for name in states(client, tab, settings):
                await photograph(tab, name, directory)
        await tab.until(f"{text('connection')}.startsWith('Not live since')")
        await photograph(tab, "not-live", directory, is_served=False)


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, embedded(Path(home)) as settings, browsing() as chromium:
        asyncio.run(run(chromium, settings, Path(home), directory))


if __name__ == "__main__":
    main()
