"""Pictures and documents that are handed on, as the real Chromium makes them."""

import asyncio
import contextlib
import datetime
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from query_api.figure import figure
from query_api.image import Images
from query_api.report.numbers import report_of, source_of
from query_api.report.page import page
from query_api.style import Style
from schemas.grid import STEPS_A_DAY
from tests.kit.charts import fan_chart
from tests.kit.days import day_entries, everyday, read_model, slot_of

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

NOON = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)


@contextlib.asynccontextmanager
async def drawing() -> AsyncIterator[Images]:
    """With a browser that would not start by itself: the first picture that is asked for starts it."""
    images = Images(start_after_seconds=3600.0)
    task = asyncio.create_task(images.run())
    try:
        yield images
        assert images.problem is None
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_each_format_in_its_size_and_a_report_on_two_pages_of_a4(tmp_path: Path) -> None:
    model = read_model(tmp_path)
    model.apply(
        day_entries({slot: everyday(slot) for slot in range(slot_of(NOON) - 14 * STEPS_A_DAY, slot_of(NOON))}), {}
    )
    html = page(report_of(source_of(model, "anna"), 14, "Europe/Vienna", NOON), "mg/dL")
    style = Style(theme="dark", width=800, height=500, scale=2)
    async with drawing() as images:

        async def drawn(kind: str) -> bytes:
            return await images.render(kind, lambda: figure(fan_chart(), style), kind, style.scale)  # type: ignore[arg-type]

        png, svg, webp = [await drawn(kind) for kind in ("png", "svg", "webp")]
        assert struct.unpack(">II", png[16:24]) == (1600, 1000)
        assert b'width="800" height="500"' in svg.replace(b"'", b'"')
        assert (webp[:4], webp[8:12]) == (b"RIFF", b"WEBP")
        first, second = await asyncio.gather(images.document("a", html, "anna"), images.document("a", html, "anna"))
        assert first == second
        assert first.startswith(b"%PDF-")
        assert len(re.findall(rb"/Type\s*/Page\b(?!s)", first)) == 2
        sizes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", first)
        assert {(round(float(width)), round(float(height))) for width, height in sizes} == {(595, 842)}
        assert images.renders == 4
        assert (await drawn("png")) == png, "the browser draws on after it has printed"


async def test_a_page_that_draws_without_a_break_is_bounded() -> None:
    """Without bounds of its own Chromium took 5 MiB more with each drawing, up to 1.7 GiB."""

    async def draw(images: Images, width: int) -> None:
        await images.render(f"{width}", lambda: figure(fan_chart(), Style(width=width, height=500)))

    async with drawing() as images:
        for width in range(600, 620):
            await draw(images, width)
        before = _resident_bytes(images)
        for width in range(620, 700):
            await draw(images, width)
        assert _resident_bytes(images) - before < 150 << 20


def _resident_bytes(images: Images) -> int:
    """Of all processes of the browser; one of them may end while they are asked."""
    chromium, found = psutil.Process(images._browser.subprocess.pid), 0
    for process in (chromium, *chromium.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.memory_info().rss
    return found
