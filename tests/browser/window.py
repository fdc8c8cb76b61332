"""One page in a headless Chromium: run expressions in it, wait for them, take a picture, hear what it complains of."""

import asyncio
import base64
import contextlib
import functools
import importlib.util
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import choreographer

from query_api.image import lean_chromium, pipe_class
from tests.kit.waiting import until_async

T = TypeVar("T")

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
"""Nothing of a page sticks out beside its window. Not by `innerWidth`: a phone makes that as wide as the page is."""


class Chromium:
    """One for many tests, each of which has an event loop of its own: its lives in a thread, where `do` reaches it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="Chromium of the tests", daemon=True)
        self._thread.start()
        self._browser: Any = None

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What it comes to, done in the loop of the browser."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def tab(self) -> Any:
        """A new one, which knows nothing of those before it: they were at other addresses."""
        return await self.do(self._tab())

    async def _tab(self) -> Any:
        if self._browser is None:
            options = {"channel_cls": pipe_class(), "browser_cls": lean_chromium()}
            self._browser = choreographer.Browser(headless=True, **options)
            await self._browser.open()
        return await self._browser.create_tab("about:blank")

    def close(self) -> None:
        if self._browser is not None:
            asyncio.run_coroutine_threadsafe(self._browser.close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


class Window:
    """A tab."""

    def __init__(self, chromium: Chromium, tab: Any) -> None:
        self._chromium, self._tab = chromium, tab
        self._complaints: list[str] = []

    async def _send(self, command: str, params: Mapping[str, Any] | None = None) -> Any:
        return await self._chromium.do(self._tab.send_command(command, params=params))

    async def watch(self) -> None:
        """Hear from now on what Chromium writes to the console, for whichever page the tab shows."""
        for event, words in _COMPLAINTS.items():
            self._tab.subscribe(event, self._listener(words))
        for domain in ("Page", "Log", "Runtime"):
            await self._send(f"{domain}.enable")

    def _listener(self, words: Callable[[Any], str | None]) -> Callable[[Any], Coroutine[Any, Any, None]]:
        async def hear(message: Any) -> None:
            if (said := words(message["params"])) is not None:
                self._complaints.append(said)

        return hear

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        params = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = await self._send("Runtime.evaluate", params=params)
        result = answer["result"]
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    async def until(self, expression: str, seconds: float = 30.0) -> Any:
        return await until_async(partial(self.evaluate, expression), f"in the page: {expression}", seconds)

    async def show(self, width: int, height: int, scheme: str = "light") -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 640}
        await self._send("Emulation.setDeviceMetricsOverride", params=metrics)
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        await self._send("Emulation.setEmulatedMedia", params=features)

    async def picture(self) -> bytes:
        """PNG of the whole page, beyond the window's height too."""
        size = (await self._send("Page.getLayoutMetrics"))["result"]["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        params = {"captureBeyondViewport": True, "clip": clip}
        answer = await self._send("Page.captureScreenshot", params=params)
        return base64.b64decode(answer["result"]["data"])

    async def sends_slowly(self, bytes_a_second: float) -> None:
        """As over a poor line from here on."""
        params = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_a_second}
        await self._send("Network.enable")
        await self._send("Network.emulateNetworkConditions", params=params)

    async def until_nothing_is_cut_off(self, plot: str) -> None:
        """A plot is drawn anew a moment after its window has changed."""

        async def fits() -> bool:
            return await self.cut_off(plot) == []

        await until_async(fits, f"all of {plot} is seen; not {await self.cut_off(plot)}")

    async def cut_off(self, plot: str) -> list[str]:
        """What of a drawn plot sticks out of its place, or of the window. `plot`: the id of its element."""
        found: list[str] = await self.evaluate(f"({_CUT_OFF})({json.dumps(plot)})")
        return found

    async def open(self, url: str) -> None:
        """Show a page, with all that it brings."""
        await self.go(url)
        await self.until("document.readyState === 'complete'")

    async def go(self, url: str) -> None:
        """Begin to show a page, which asks for what is new every second at most: tests need not wait longer."""
        sooner = "((later) => { window.setInterval = (what, ms) => later(what, Math.min(ms, 1000)); })(setInterval)"
        await self._send("Page.addScriptToEvaluateOnNewDocument", params={"source": sooner})
        await self._send("Page.navigate", params={"url": url})

    async def press(self, key: str) -> None:
        """A key, as the keyboard sends it to what has the focus."""
        for kind in ("keyDown", "keyUp"):
            params = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": _CODES[key]}
            await self._send("Input.dispatchKeyEvent", params=params)

    async def barriers(self) -> list[str]:
        """What axe finds that keeps people out: its serious and critical findings, each with where it is."""
        await self.evaluate(_axe() + "; 0")
        found: list[str] = await self.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations"
            ".filter((each) => ['serious', 'critical'].includes(each.impact))"
            ".flatMap((each) => each.nodes.map((node) => `${each.id}: ${node.html.slice(0, 160)}`)))"
        )
        return found

    async def complaints(self, but: str | None = None) -> list[str]:
        """All errors in the console so far, of the page and of Chromium: what failed, was refused or is not allowed.

        `but`: a pattern of those that belong to what a test does.
        """
        await self.evaluate("0")  # what was said before has come with the answer
        return [each for each in self._complaints if but is None or not re.search(but, each)]

    async def asked(self) -> list[str]:
        """The addresses of everything that the page has loaded or tried to load."""
        found: list[str] = await self.evaluate(
            "[location.href, ...performance.getEntriesByType('resource').map((entry) => entry.name)]"
        )
        return found


