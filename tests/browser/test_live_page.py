"""The live page in a real Chromium: it moves by events, outlives the API, and shows each side of a person."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from deploy.brokers.wire import HeldPort
from streams.settings import Settings
from tests.browser.window import Window, window
from tests.kit.query import listening
from tests.kit.small_pipeline import SmallPipeline, at

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

PLOTTED = "document.querySelectorAll('#plot .scatterlayer .trace').length >= 14"
LATER = "((now) => { Date.now = () => now() + 20 * 60000; })(Date.now), 0"
"""The clock of the device 20 minutes on."""
WIDTHS = [(1280, 900), (390, 844)]


def text(id_: str) -> str:
    return f"document.getElementById({id_!r}).textContent"


@contextlib.asynccontextmanager
async def api(settings: Settings, home: Path, port: int | None = None) -> AsyncIterator[httpx.AsyncClient]:
    async with listening(settings, home, port) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def publish(client: httpx.AsyncClient, subject: str, steps: range, level: float = 120) -> None:
    """Readings of the recent past: step 120 is that of the last five minutes."""
    readings = [{"time": at(5 * step), "glucose": level + step % 5, "unit": "mg/dL"} for step in steps]
    answer = await client.post(f"/subjects/{subject}/readings", json=readings)
    assert answer.status_code == 202, answer.text


async def choose(tab: Window, subject: str, part: str = "now") -> None:
    await tab.until(f"document.querySelector('[data-subject={subject}]') !== null")
    await tab.evaluate(f"document.querySelector('[data-subject={subject}]').click()")
    await tab.evaluate(f"document.getElementById('tab-{part}').click()")


async def test_the_page_moves_by_events_and_goes_on_after_a_restart(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    port = HeldPort()
    async with contextlib.AsyncExitStack() as first, window("about:blank") as tab:
        client = await first.enter_async_context(api(settings, tmp_path, port.number))
        await tab.open(f"{client.base_url}")
        await tab.until(f"{text('message')}.includes('publish readings')")
        await publish(client, "anna", range(120))
        await tab.until(PLOTTED)
        assert await tab.evaluate("document.getElementById('subject').value") == "anna"
        assert "holds until" in await tab.evaluate(text("facts"))
        assert "in an hour about" in await tab.evaluate(text("sentence"))
        assert "not for treatment decisions" in await tab.evaluate("document.body.textContent")

        asked = "performance.getEntriesByType('resource').length"
        await tab.evaluate("window.quiet = 0, setInterval(() => { window.quiet += 1; }, 1000), 0")
        still = f"{asked} === window.asked ? window.quiet >= 4 : (window.asked = {asked}, window.quiet = 0, false)"
        await tab.until(still)  # who asks at every tick, which comes each second here, is never so quiet
        title = await tab.evaluate("document.querySelector('#plot .gtitle').textContent")
        await publish(client, "anna", range(120, 121))
        await tab.until(f"document.querySelector('#plot .gtitle').textContent !== {json.dumps(title)}")

        await first.aclose()
        await tab.until(f"{text('connection')}.startsWith('Not live since')")
        assert await tab.evaluate(PLOTTED), "what holds is still shown"
        await tab.evaluate(LATER)
        await tab.until("document.getElementById('plot').hidden")
        assert "no longer holds (" in await tab.evaluate(text("why"))
        assert await tab.evaluate(text("sentence") + " + " + text("facts")) == "", "and nothing of it"
        async with api(settings, tmp_path, port.number) as client:
            await tab.until("document.getElementById('connection').hidden")
            await publish(client, "bert", range(60, 64), 90)
            await tab.until("document.querySelectorAll('#people .person').length === 2")
            await choose(tab, "bert")
            reason = "No forecast yet: 15 min of gap-free readings so far; a forecast needs 8 h."
            await tab.until(f"{text('why')} === {json.dumps(reason)}")
            assert "Expected with the reading of" in await tab.evaluate(text("expected"))
            assert not await tab.evaluate("document.querySelector('#plot .gtitle') !== null")
        assert await tab.complaints() == []


async def test_alerts_history_accuracy_units_and_keys(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with api(settings, tmp_path) as client, window(f"{client.base_url}") as tab:
        await publish(client, "anna", range(121))
        await publish(client, "bert", range(121), 200)
        await choose(tab, "anna", "alerts")
        await tab.evaluate("document.getElementById('snooze-low').click()")
        await tab.until(f"{text('quiet')}.includes('No alerts of lows until')")
        await tab.evaluate("document.querySelector('#quiet button').click()")
        await tab.until(f"{text('quiet')} === ''")
        await tab.until("document.querySelectorAll('#rules fieldset').length === 7")
        await tab.evaluate(
            """(() => {
              const form = document.getElementById("settings");
              form.elements["preset"].value = "early";
              form.elements["low-from"].value = "20";
              form.elements["low-below"].value = "80";
              form.elements["low-when"].value = "22:00-07:00";
              form.dispatchEvent(new Event("input"));
              form.requestSubmit();
            })()"""
        )
        await tab.until(f"{text('message')}.startsWith('Saved')")
        kept = (await client.get("/subjects/anna/alerts/settings")).json()
        assert (kept["preset"], kept["low"]["probability"], kept["low"]["active"]) == ("early", 0.2, "22:00-07:00")
        assert (kept["low"]["threshold_mgdl"], kept["high"]["threshold_mgdl"], kept["high"]["enabled"]) == (
            80,
            None,
            None,
        )

        await tab.evaluate("document.getElementById('tab-history').click()")
        await tab.until("document.querySelectorAll('#then-plot .scatterlayer .trace').length >= 14")
        await tab.evaluate(
            """(() => {
              const slider = document.getElementById("then");
              slider.value = slider.min;
              slider.dispatchEvent(new Event("input"));
            })()"""
        )
        await tab.until(f"{text('then-facts')}.includes('inside the 90 % range')")
        assert await tab.evaluate("document.getElementById('earlier').disabled")
        earliest = await tab.evaluate(text("then-text"))
        await tab.evaluate("document.getElementById('later').click()")
        await tab.until(f"{text('then-text')} !== {json.dumps(earliest)}")

        await tab.evaluate("document.getElementById('tab-scores').click()")
        await tab.until("document.querySelectorAll('#score-rows tr').length >= 1")
        assert "% inside" in await tab.evaluate(text("claims"))

        await choose(tab, "bert")
        await tab.until(f"{text('latest')}.includes('mg/dL')")
        await tab.evaluate(
            "((unit) => { unit.value = 'mmol/L'; unit.dispatchEvent(new Event('change')); })"
            "(document.getElementById('unit'))"
        )
        await tab.until("document.querySelector('#plot .gtitle')?.textContent.includes('mmol/L')")
        assert "11.1 mmol/L" in await tab.evaluate(text("latest"))
        assert "above 10.0" in await tab.evaluate(text("sentence"))

        await tab.evaluate("document.querySelector('[data-subject=bert]').focus()")
        await tab.press("ArrowUp")
        assert await tab.evaluate("document.activeElement.dataset.subject") == "anna"
        await tab.evaluate("document.getElementById('tab-now').focus()")
        await tab.press("ArrowRight")
        assert await tab.evaluate("document.activeElement.id") == "tab-history"
        assert await tab.evaluate("document.getElementById('panel-now').hidden")
        assert await tab.complaints() == []


async def test_nothing_is_cut_off_and_nobody_is_kept_out(
    settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with api(settings, tmp_path) as client, window(f"{client.base_url}") as tab:
        await publish(client, "anna", range(0, 121, 3))
        await choose(tab, "anna")
        await tab.until(PLOTTED)
        assert "64 of 96 points are interpolated." in await tab.evaluate(text("sentence"))
        for scheme in ("light", "dark"):
            for width, height in WIDTHS:
                await tab.show(width, height, scheme)
                for part in ("history", "alerts", "scores", "now"):
                    await choose(tab, "anna", part)
                    await tab.until("document.documentElement.scrollWidth <= innerWidth", 5)
                    if width == 390:
                        assert await tab.barriers() == [], (part, scheme)
        assert await tab.complaints() == []
