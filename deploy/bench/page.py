"""How soon the page is usable, and how often it asks: in a Chromium of its own, on this machine.

Usable is when the chosen person's forecast is drawn. Counted from the navigation on, first with nothing kept and then
as somebody's who was there before. It measures and prints.
"""

import asyncio
import dataclasses
import datetime
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import choreographer
import httpx

from deploy.bench.faults_load import reading_of
from deploy.bench.pipeline import RunningGlucast
from query_api.image import pipe_class
from schemas.errors import UnavailableError
from schemas.grid import PAST_POINTS, STEP

SUBJECT = "anna"
LEFT_BEHIND_SECONDS = 60.0
_USABLE = """new Promise((done) => {
  const look = () => document.querySelectorAll("#plot .scatterlayer .trace").length >= 14
    ? done(performance.now()) : requestAnimationFrame(look);
  look();
})"""
_REQUESTS = """performance.getEntriesByType("resource").length + 1"""


@dataclasses.dataclass(frozen=True, slots=True)
class Visit:
    """One look at the page: milliseconds until it was usable, and how often it asked."""

    milliseconds: float
    requests: int


def lines(first: Sequence[Visit], again: Sequence[Visit]) -> Iterator[str]:
    """A table of both."""
    yield f"{'the page':<24}{'p50 ms':>9}{'max ms':>9}{'requests':>9}"
    for name, visits in (("nothing kept", first), ("seen before", again)):
        times = sorted(each.milliseconds for each in visits)
        yield f"{name:<24}{statistics.median(times):>9.0f}{times[-1]:>9.0f}{visits[-1].requests:>9}"


async def measure(url: str, repeats: int) -> tuple[list[Visit], list[Visit]]:
    """Visits with nothing kept, and of those who come again. Raises `UnavailableError` where no forecast comes."""
    await _publish(url)
    first, again = list[Visit](), list[Visit]()
    for _ in range(repeats):
        browser = choreographer.Browser(headless=True, channel_cls=pipe_class())
        try:
            await browser.open()
            tab = await browser.create_tab("about:blank")
            first.append(await _visit(tab, url))
            again.append(await _visit(tab, url))
        finally:
            await browser.close()
    return first, again


async def _publish(url: str) -> None:
    """Eight hours of somebody up to now."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    readings = [
        {"time": (now - (PAST_POINTS - 1 - number) * STEP).isoformat(), "unit": "mg/dL",
         "glucose": reading_of(SUBJECT, 0.7, number).glucose}
        for number in range(PAST_POINTS)
    ]  # fmt: skip
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
    milliseconds = await _value(tab, _USABLE)
    return Visit(milliseconds, await _value(tab, _REQUESTS))


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
        first, again = asyncio.run(measure(running.url, repeats))
    finally:
        running.stop()
    for line in lines(first, again):
        say(line)
