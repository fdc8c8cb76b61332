"""One page in a headless Chromium: run expressions in it, wait for them, take a picture."""

import base64
import contextlib
import functools
import importlib.util
import logging
from collections.abc import AsyncIterator
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
        answer = await self._tab.send_command("Page.captureScreenshot")
        return base64.b64decode(answer["result"]["data"])

    async def open(self, url: str) -> None:
        """Show a page, which asks for what is new every second at most: the tests need not wait for its leisure."""
        sooner = "((later) => { window.setInterval = (what, ms) => later(what, Math.min(ms, 1000)); })(setInterval)"
        await self._tab.send_command("Page.enable")
        for source in (sooner, _WATCH):
            await self._tab.send_command("Page.addScriptToEvaluateOnNewDocument", params={"source": source})
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

    async def complaints(self) -> list[str]:
        """What the page has written to the console as an error, could not load or was not allowed."""
        found: list[str] = await self.evaluate("window.complaints")
        return found

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


_WATCH = """
window.complaints = [];
addEventListener("error", (event) => complaints.push(event.message || `not loaded: ${event.target.outerHTML}`), true);
addEventListener("unhandledrejection", (event) => complaints.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) =>
  complaints.push(`${event.violatedDirective}: ${event.blockedURI}`));
console.error = (...words) => complaints.push(words.join(" "));
"""


@contextlib.asynccontextmanager
async def window(url: str) -> AsyncIterator[Window]:
    for name in ("choreographer", "logistro"):
        logging.getLogger(name).setLevel(logging.ERROR)
    browser = choreographer.Browser(headless=True, channel_cls=pipe_class())
    try:
        await browser.open()
        tab = Window(await browser.create_tab("about:blank"))
        await tab.open(url)
        yield tab
    finally:
        await browser.close()
