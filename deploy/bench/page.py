"""How soon the page is usable, how often it asks, and how soon it shows what comes: in a Chromium of its own, here.

Two times of each look, from the navigation on: until the chosen person's value, numbers, sentence and chart are there
("seen"), and until the chart is plotly's, which can be zoomed and asked ("usable"). With nothing kept, at the second
look, and at the third as at all later ones: Chromium keeps a script from the first look on, and from the second on what
it has compiled of it (V8, "Code caching for JavaScript developers", 2019). Then readings come to the open page, which
times itself from the event of each forecast until that is drawn; from the reading on it is the whole pipeline's time.
It measures and prints.
"""

import asyncio
import dataclasses
import datetime
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import choreographer
import httpx
from choreographer.browsers.chromium import Chromium

from deploy.bench.faults_load import reading_of
from deploy.bench.pipeline import RunningGlucast
from query_api.image import pipe_class
from schemas.errors import UnavailableError
from schemas.grid import PAST_POINTS, STEP

SUBJECT = "anna"
LEFT_BEHIND_SECONDS = 60.0
SETTLE_SECONDS = 2.0
"""Until Chromium has started: that is no part of a look."""
_USABLE = """new Promise((done) => {
  let seen = 0;
  const said = () => ["latest", "facts", "sentence"].every((id) => document.getElementById(id)?.textContent);
  const look = () => {
    if (!seen && said() && document.querySelectorAll("#plot .trace").length >= 14) seen = performance.now();
    if (seen && document.querySelectorAll("#plot .scatterlayer .trace").length >= 14) done([seen, performance.now()]);
    else requestAnimationFrame(look);
  };
  look();
})"""
_REQUESTS = """performance.getEntriesByType("resource").length + 1"""


_DRAWN = """window.drawn = new Promise((done) => {
  new PerformanceObserver((list, observer) => {
    observer.disconnect();
    const {startTime, duration} = list.getEntriesByName("glucast-drawn").at(-1);
    done([duration, performance.timeOrigin + startTime + duration]);
  }).observe({type: "measure"});
}), 0"""


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """A forecast that came to the open page: milliseconds until it was drawn, from its event and from its reading."""

    from_event: float
    from_reading: float


@dataclasses.dataclass(frozen=True, slots=True)
class Visit:
    """One look at the page: milliseconds until all was seen and until the chart was usable, and how often it asked."""

    seen: float
    usable: float
    requests: int


LOOKS = ("nothing kept", "second look", "later looks")


def lines(looks: Sequence[Sequence[Visit]], moves: Sequence[Move]) -> Iterator[str]:
    """A table of all. `looks`: the visits of each of `LOOKS`."""
    yield f"{'the page':<24}{'p50 ms':>9}{'max ms':>9}{'requests':>9}"
    for name, visits in zip(LOOKS, looks, strict=True):
        for what, times in (("seen", [each.seen for each in visits]), ("usable", [each.usable for each in visits])):
            row = f"{f'{name}, {what}':<24}{statistics.median(times):>9.0f}{max(times):>9.0f}"
            yield f"{row}{visits[-1].requests:>9}" if what == "usable" else row
    for name, times in (
        ("event to drawn", [each.from_event for each in moves]),
        ("reading to drawn", [each.from_reading for each in moves]),
    ):
        yield f"{name:<24}{statistics.median(times):>9.0f}{max(times):>9.0f}"


async def measure(url: str, repeats: int) -> tuple[list[list[Visit]], list[Move]]:
    """The visits of each of `LOOKS`, and what comes while somebody stays.

    Raises `UnavailableError` where no forecast comes.
    """
    start = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - (PAST_POINTS + repeats) * STEP
    await _publish(url, start)
    looks, moves = [list[Visit]() for _ in LOOKS], list[Move]()
    for _ in range(repeats):
        browser = choreographer.Browser(headless=True, channel_cls=pipe_class(), browser_cls=_chromium())
        try:
            await browser.open()
            await asyncio.sleep(SETTLE_SECONDS)
            tab = await browser.create_tab("about:blank")
            for visits in looks:
                visits.append(await _visit(tab, url))
            moves.append(await _move(tab, url, start, PAST_POINTS + len(moves)))
        finally:
            await browser.close()
    return looks, moves


def _chromium() -> Any:
    """Choreographer's, but without a first page of its own, which it would load while ours is looked at."""

    class BlankChromium(Chromium):
        def get_cli(self) -> list[str]:
            return [*super().get_cli(), "about:blank"]

    return BlankChromium


def _reading(start: datetime.datetime, number: int) -> dict[str, object]:
    """Of a simulated person, who has a clock of its own: so the next reading need not be waited for."""
    time_of_it = (start + number * STEP).isoformat()
    return {"time": time_of_it, "unit": "mg/dL", "glucose": reading_of(SUBJECT, 0.7, number).glucose, "simulated": True}


async def _publish(url: str, start: datetime.datetime) -> None:
    """Eight hours of somebody."""
    readings = [_reading(start, number) for number in range(PAST_POINTS)]
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        await client.post(f"/subjects/{SUBJECT}/readings", json=readings)
        deadline = asyncio.get_running_loop().time() + LEFT_BEHIND_SECONDS
        while (await client.get(f"/subjects/{SUBJECT}/forecast")).status_code != 200:
            if asyncio.get_running_loop().time() > deadline:
                raise UnavailableError(f"no forecast came within {LEFT_BEHIND_SECONDS:.0f} s")
            await asyncio.sleep(0.1)


async def _visit(tab: Any, url: str) -> Visit:
    await tab.send_command("Page.navigate", params={"url": "about:blank"})
    await tab.send_command("Page.navigate", params={"url": f"{url}/"})
    seen, usable = await _value(tab, _USABLE)
    return Visit(seen, usable, await _value(tab, _REQUESTS))


async def _move(tab: Any, url: str, start: datetime.datetime, number: int) -> Move:
    """What the page that is open says of the forecast of the next reading."""
    await _value(tab, _DRAWN)
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        sent = time.time()
        await client.post(f"/subjects/{SUBJECT}/readings", json=_reading(start, number))
        took, drawn = await _value(tab, "window.drawn")
    return Move(took, drawn - 1000 * sent)


async def _value(tab: Any, expression: str) -> Any:
    params = {"expression": expression, "returnByValue": True, "awaitPromise": True}
    async with asyncio.timeout(LEFT_BEHIND_SECONDS):
        answer = await tab.send_command("Runtime.evaluate", params=params)
    result = answer["result"]
    if "exceptionDetails" in result:
        raise UnavailableError(f"the page failed: {result['exceptionDetails']['text']}")
    return result["result"].get("value")


def run(broker: str, port: int, repeats: int, say: Callable[[str], None] = print) -> None:
    """Start glucast on `broker` (embedded, local or host:port), look at its page, print, stop it."""
    running = RunningGlucast(broker, port, {})
    try:
        looks, moves = asyncio.run(measure(running.url, repeats))
    finally:
        running.stop()
    for line in lines(looks, moves):
        say(line)
