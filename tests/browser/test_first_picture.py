"""What a person sees before plotly is there: all of it, at the same places, and in as few rounds as it takes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import Response

from query_api.routers.overview import Glance, Outlook
from query_api.routers.page import PLOTLY
from query_api.style import Style, Theme
from schemas.fan_chart import FanChart
from schemas.reading import Unit
from tests.browser.scripted import STEP, ScriptedApi, chart, drawn, glance, now, present, reading, serving
from tests.browser.test_live_page import PLOTTED, text
from tests.browser.window import FITS, Chromium, Window, window
from tests.kit.waiting import until_async

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

PLOTLY_PATH = f"/static/{PLOTLY}"
PICTURED = "document.querySelectorAll('#plot .picture .trace').length >= 14"
MOST_PIXELS = 1.5
PLACES = """[...document.querySelectorAll('#plot text, #plot .trace')].map((each) => {
  const [own, around] = [each.getBoundingClientRect(), document.getElementById('plot').getBoundingClientRect()];
  const name = each.tagName === 'text' ? each.textContent : 'a trace';
  return [name, own.left - around.left, own.top - around.top, own.right - around.left, own.bottom - around.top];
}).filter(([, left, , right]) => right > left)"""
"""Everything that is written or drawn in the plot, and where: left, top, right, bottom."""


class Held:
    """An answer that waits."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.asked = 0

    async def __call__(self) -> Response | None:
        self.asked += 1
        await self.let_go.wait()
        return None


def forecast(api: ScriptedApi, made: FanChart, style: Style | None = None) -> None:
    api.says("GET /subjects/anna/forecast", lambda *_: present(made, f'"{made.median_mgdl[0]}"'))
    api.says("GET /subjects/anna/forecast/plot", lambda *_: drawn(made, style))


@contextlib.asynccontextmanager
async def without_plotly(
    chromium: Chromium, api: ScriptedApi, size: tuple[int, int] = (1280, 900), scheme: str = "light"
) -> AsyncIterator[tuple[Window, Held]]:
    """The page, whose plotly is held back."""
    api.before[PLOTLY_PATH] = held = Held()
    async with serving(api) as url, window(chromium, "about:blank") as tab:
        await tab.show(*size, scheme)
        await tab.go(url)
        try:
            yield tab, held
        finally:
            held.let_go.set()


def with_forecast() -> Glance:
    """As the list of people has somebody who has one."""
    fields = {
        "issue_time": now(), "age_seconds": 0, "valid_until": now() + 3 * STEP, "median_60_mgdl": 118.0,
        "p_below_70": 0.0, "p_above_180": 0.0,
    }  # fmt: skip
    return glance("anna", reading(118), outlook=Outlook.model_validate(fields))


def places(found: list[Any]) -> list[tuple[str, list[float]]]:
    return sorted((name, where) for name, *where in found)


def gaps(hours: int) -> dict[str, Any]:
    return {"interpolated_points": [95 - 3 * each for each in range(1, hours)]}


@pytest.mark.parametrize(
    ("size", "theme", "unit", "zone", "more"),
    [
        ((1280, 900), "light", "mg/dL", None, {}),
        ((1280, 900), "dark", "mmol/L", "America/North_Dakota/New_Salem", gaps(4)),
        ((390, 844), "light", "mmol/L", None, gaps(4)),
        ((390, 844), "dark", "mg/dL", "America/North_Dakota/New_Salem", {}),
        ((620, 900), "light", "mg/dL", None, gaps(3)),
    ],
)
async def test_all_is_there_before_plotly_and_nothing_moves_when_it_comes(
    chromium: Chromium, size: tuple[int, int], theme: Theme, unit: Unit, zone: str | None, more: dict[str, Any]
) -> None:
    api = ScriptedApi(glance("anna", reading(118)))
    made = chart("anna", 118, past_mgdl=[118 + each % 7 for each in range(96)], **more)
    forecast(api, made, Style(unit=unit, theme=theme, timezone=zone, valid_until=made.issue_time + 3 * STEP))
    async with without_plotly(chromium, api, size, theme) as (tab, held):
        await tab.until(PICTURED)
        assert await tab.evaluate("window.Plotly === undefined")
        assert "in an hour about" in await tab.evaluate(text("sentence"))
        assert (await tab.evaluate(text("latest"))).startswith("118 mg/dL")
        assert "In 60 min" in await tab.evaluate(text("facts"))
        assert await tab.evaluate("document.getElementById('plot').getAttribute('aria-label')") == await tab.evaluate(
            text("sentence")
        )
        assert await tab.barriers() == []
        assert await tab.evaluate(FITS)
        paper = "getComputedStyle(document.getElementById('plot')).backgroundColor"
        first = "getComputedStyle(document.querySelector('#plot .picture > rect')).fill"
        assert await tab.evaluate(f"{first} === {paper}")
        await until_async(lambda: held.asked, "plotly is asked for")
        before = places(await tab.evaluate(PLACES))
        assert len(before) > 14 + 10
        held.let_go.set()
        await tab.until(PLOTTED)
        await tab.until(f"!({PICTURED})")
        after = places(await tab.evaluate(PLACES))
        assert [name for name, _ in before] == [name for name, _ in after]
        moved = {
            name: (here, there)
            for (name, here), (_, there) in zip(before, after, strict=True)
            if max(abs(one - other) for one, other in zip(here, there, strict=True)) > MOST_PIXELS
        }
        assert moved == {}
        assert await tab.cut_off("plot") == []
        assert await tab.complaints() == []


