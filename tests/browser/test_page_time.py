"""What goes from the page by itself, and what stays until somebody is done with it."""

import datetime

import pytest

from schemas.fan_chart import FanChart
from tests.browser.scripted import (
    STEP,
    ScriptedApi,
    alerts,
    chart,
    drawn,
    glance,
    now,
    present,
    reading,
    refused,
    serving,
)  # fmt: skip
from tests.browser.test_live_page import choose, text
from tests.browser.test_page import drop
from tests.browser.test_page_answers import told
from tests.browser.window import Chromium, window

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

HELD = "!document.getElementById('holding').hidden"
BOTH_CLOCKS_ON = """((wall, steady) => {
  const more = 11 * 60000;
  Date.now = () => wall() + more;
  performance.now = () => steady() + more;
})(Date.now, performance.now.bind(performance)), 0"""
"""Eleven minutes pass, by both clocks of the device: the page has no reason to doubt them."""

ANSWERED = "performance.getEntriesByType('resource').filter((each) => each.name.includes('/subjects/anna/')).length"


def row(subject: str) -> str:
    return f"document.querySelector('[data-subject={subject}]').textContent"


async def test_an_alert_goes_by_itself_with_the_hour_that_it_spoke_of(chromium: Chromium) -> None:
    issued = now()
    until = {"low": datetime.datetime.now(datetime.UTC) + 2 * STEP}
    api = ScriptedApi(
        glance("anna", reading(82), ["low"]).model_copy(update={"holding_until": until}),
        glance("ben", reading(120), ["stale_data"]),
    )
    raised = told(
        "low", "raised", issued, threshold_mgdl=70, probability=0.3, horizon_minutes=30,
        first_crossing=[0.1, 0.2, 0.4, 0.1],
    )  # fmt: skip
    hers = alerts("anna", holding=["low"], holding_until=until, recent=[raised])
    api.says("GET /subjects/anna/alerts", lambda *_: hers)
    api.says("GET /subjects/ben/alerts", lambda *_: alerts("ben", holding=["stale_data"]))
    async with serving(api) as url, window(chromium, f"{url}#subject=anna&tab=alerts") as tab:
        await tab.until(f"{HELD} && {text('holding-words')}.startsWith('Low')")
        second = [f"clock('{(issued + minutes * STEP / 5).isoformat()}')" for minutes in (15, 30)]
        words = (
            f"import('/static/words.js').then(({{clock}}) => `likeliest from ${{{second[0]}}} to ${{{second[1]}}})`)"
        )
        assert await tab.evaluate(words) in await tab.evaluate(text("holding-words")), "and not after what it speaks of"
        await tab.until("document.querySelector('[data-subject=anna]')?.textContent.includes('Alert: low')")
        await tab.until(f"{ANSWERED} === 7")  # of her at once, and again with everybody but for a drawing
        asked = len(api.asked)
        await tab.evaluate(BOTH_CLOCKS_ON)
        await tab.until(f"!({HELD})")
        assert "Alert" not in await tab.evaluate(row("anna"))
        assert api.asked[asked:] == [], "nobody had to say so"
        assert "Alert: no readings" in await tab.evaluate(row("ben")), "of which nobody knows when it ends"
        await choose(tab, "ben", "alerts")
        await tab.until(HELD)
        assert await tab.complaints() == []


async def test_what_is_said_of_a_file_stays_though_a_forecast_comes(chromium: Chromium) -> None:
    api = ScriptedApi(glance("anna", reading(100)))
    api.says("POST /process_unified", lambda *_: refused(422, "unknown_format", "no supported format was recognised"))

    def forecast(glucose: float, issued: datetime.datetime) -> FanChart:
        made = chart("anna", glucose, issued)
        api.says("GET /subjects/anna/forecast", lambda *_: present(made, f'"{glucose}"'))
        api.says("GET /subjects/anna/forecast/plot", lambda *_: drawn(made))
        return made

    forecast(100, now() - STEP)
    async with serving(api) as url, window(chromium, f"{url}#subject=anna") as tab:
        await tab.until(f"{text('sentence')}.includes(': 100 mg/dL')")
        await drop(tab, b"nonsense")
        said = f"{text('message')} === 'No supported format was recognised'"
        await tab.until(said)
        assert await tab.evaluate("document.getElementById('export').files[0].name") == "dropped.csv"
        api.tell("forecast", forecast(130, now()))
        await tab.until(f"{text('sentence')}.includes(': 130 mg/dL')")
        assert await tab.evaluate(said)
        await tab.evaluate("document.getElementById('show-live').click()")
        assert await tab.evaluate(text("message")) == ""
        assert await tab.complaints(but="status of 422") == []
