"""What comes late, in another order or not at all: nobody sees what is another's, nor as now what is not."""

import asyncio
import datetime
import json
from typing import Any

import pytest

from schemas.alert import AlertSettings, RuleChange
from tests.browser.scripted import (
    STEP,
    Answer,
    ScriptedApi,
    alerts,
    chart,
    drawn,
    glance,
    history,
    now,
    present,
    reading,
    refused,
    serving,
)  # fmt: skip
from tests.browser.test_live_page import choose, pick, text
from tests.browser.window import Chromium, Window, window
from tests.kit.waiting import until_async

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

REFUSED = "status of (429|503)|net::ERR_"
RULES = "document.querySelectorAll('#rules fieldset').length === 7 && !document.getElementById('settings').hidden"
TOO_MANY = "too many requests: try again in 20 s"


class Gate:
    """What an answer waits for."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    def behind(self, answer: Answer) -> Any:
        async def say(*_: object) -> Answer:
            await self.opened.wait()
            return answer

        return say


def value(field: str) -> str:
    return f"document.getElementById('settings').elements[{json.dumps(field)}].value"


async def change(tab: Window, field: str, to: str) -> None:
    """A field of the form of the settings, as by hand."""
    await tab.evaluate(
        f"{value(field)} = {json.dumps(to)}, document.getElementById('settings').dispatchEvent(new Event('input')), 0"
    )


CAME = """
((fetched) => {
  window.came = [];
  window.awaited = 0;
  window.fetch = async (url, asked) => {
    if (!/anna.*(settings|snooze|plot)/.test(url)) return await fetched(url, asked);
    window.awaited += 1;
    const answer = await fetched(url, asked);
    const text = await answer.text();
    setTimeout(() => { window.awaited -= 1; window.came.push(asked?.method ?? "GET"); }, 50);
    return new Response(text, answer);
  };
})(window.fetch), 0
"""
"""How it was asked what has been answered about Anna, a moment after the page was given the answer, and how much is
still awaited. How often the page asks by itself depends on the moment."""
SAVE = "document.getElementById('settings').requestSubmit(), 0"


async def test_what_was_asked_for_one_person_is_neither_shown_nor_stored_for_another(chromium: Chromium) -> None:
    api = ScriptedApi(glance("anna", reading(55)), glance("ben", reading(120)))
    async with serving(api) as url, window(chromium, f"{url}#subject=anna&tab=alerts") as tab:
        await tab.until(RULES)
        await tab.evaluate(CAME)
        saved, quiet = Gate(), Gate()
        early = AlertSettings(preset="early", low=RuleChange(threshold_mgdl=90))
        api.says("PUT /subjects/anna/alerts/settings", saved.behind(early))
        api.says("POST /subjects/anna/alerts/snooze", quiet.behind(alerts("anna")))
        api.says("GET /subjects/ben/alerts", lambda *_: alerts("ben", holding=["high"]))
        api.says("GET /subjects/ben/alerts/settings", lambda *_: refused(429, "rate_limited", TOO_MANY))
        await change(tab, "low-below", "90")
        await tab.evaluate(SAVE)
        await tab.evaluate("document.getElementById('snooze-low').click()")
        asked = "POST /subjects/anna/alerts/snooze", "PUT /subjects/anna/alerts/settings"
        await until_async(lambda: all(api.count(each) for each in asked), "both are asked for")
        await choose(tab, "ben", "alerts")
        await until_async(lambda: api.count("GET /subjects/ben/alerts/settings"), "asked for")
        await tab.until("!document.getElementById('nothing').hidden")
        assert await tab.evaluate("document.getElementById('settings').hidden"), "the form is still Anna's"
        await tab.until("!document.getElementById('holding').hidden")  # though the settings are refused
        api.says("GET /subjects/ben/alerts/settings", lambda *_: AlertSettings(preset="quiet"))
        quietly = f"{value('preset')} === 'quiet' && !document.getElementById('settings').hidden"
        await tab.until(quietly)  # asked for again
        await choose(tab, "ben", "alerts")
        await tab.until(quietly)
        saved.opened.set()
        quiet.opened.set()
        await tab.until("window.came.includes('PUT') && window.came.includes('POST') && window.awaited === 0")
        assert await tab.evaluate(f"[{value('preset')}, {value('low-below')}, {text('saved')}, {text('message')}]") == [
            "quiet", "", "", "",
        ]  # fmt: skip

        not_saved = Gate()
        api.says("PUT /subjects/ben/alerts/settings", not_saved.behind(refused(429, "rate_limited", TOO_MANY)))
        await tab.evaluate(SAVE)
        await until_async(lambda: api.count("PUT /subjects/ben/alerts/settings"), "saved")
        await choose(tab, "anna", "alerts")
        await tab.until(f"{RULES} && !document.getElementById('nothing').hidden")
        not_saved.opened.set()
        await tab.until(f"{text('message')} === {json.dumps(f'Not done for ben: {TOO_MANY}')}")
        assert await tab.complaints(but=REFUSED) == []


async def test_the_past_of_one_person_is_not_shown_as_that_of_another(chromium: Chromium) -> None:
    api = ScriptedApi(glance("anna", reading(55)), glance("ben", reading(120)))
    history(api, "anna", 55)
    history(api, "ben", 120)
    seek = "document.getElementById('then').dispatchEvent(new Event('input')), 0"
    plotted = "document.querySelector('#then-plot .gtitle') !== null"
    async with serving(api) as url, window(chromium, f"{url}#subject=anna&tab=history") as tab:
        await tab.until(plotted)
        curve = await tab.evaluate("document.querySelector('#strip path').getAttribute('d')")
        assert (curve.count("M"), curve.count("L")) == (1, 3), "no gap is between readings that keep their step"
        await tab.evaluate(CAME)
        late, then = Gate(), chart("anna", 55, now() - 12 * STEP)
        asked = len(api.asked)
        api.says("GET /subjects/anna/forecasts/*/plot", late.behind(drawn(then)))
        api.says("GET /subjects/ben/forecasts", lambda *_: refused(429, "rate_limited", TOO_MANY))
        await tab.evaluate(seek)
        await until_async(lambda: any(each.endswith("/plot") for each in api.asked[asked:]), "a plot is asked for")
        await tab.evaluate(seek)  # this one still waits for the slider to rest
        await choose(tab, "ben", "history")
        await tab.until(f"{text('history-words')} === {json.dumps(TOO_MANY)}")
        late.opened.set()
        await tab.until("window.came.length === 1")
        assert await tab.evaluate(text("history-words")) == TOO_MANY
        assert await tab.evaluate("document.getElementById('history-body').hidden")
        assert await tab.evaluate(f"{text('then-facts')} + document.getElementById('strip').innerHTML") == ""
        assert not await tab.evaluate(plotted)
        history(api, "ben", 120)
        await choose(tab, "ben", "history")
        await tab.until(plotted)
        assert "120 said" in await tab.evaluate(text("then-facts"))
        assert sum("/anna/forecasts/" in each for each in api.asked[asked:]) == 2, "the slider that rests is Anna's"

        api.says("GET /subjects/ben/forecasts/*", lambda *_: refused(429, "rate_limited", TOO_MANY))
        slider = "document.getElementById('then')"
        await tab.evaluate(f"{slider}.max = Number({slider}.max) + 600, {slider}.value = {slider}.max, {seek}")
        await tab.until(f"{text('history-words')} === {json.dumps(TOO_MANY)}")
        assert await tab.evaluate("document.getElementById('then-plot').hidden"), "it would be of another time"
        await tab.until(f"!({plotted})")
        assert await tab.complaints(but=REFUSED) == []


async def test_a_plot_that_is_cleared_while_it_is_drawn_does_not_stay(chromium: Chromium) -> None:
    api = ScriptedApi(glance("anna", reading(55)))
    history(api, "anna", 55)
    plotted = "document.querySelector('#then-plot .gtitle') !== null"
    slow = """
    ((react) => {
      window.gate = new Promise((done) => { window.open_gate = done; });
      window.Plotly.react = async (id, ...more) => {
        if (id === "then-plot") { window.drawing = true; await window.gate; }
        const drawn = await react(id, ...more);
        if (id === "then-plot") setTimeout(() => { window.drawn = true; }, 50);
        return drawn;
      };
    })(window.Plotly.react), 0
    """
    async with serving(api) as url, window(chromium, f"{url}#subject=anna&tab=history") as tab:
        await tab.until(plotted)
        await tab.evaluate(slow)
        await tab.evaluate("document.getElementById('then').dispatchEvent(new Event('input')), 0")
        await tab.until("window.drawing === true")
        api.says("GET /subjects/anna/forecasts/*", lambda *_: refused(429, "rate_limited", TOO_MANY))
        slider = "document.getElementById('then')"
        await tab.evaluate(
            f"{slider}.max = Number({slider}.max) + 600, {slider}.value = {slider}.max, "
            f"{slider}.dispatchEvent(new Event('input')), 0"
        )
        await tab.until(f"{text('history-words')} === {json.dumps(TOO_MANY)}")
        await tab.evaluate("window.open_gate(), 0")
        await tab.until("window.drawn === true")
        assert await tab.evaluate("document.getElementById('then-plot').hidden")
        assert not await tab.evaluate(plotted), "it would be of another time than is said above it"


async def test_the_form_changes_what_was_touched_and_keeps_what_it_cannot_show(chromium: Chromium) -> None:
    stored = AlertSettings(repeat_minutes=20, cooldown_minutes=45, high=RuleChange(probability=0.285))
    api = ScriptedApi(glance("anna", reading(120)))

    def put(_: str, body: bytes) -> AlertSettings:
        nonlocal stored
        stored = AlertSettings.model_validate_json(body)
        return stored

    api.says("GET /subjects/_/alerts/settings", lambda *_: stored)
    api.says("PUT /subjects/_/alerts/settings", put)
    async with serving(api) as url, window(chromium, f"{url}#subject=anna&tab=alerts") as tab:
        await tab.until(RULES)
        shown = f"[{value('repeat')}, {value('cooldown')}, {value('high-from')}]"
        assert await tab.evaluate(shown) == ["20", "45", "28.5"]
        phone = stored.model_copy(update={"low": RuleChange(enabled=True, threshold_mgdl=80), "repeat_minutes": 25})
        stored = phone  # what another device saves meanwhile
        await change(tab, "cooldown", "60")
        await change(tab, "stale_data-after", "30")
        await change(tab, "urgent_low-alerts", "off")
        await tab.evaluate(SAVE)
        await tab.until(f"{text('saved')}.startsWith('Saved')")
        assert stored == phone.model_copy(
            update={
                "cooldown_minutes": 60, "urgent_low": RuleChange(enabled=False),
                "stale_data": phone.stale_data.model_copy(update={"minutes": 30}),
            }
        )  # fmt: skip
        assert await tab.evaluate(f"[{value('repeat')}, {value('low-below')}]") == ["25", "80"]
        await change(tab, "urgent_low-alerts", "")
        await change(tab, "repeat", "")
        await tab.evaluate("document.getElementById('saved').textContent = '', 0")
        await tab.evaluate(SAVE)
        await tab.until(f"{text('saved')}.startsWith('Saved')")
        assert (stored.repeat_minutes, stored.urgent_low.enabled) == (None, None)

        # What is changed while an answer is under way is not taken back by it.
        slow = Gate()
        api.says("PUT /subjects/_/alerts/settings", slow.behind(stored.model_copy(update={"preset": "early"})))
        await change(tab, "preset", "early")
        puts = api.count("PUT /subjects/anna/alerts/settings")
        await tab.evaluate(SAVE)
        await until_async(lambda: api.count("PUT /subjects/anna/alerts/settings") > puts, "it is saved")
        await change(tab, "cooldown", "120")
        slow.opened.set()
        await tab.until(f"{text('saved')}.startsWith('Saved')")
        assert await tab.evaluate(f"[{value('preset')}, {value('cooldown')}]") == ["early", "120"]
        assert not await tab.evaluate("document.getElementById('unsaved').hidden")

        # What was asked before it was saved, and is answered after, does not know it.
        slow, late = Gate(), Gate()
        api.says("PUT /subjects/_/alerts/settings", slow.behind(stored.model_copy(update={"cooldown_minutes": 120})))
        await tab.evaluate(CAME)
        puts = api.count("PUT /subjects/anna/alerts/settings")
        await tab.evaluate(SAVE)
        await until_async(lambda: api.count("PUT /subjects/anna/alerts/settings") > puts, "it is saved")
        api.says("GET /subjects/_/alerts/settings", late.behind(stored))
        gets = api.count("GET /subjects/anna/alerts/settings")
        await tab.evaluate("document.getElementById('tab-alerts').click()")
        await until_async(lambda: api.count("GET /subjects/anna/alerts/settings") > gets, "it is asked for")
        slow.opened.set()
        await tab.until("document.getElementById('unsaved').hidden")
        late.opened.set()
        await tab.until("window.came.includes('PUT') && window.awaited === 0")
        assert await tab.evaluate(value("cooldown")) == "120"
        assert await tab.complaints() == []


def told(kind: str, status: str, at: datetime.datetime, **more: Any) -> dict[str, Any]:
    fields = {
        "alert_id": "a" * 64, "kind": kind, "status": status, "threshold_mgdl": None, "probability": None,
        "calibrated": None, "horizon_minutes": None, "glucose_mgdl": None, "issue_time": at, "onset_time": None,
        "lead_minutes": None, "rate_mgdl_per_minute": None, "ended_time": None, "first_crossing": [], "reason": "",
    }  # fmt: skip
    return fields | more


async def test_what_holds_is_said_above_every_tab_with_its_own_threshold_and_only_of_now(chromium: Chromium) -> None:
    last = now() - 10 * STEP
    hit = told("low", "hit", now() - 6 * STEP, threshold_mgdl=90, probability=0.6, horizon_minutes=30)
    low = hit | {"status": "raised", "issue_time": last, "first_crossing": [0.1, 0.2, 0.3, 0.1]}
    reason = f"nothing from the sensor for 50 min; the last glucose is of {last:%Y-%m-%d %H:%M} UTC: no forecast"
    missing = told("stale_data", "raised", now() - 6 * STEP, reason=reason)
    people = {
        "anna": (reading(82), [hit]), "ben": (reading(66, last), [low]), "cara": (reading(120, last), [missing]),
        "dora": (reading(82), []),
    }  # fmt: skip
    holding = {"anna": ["low"], "ben": ["low"], "cara": ["stale_data"], "dora": ["low"]}
    api = ScriptedApi(*(glance(each, newest, holding[each]) for each, (newest, _) in people.items()))
    api.says("GET /subjects/_/alerts", lambda each, _: alerts(each, holding=holding[each], recent=people[each][1]))
    api.says("GET /subjects/dora/alerts/settings", lambda *_: AlertSettings(low=RuleChange(threshold_mgdl=85)))
    async with serving(api) as url, window(chromium, f"{url}#subject=anna&tab=history") as tab:
        await pick(tab, "zone", "Asia/Tokyo")
        words = text("holding-words")
        for subject, said in {
            "anna": "Low: glucose is below 90 mg/dL.", "ben": "Low: glucose was below 90 mg/dL at ",
            "cara": "No readings since ", "dora": "Low: glucose is below 85 mg/dL.",
        }.items():  # fmt: skip
            await choose(tab, subject, "scores")
            await tab.until(f"!document.getElementById('holding').hidden && {words}.startsWith({json.dumps(said)})")
        await choose(tab, "cara", "alerts")
        await tab.until(f"{text('told')} !== ''")
        clock = await tab.evaluate(
            f"new Date('{last.isoformat()}').toLocaleTimeString([], "
            "{hour: '2-digit', minute: '2-digit', timeZone: 'Asia/Tokyo'})"
        )
        assert clock in (await tab.evaluate(text("told"))).split("the last glucose is of ")[1]
        assert "UTC" not in await tab.evaluate(text("told"))

        # The device's clock is put forward by an hour: whether that has passed, glucast tells.
        until = {"low": now() + 10 * STEP}
        api.says("GET /subjects/dora/alerts", lambda *_: alerts("dora", holding=["low"], holding_until=until))
        await choose(tab, "dora", "alerts")
        await tab.until(f"{words}.startsWith('Low')")
        asked = api.count("GET /subjects/dora/alerts")
        await tab.evaluate("((now) => { Date.now = () => now() + 3600000; })(Date.now)")
        await until_async(lambda: api.count("GET /subjects/dora/alerts") > asked, "it is asked for again")
        await tab.until(f"!document.getElementById('holding').hidden && {words}.startsWith('Low')")


async def test_all_is_asked_for_again_when_events_begin_anew_and_a_forecast_that_is_drawn_anew_is_shown(
    chromium: Chromium,
) -> None:
    api = ScriptedApi(glance("anna", reading(140, now() - 36 * STEP)))
    api.says("GET /events", lambda *_: refused(503, "unavailable", "this replica is still reading what Kafka holds"))
    async with serving(api) as url, window(chromium, url) as tab:
        await tab.until(f"{text('latest')}.startsWith('140')")
        first, again = chart("anna", 100, p_below_70=[0.001] * 12), chart("anna", 100, p_below_70=[0.6] * 12)
        api.says("GET /overview", lambda *_: refused(429, "rate_limited", TOO_MANY))
        asked = api.count("GET /overview")
        api.follows()
        await tab.until("document.getElementById('connection').hidden")
        await until_async(lambda: api.count("GET /overview") > asked, "asked again")
        api.people(glance("anna", reading(52, now()), ["urgent_low"]))
        await tab.until(f"{text('latest')}.startsWith('52')")
        assert "Alert: urgent low" in await tab.evaluate(text("people"))

        api.says("GET /subjects/anna/forecast", lambda *_: present(first))
        api.says("GET /subjects/anna/forecast/plot", lambda *_: drawn(first))
        api.tell("forecast", first)
        await tab.until(f"{text('sentence')}.includes('<1\u00a0% chance below 70')")
        plots = api.count("GET /subjects/anna/forecast/plot")
        api.says("GET /subjects/anna/forecast", lambda *_: present(again, '"2"'))
        clock = "import('/static/words.js').then(({clock}) => clock(Date.now()))"
        heard = [await tab.evaluate(clock)]
        api.tell("forecast", again)
        await tab.until(f"{text('sentence')}.includes('60\u00a0% chance below 70')")
        assert api.count("GET /subjects/anna/forecast/plot") == plots + 1

        # Seven hours of sleep: not live since the last word, and not since somebody looked again.
        heard.append(await tab.evaluate(clock))
        await tab.evaluate(
            "((now) => { Date.now = () => now() + 7 * 3600000; })(Date.now);"
            "window.fetch = async () => { throw new TypeError('offline'); }; 0"
        )
        api.cut()
        await tab.until("!document.getElementById('connection').hidden")
        said = await tab.evaluate(text("connection"))
        assert said.startswith(tuple(f"Not live since {each}:" for each in heard)), said
        assert await tab.complaints(but=REFUSED) == []