async def test_a_page_whose_plotly_does_not_come_shows_each_forecast_and_asks_for_it_again(chromium: Chromium) -> None:
    api = ScriptedApi(glance("anna", reading(118)))
    forecast(api, chart("anna", 118, now() - STEP))
    refusals = 0

    async def refuse() -> Response | None:
        nonlocal refusals
        refusals += 1
        return Response(status_code=503, headers={"cache-control": "no-store"})

    async with without_plotly(chromium, api) as (tab, _):
        api.before[PLOTLY_PATH] = refuse
        await tab.go(await tab.evaluate("location.href"))
        await tab.until(PICTURED)
        await until_async(lambda: refusals, "it is asked for")
        await tab.until("document.querySelector('script[src*=plotly]') === null")
        newer = chart("anna", 140)
        forecast(api, newer)
        api.tell("forecast", newer)
        await tab.until(f"{text('sentence')}.includes(': 140 mg/dL')")
        assert await tab.evaluate(PICTURED)
        assert await tab.evaluate("document.querySelectorAll('#plot .picture').length") == 1
        del api.before[PLOTLY_PATH]
        newest = chart("anna", 150)
        forecast(api, newest)
        api.tell("forecast", newest)
        await tab.until(PLOTTED)
        assert await tab.evaluate("document.querySelector('.picture') === null")
        assert await tab.complaints(but="status of 503") == []


async def test_a_picture_goes_with_its_forecast(chromium: Chromium) -> None:
    api = ScriptedApi(glance("anna", reading(118)), glance("ben", reading(100)))
    forecast(api, chart("anna", 118))
    async with without_plotly(chromium, api) as (tab, held):
        await tab.until(PICTURED)
        await tab.evaluate("document.querySelector('[data-subject=ben]').click()")
        await tab.until("!document.getElementById('nothing').hidden")
        assert await tab.evaluate("document.querySelector('.picture') === null")
        held.let_go.set()
        await tab.until("window.Plotly !== undefined")
        assert await tab.evaluate("document.querySelector('#plot .main-svg') === null"), "of nobody"
        assert await tab.complaints() == []


async def test_a_forecast_and_its_drawing_are_asked_for_in_one_round(chromium: Chromium) -> None:
    api = ScriptedApi(with_forecast())
    forecast(api, chart("anna", 118))
    path = "/subjects/anna/forecast"
    api.before[path] = held = Held()
    async with serving(api) as url, window(chromium, url) as tab:
        await until_async(lambda: api.count(f"GET {path}/plot") and held.asked, "both are asked for, in any order")
        assert (held.asked, api.count(f"GET {path}")) == (1, 0), "though it is not known yet that there is a forecast"
        held.let_go.set()
        await tab.until(PLOTTED)
        assert api.count(f"GET {path}/plot") == 1
        assert await tab.complaints() == []


async def test_of_somebody_who_is_known_to_have_none_no_drawing_is_asked_for(chromium: Chromium) -> None:
    api = ScriptedApi(glance("anna", reading(118)))
    async with serving(api) as url, window(chromium, url) as tab:
        await tab.until("!document.getElementById('nothing').hidden")
        assert api.count("GET /subjects/anna/forecast") >= 1
        assert api.count("GET /subjects/anna/forecast/plot") == 0
        assert PLOTLY not in " ".join(await tab.evaluate("[...document.scripts].map((each) => each.src)"))


async def test_a_drawing_of_a_forecast_before_is_asked_for_again(chromium: Chromium) -> None:
    api = ScriptedApi(with_forecast())
    old, new = chart("anna", 100, now() - STEP), chart("anna", 160)
    forecast(api, new)
    answers = [old, new]

    def of_its_time(*_: object) -> Response:
        of = answers.pop(0)
        headers = {"glucast-issue-time": of.issue_time.isoformat(), "cache-control": "no-store"}
        return Response(json.dumps(drawn(of)), media_type="application/json", headers=headers)

    api.says("GET /subjects/anna/forecast/plot", of_its_time)
    async with serving(api) as url, window(chromium, url) as tab:
        await tab.until(PLOTTED)
        assert answers == []
        title = await tab.evaluate("document.querySelector('#plot .gtitle').textContent")
        assert f"{new.issue_time:%H:%M}" in title
        assert await tab.complaints() == []
