"""Pictures of fan charts, drawn by one long-lived Chromium through Kaleido and kept for the next who asks."""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import threading
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import structlog
from cachetools import LRUCache

from query_api.exact_bytes import exact
from query_api.printing import printed
from query_api.shared_computations import SharedComputations
from query_api.style import FONT, HEIGHT, WIDTH
from schemas.errors import UnavailableError

log = structlog.get_logger("query_api.image")

Format = Literal["png", "svg", "webp"]
_Draw = Callable[[Any], Awaitable[bytes]]
"""What has the browser draw."""

START_SECONDS = 60.0
RENDER_SECONDS = 20.0
CLOSE_SECONDS = 2.0
DOCUMENTS_WAITING = 16
"""Of which one is made at a time: each has a page of Chromium's for itself."""
RESTART_SECONDS = 1.0
WAKE_SECONDS = 0.01
CHROMIUM_FLAGS = (
    # Not one of them is asked for here, and each would be a process of its own or a page of 150 MB: the address bar's
    # list of suggestions, a page kept at hand for the next site, the network of what only reads a file, the display.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,SpareRendererForSitePerProcess",
    "--enable-features=NetworkServiceInProcess2",
    "--in-process-gpu",
    "--no-zygote",  # there is no sandbox that its two processes could make ready
    # A page that draws without a break is never idle, and so hardly ever collects: 1.7 GB after 700 drawings without
    # these, 0.3 GB with them, and no slower.
    "--js-flags=--max-old-space-size=160 --max-semi-space-size=4",
)
_LINE = {"type": "scatter", "mode": "lines+markers", "x": [0, 1, 2], "y": [0, 1, 0], "line": {"dash": "dot"}}
_TO_WARM_UP = {
    "data": [{**_LINE, "fill": "toself", "name": str(number)} for number in range(12)],
    "layout": {
        "font": {"family": FONT},
        "title": {"text": "<b>0</b><br><span style='font-size:14px'>1</span>"},
        "annotations": [{"text": "2", "x": 1, "y": 1, "showarrow": False}],
        "shapes": [{"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 1, "layer": "below"}],
        "legend": {"orientation": "h"},
    },
}
"""Fonts are found and scripts compiled for the first picture of all: 0.1 s that nobody should wait for."""
RENDERS_A_PAGE = 500
"""A page is loaded anew after so many drawings, behind the scenes, so that nothing accumulates in it."""


class Images:
    """Draws each picture once. `run` holds the browser and starts it again when it dies."""

    def __init__(self, cached_bytes: int = 32 << 20, waiters: int = 256, start_after_seconds: float = 0.0) -> None:
        """`start_after_seconds`: the browser starts then, or with the first picture that is asked for."""
        self._start_after_seconds = start_after_seconds
        self._cache: LRUCache[str, bytes] = LRUCache(cached_bytes, getsizeof=len)
        self._computations = SharedComputations(waiters)
        self._documents = SharedComputations(min(waiters, DOCUMENTS_WAITING))
        self._press = asyncio.Lock()
        self._browser: Any = None
        self._failed = asyncio.Event()
        self._ready = asyncio.Event()
        self._wanted = asyncio.Event()
        self.problem: str | None = None
        self.renders = 0
        self.hits = 0

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    async def run(self) -> None:
        """Keep one browser alive until cancelled."""
        wait = RESTART_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), self._start_after_seconds)
        while True:
            self._failed.clear()
            try:
                browser = await _open()
            except Exception as error:
                # Whatever keeps a browser from starting, the rest of the API serves without pictures.
                self.problem = _advice(error)
                self._ready.set()  # who waits for the browser is told at once
                last = traceback.extract_tb(error.__traceback__)[-1]
                log.warning(
                    "no Chromium for pictures, trying again",
                    reason=self.problem,
                    where=f"{Path(last.filename).name}:{last.lineno}",
                )
                await asyncio.sleep(wait)
                wait = min(60.0, 2 * wait)
                continue
            wait = RESTART_SECONDS
            self._browser, self.problem = browser, None
            self._ready.set()
            try:
                await self._failed.wait()
                log.warning("Chromium stopped answering and is started again")
            finally:
                self._ready.clear()
                self._browser = None
                await _close(browser)

    def cached(self, key: str) -> bytes | None:
        """A picture drawn before, if it is still kept."""
        data: bytes | None = self._cache.get(key)
        self.hits += data is not None
        return data

    async def render(
        self, key: str, figure: Callable[[], dict[str, Any]], kind: Format = "png", scale: int = 1
    ) -> bytes:
        """The picture of `figure` under `key`, which names all that it shows; drawn once, whoever asks at once.

        It is as large as the figure says, with so many pixels to each of its own.

        Raises `UnavailableError` where Chromium is missing or does not answer.
        """

        async def draw(browser: Any) -> bytes:
            drawn = figure()
            data: bytes = await browser.calc_fig(drawn, opts=_options(drawn, kind, scale))
            return data

        before = self.cached(key)
        return before if before is not None else await self._computations.join(key, lambda: self._render(key, draw))

    async def document(self, key: str, html: str, foot: str) -> bytes:
        """A PDF of an HTML document that needs nothing else, made once under `key`; `foot` stands below each page.

        Raises `UnavailableError` where Chromium is missing or does not answer, `OverloadedError` where many wait.
        """

        async def made() -> bytes:
            async with self._press:
                return await self._render(key, lambda browser: printed(browser, html, foot))

        printed_before = self.cached(key)
        return printed_before if printed_before is not None else await self._documents.join(key, made)

    async def _render(self, key: str, draw: _Draw) -> bytes:
        browser = await self._started()
        try:
            async with asyncio.timeout(RENDER_SECONDS):
                # A task of its own: a browser that closes cancels those that draw in it.
                data = await asyncio.ensure_future(draw(browser))
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # nobody waits any more
            if browser is self._browser:  # not one that has been started since
                self._failed.set()
            log.warning("a picture could not be drawn", error=type(error).__name__)
            raise UnavailableError("Chromium did not draw the picture and is started again; ask once more") from error
        self.renders += 1
        self.keep(key, data)
        return data

    async def _started(self) -> Any:
        """The browser, once it has started. The time for a drawing begins then: a slow start is no browser that hangs.

        Raises `UnavailableError` where it takes too long to start, or cannot.
        """
        self._wanted.set()
        try:
            async with asyncio.timeout(RENDER_SECONDS):
                await self._ready.wait()
        except TimeoutError as error:
            raise UnavailableError("Chromium is still starting; ask once more") from error
        if self._browser is None:
            raise UnavailableError(f"{self.problem}. The figure itself is served for Accept: application/json")
        return self._browser

    def keep(self, key: str, data: bytes) -> None:
        """Remember what has been made; the least recently asked for goes first."""
        if len(data) <= self._cache.maxsize:
            self._cache[key] = exact(data)


