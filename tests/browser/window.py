"""One page in a headless Chromium: run expressions in it, wait for them, take a picture, hear what it complains of."""

import base64
import contextlib
import functools
import importlib.util
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import choreographer

from query_api.image import pipe_class
from tests.kit.waiting import until_async


class Window:
    """A tab."""

    def __init__(self, tab: Any) -> None:
        self._tab = tab
        self._complaints: list[str] = []

    async def watch(self) -> None:
        """Hear from now on what Chromium writes to the console, for whichever page the tab shows."""
        for event, words in _COMPLAINTS.items():
            self._tab.subscribe(event, self._listener(words))
        for domain in ("Page", "Log", "Runtime"):
            await self._tab.send_command(f"{domain}.enable")

    def _listener(self, words: Callable[[Any], str | None]) -> Callable[[Any], Coroutine[Any, Any, None]]:
        async def hear(message: Any) -> None:
            if (said := words(message["params"])) is not None:
                self._complaints.append(said)

        return hear

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        params = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = await self._tab.send_command("Runtime.evaluate", params=params)
        result = answer["result"]
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    async def until(self, expression: str, seconds: float = 30.0) -> Any:
        return await until_async(partial(self.evaluate, expression), f"in the page: {expression}", seconds)

    async def show(self, width: int, height: int, scheme: str = "light") -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 640}
        await self._tab.send_command("Emulation.setDeviceMetricsOverride", params=metrics)
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        await self._tab.send_command("Emulation.setEmulatedMedia", params=features)

    async def picture(self) -> bytes:
        """PNG of the whole page, beyond the window's height too."""
        size = (await self._tab.send_command("Page.getLayoutMetrics"))["result"]["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        params = {"captureBeyondViewport": True, "clip": clip}
        answer = await self._tab.send_command("Page.captureScreenshot", params=params)
        return base64.b64decode(answer["result"]["data"])

    async def sends_slowly(self, bytes_a_second: float) -> None:
        """As over a poor line from here on."""
        params = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_a_second}
        await self._tab.send_command("Network.enable")
        await self._tab.send_command("Network.emulateNetworkConditions", params=params)

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
        """Show a page, which asks for what is new every second at most: the tests need not wait for its leisure."""
        sooner = "((later) => { window.setInterval = (what, ms) => later(what, Math.min(ms, 1000)); })(setInterval)"
        await self._tab.send_command("Page.addScriptToEvaluateOnNewDocument", params={"source": sooner})
        await self._tab.send_command("Page.navigate", params={"url": url})
        await self.until("document.readyState === 'complete'")

    async def press(self, key: str) -> None:
        """A key, as the keyboard sends it to what has the focus."""
        for kind in ("keyDown", "keyUp"):
            params = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": _CODES[key]}
            await self._tab.send_command("Input.dispatchKeyEvent", params=params)

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


@contextlib.asynccontextmanager
async def window(url: str) -> AsyncIterator[Window]:
    for name in ("choreographer", "logistro"):
        logging.getLogger(name).setLevel(logging.ERROR)
    browser = choreographer.Browser(headless=True, channel_cls=pipe_class())
    try:
        await browser.open()
        tab = Window(await browser.create_tab("about:blank"))
        await tab.watch()
        await tab.open(url)
        yield tab
    finally:
        await browser.close()