_CODES = {"ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}


@functools.cache
def _axe() -> str:
    """The script of axe, which a package ships for another browser's driver: that is neither needed nor imported."""
    found = importlib.util.find_spec("axe_playwright_python")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text()


def _of_console(params: Any) -> str | None:
    if params["type"] not in ("error", "assert"):
        return None
    return " ".join(str(each.get("value", each.get("description"))) for each in params["args"])


def _of_log(params: Any) -> str | None:
    entry = params["entry"]
    return f"{entry['text']} {entry.get('url', '')}" if entry["level"] == "error" else None


def _of_exception(params: Any) -> str | None:
    details = params["exceptionDetails"]
    return f"{details['text']} {details.get('exception', {}).get('description', '')}"


_COMPLAINTS: Mapping[str, Callable[[Any], str | None]] = {
    "Log.entryAdded": _of_log, "Runtime.consoleAPICalled": _of_console, "Runtime.exceptionThrown": _of_exception,
}  # fmt: skip
"""What DevTools show red, by the event that tells of it."""

_CUT_OFF = """(id) => {
  const place = document.getElementById(id);
  const box = place.getBoundingClientRect();
  const parts = ".main-svg, .gtitle, .xtitle, .ytitle, .xtick text, .ytick text, .annotation-text, .legendtext";
  const sticks = (own, left, right, top, bottom) =>
    own.width > 0 && (own.left < left - 1 || own.right > right + 1 || own.top < top - 1 || own.bottom > bottom + 1);
  const found = [...place.querySelectorAll(parts)]
    .filter((each) => sticks(each.getBoundingClientRect(), box.left, box.right, box.top, box.bottom))
    .map((each) => each.textContent.slice(0, 80) || each.getAttribute("class"));
  if (!place.querySelector(".main-svg")) found.push("nothing is drawn");
  return sticks(box, 0, innerWidth, -Infinity, Infinity) ? [...found, "the plot itself"] : found;
}"""


@contextlib.contextmanager
def browsing() -> Iterator[Chromium]:
    """It starts with its first tab."""
    for name in ("choreographer", "logistro"):
        logging.getLogger(name).setLevel(logging.ERROR)
    found = Chromium()
    try:
        yield found
    finally:
        found.close()


@contextlib.asynccontextmanager
async def window(browser: Chromium, url: str) -> AsyncIterator[Window]:
    """A tab that shows this page, while the block runs."""
    tab = await browser.tab()
    try:
        found = Window(browser, tab)
        await found.watch()
        await found.open(url)
        yield found
    finally:
        await browser.do(tab.close())