def _options(figure: dict[str, Any], kind: Format, scale: int = 1) -> dict[str, Any]:
    layout = figure["layout"]
    size = {"width": layout.get("width", WIDTH), "height": layout.get("height", HEIGHT)}
    return {"format": kind, **size, "scale": scale}


async def _open() -> Any:
    kaleido = await asyncio.to_thread(_browser_class)
    # No time limit but that of `draw`: for its own, Kaleido has a task whose error is lost when Chromium dies.
    browser = kaleido(n=1, timeout=None, mathjax=False, channel_cls=pipe_class(), browser_cls=lean_chromium())
    opening = asyncio.ensure_future(_opened(browser))
    try:
        # Kaleido itself would wait for ever for a Chromium that does not answer.
        async with asyncio.timeout(START_SECONDS):
            await asyncio.shield(opening)
    except BaseException:
        # Also when nobody wants it any more: what has been started by then has to be closed, and only a whole one can.
        await asyncio.wait({opening}, timeout=CLOSE_SECONDS)
        opening.cancel()
        opening.add_done_callback(_retrieve)
        await _close(browser)
        raise
    return browser


async def _opened(browser: Any) -> None:
    await browser.open()
    await browser.calc_fig(_TO_WARM_UP, opts=_options(_TO_WARM_UP, "png"))


def _retrieve(done: asyncio.Future[Any]) -> None:
    """Take the error of a task that ends as it was told to; asyncio would log it at whatever time it is collected."""
    if not done.cancelled():
        done.exception()


async def _close(browser: Any) -> None:
    """Leave no Chromium behind: Kaleido reads its log in a thread that ends with it, and this process after that."""
    closing = asyncio.ensure_future(browser.close())
    done, _ = await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
    if not done and (process := getattr(browser, "subprocess", None)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        closing.cancel()  # it waits for an answer of Chromium that will not come, and then tidies up
        await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
    if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
        log.warning("Chromium did not close as it should", error=type(error).__name__)


@functools.cache
def _browser_class() -> Any:
    """Kaleido without its reload of the page, and of 5 MB of script, between any two drawings."""
    import kaleido

    for name in ("kaleido", "choreographer", "logistro"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class PatientKaleido(kaleido.Kaleido):  # type: ignore[misc]
        drawn = 0

        async def _render_task(self, *args: Any, **options: Any) -> Any:
            # Nobody awaits it where Chromium dies before Kaleido has begun to wait for it.
            if (task := asyncio.current_task()) is not None:
                task.add_done_callback(_retrieve)
            return await super()._render_task(*args, **options)

        async def _return_kaleido_tab(self, tab: Any) -> None:
            self.drawn += 1
            if self.drawn % RENDERS_A_PAGE:
                await self.tabs_ready.put(tab)
            else:
                await super()._return_kaleido_tab(tab)

    return PatientKaleido


@functools.cache
def lean_chromium() -> Any:
    """Choreographer's Chromium, without what draws no picture."""
    from choreographer.browsers.chromium import Chromium

    class LeanChromium(Chromium):
        def get_cli(self) -> list[str]:
            return [*super().get_cli(), *CHROMIUM_FLAGS]

    return LeanChromium


@functools.cache
def pipe_class() -> Any:
    """Choreographer's pipe to Chromium, but closed only when nobody reads from it any more."""
    from choreographer.channels import Pipe

    class PatientPipe(Pipe):
        """Choreographer would close the file descriptors under the thread that waits for Chromium's next message.

        The next browser's pipe gets their numbers. A dying Chromium still says something, and writes the zero that ends
        a message apart from it: who has read the one looks for the other under the old number, and takes an answer that
        the next browser's start then waits for in vain.
        """

        def __init__(self) -> None:
            super().__init__()
            self._reading = threading.RLock()  # re-entrant: who reads that Chromium has gone closes the pipe
            self._closing = threading.Lock()

        def read_jsons(self, *, blocking: bool = True) -> Any:
            with self._reading:
                return super().read_jsons(blocking=blocking)

        def close(self) -> None:
            """Wake the reader, and close the pipe once it has left."""
            if not self._closing.acquire(blocking=False):
                return  # somebody else is at it
            os.set_blocking(self.from_external_to_choreo, False)  # a pipe that is full has a reader that is awake
            while not self._reading.acquire(timeout=WAKE_SECONDS):
                with contextlib.suppress(BlockingIOError):
                    os.write(self.from_external_to_choreo, b"\0")  # in Chromium's name: the end of any message
            try:
                super().close()
            finally:
                self._reading.release()

    return PatientPipe


def _advice(error: Exception) -> str:
    if type(error).__name__ == "ChromeNotFoundError":
        return "no Chromium was found for drawing pictures: install Debian's chromium or set BROWSER_PATH"
    return f"Chromium does not start ({type(error).__name__})"
