"""The live page in a real Chromium: it moves by events, outlives the API, and shows each side of a person."""

import contextlib
import datetime
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from deploy.brokers.wire import HeldPort
from schemas.tables import trial_key
from streams.kafka.connection import producer_options
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from streams.topology import SCORES_CHANGELOG
from tests.api.test_model_comparison import SERVED, TODAY, TRIAL, state_of
from tests.browser.window import FITS, Chromium, Window, window
from tests.kit.query import listening
from tests.kit.small_pipeline import SmallPipeline, at

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]

PLOTTED = "document.querySelectorAll('#plot .scatterlayer .trace').length >= 14"
LATER = "((now) => { Date.now = () => now() + 20 * 60000; })(Date.now), 0"
"""The clock of the device 20 minutes on."""
WIDTHS = [(1280, 900), (720, 900), (390, 844), (360, 740)]
LONG_ZONE = "America/North_Dakota/New_Salem"
PULLED = "net::ERR_|status of 503"
"""What Chromium says of a server that is not there, or just begins."""


def text(id_: str) -> str:
    return f"document.getElementById({id_!r}).textContent"


@contextlib.asynccontextmanager
async def api(settings: Settings, home: Path, port: int | None = None) -> AsyncIterator[httpx.AsyncClient]:
    async with listening(settings, home, port) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


def steady(step: int) -> float:
    return 120.0 + step % 5


def falling(step: int) -> float:
    """Towards a low: 76 mg/dL at step 120."""
    return 140.0 - 4.0 * max(0, step - 104)


def pressed(step: int) -> float:
    """On a sensor that somebody lies on for a while, three hours after step 24."""
    return dict(enumerate([84.0, 62.0, 58.0, 60.0, 88.0, 104.0], start=60)).get(step, 110.0)


def at_night(step: int, of: int) -> str:
    """The time of a step on the clock of somebody for whom it is three o'clock at step `of`."""
    hours = 3 - datetime.datetime.fromisoformat(at(5 * of)).hour
    zone = datetime.timezone(datetime.timedelta(hours=(hours + 11) % 24 - 11))
    return datetime.datetime.fromisoformat(at(5 * step)).astimezone(zone).isoformat()


async def publish(
    client: httpx.AsyncClient, subject: str, steps: Iterable[int], glucose: Callable[[int], float] = steady,
    time: Callable[[int], str] = lambda step: at(5 * step),
) -> None:  # fmt: skip
    """Readings of the recent past: step 120 is that of the last five minutes."""
    readings = [{"time": time(step), "glucose": glucose(step), "unit": "mg/dL"} for step in steps]
    answer = await client.post(f"/subjects/{subject}/readings", json=readings)
    assert answer.status_code == 202, answer.text


async def choose(tab: Window, subject: str, part: str = "now") -> None:
    await tab.until(f"document.querySelector('[data-subject={subject}]') !== null")
    await tab.evaluate(f"document.querySelector('[data-subject={subject}]').click()")
    await tab.evaluate(f"document.getElementById('tab-{part}').click()")


async def test_the_page_moves_by_events_and_goes_on_after_a_restart(
    chromium: Chromium, settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    port = HeldPort()
    async with contextlib.AsyncExitStack() as first, window(chromium, "about:blank") as tab:
        client = await first.enter_async_context(api(settings, tmp_path, port.number))
        await tab.open(f"{client.base_url}")
        await tab.until("!document.getElementById('nobody').hidden")
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
        issued = (await client.get("/subjects/anna/forecast")).json()["issue_time"]
        measured = "performance.getEntriesByName('glucast-drawn')"
        await tab.until(f"{measured}.at(-1)?.detail === {json.dumps(issued)}")  # the page times itself
        assert await tab.evaluate(f"{measured}.length") == 1, "however long it is open"
        assert await tab.evaluate(f"{measured}[0].duration") > 0

        await publish(client, "anna", (120,), lambda _: 160.0)
        await tab.until(f"{text('sentence')}.includes(': 160 mg/dL')")
        await publish(client, "anna", (119,), lambda _: 100.0)  # it has a forecast, and leaves none after it
        await tab.until(f"{text('why')}.includes('corrected: the glucose changes after it')")
        assert "no forecast" in await tab.evaluate("document.querySelector('[data-subject=anna]').textContent")
        await publish(client, "anna", (119,), steady)
        await tab.until(f"{PLOTTED} && !document.getElementById('plot').hidden")

        await first.aclose()
        await tab.until(f"{text('connection')}.startsWith('Not live since')")
        assert await tab.evaluate(PLOTTED), "what holds is still shown"
        await tab.evaluate(LATER)
        await tab.until("document.getElementById('plot').hidden")
        assert "no longer holds (" in await tab.evaluate(text("why"))
        assert await tab.evaluate(text("sentence") + " + " + text("facts")) == "", "and nothing of it"
        async with api(settings, tmp_path, port.number) as client:
            await tab.until("document.getElementById('connection').hidden")
            await publish(client, "bert", range(60, 64), lambda step: 90.0 + step % 5)
            await tab.until("document.querySelectorAll('#people .person').length === 2")
            await choose(tab, "bert")
            reason = "No forecast yet: 15 min of gap-free readings so far; a forecast needs 8 h."
            await tab.until(f"{text('why')} === {json.dumps(reason)}")
            assert "Expected with the reading of" in await tab.evaluate(text("expected"))
            assert "if one comes every 5 minutes until then." in await tab.evaluate(text("expected"))
            assert not await tab.evaluate("document.querySelector('#plot .gtitle') !== null")
        assert await tab.complaints(but=PULLED) == []


async def test_alerts_history_accuracy_units_and_keys(
    chromium: Chromium, settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with api(settings, tmp_path) as client, window(chromium, f"{client.base_url}") as tab:
        await publish(client, "anna", range(121))
        await publish(client, "bert", range(121), lambda step: 200.0 + step % 5)
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
        await tab.until(f"{text('saved')}.startsWith('Saved')")
        kept = (await client.get("/subjects/anna/alerts/settings")).json()
        assert (kept["preset"], kept["low"]["probability"], kept["low"]["active"]) == ("early", 0.2, "22:00-07:00")
        assert (kept["low"]["threshold_mgdl"], kept["high"]["threshold_mgdl"], kept["high"]["enabled"]) == (
            80,
            None,
            None,
        )

        await tab.evaluate("document.getElementById('tab-history').click()")
        await tab.until("document.querySelectorAll('#then-plot .scatterlayer .trace').length >= 14")
        newest = await tab.evaluate(text("then-facts"))
        assert (newest.count("no reading yet"), "not measured" in newest) == (2, False)
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


HELD = """
((fetched) => {
  window.held = [];
  window.fetch = async (url, ...more) => {
    const answer = await fetched(url, ...more);
    if (/overview|alerts$/.test(url)) await new Promise((go) => window.held.push(go));
    return answer;
  };
})(window.fetch), 0
"""
"""Answers about everybody, and about alerts, that are slow to arrive."""


async def test_an_answer_takes_back_nothing_that_was_told_since_it_was_asked_for(
    chromium: Chromium, settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with api(settings, tmp_path) as client, window(chromium, f"{client.base_url}") as tab:
        await publish(client, "anna", range(120))
        await choose(tab, "anna")
        await tab.until(PLOTTED)
        await tab.evaluate(HELD)
        await tab.evaluate("import('/static/people.js').then((people) => { window.asked = people.load(); }), 0")
        await tab.until("window.held.length === 1")
        await publish(client, "anna", range(120, 121), lambda _: 58.0)
        row = "document.querySelector('[data-subject=anna]').textContent"
        await tab.until(f"{row}.includes('58 mg/dL')")
        await tab.evaluate("window.held.forEach((go) => go()), window.asked.then(() => 0)")
        assert "58 mg/dL" in await tab.evaluate(row)


async def test_the_strip_of_the_past_is_the_same_in_either_unit(
    chromium: Chromium, settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    path = "document.querySelector('#strip path')?.getAttribute('d')"
    drawn = f"({path} ?? '').length > 100 && {path}"
    async with api(settings, tmp_path) as client, window(chromium, f"{client.base_url}") as tab:
        await publish(client, "anna", range(121), lambda step: 70.0 + step)
        paths = []
        for unit in ("mg/dL", "mmol/L"):
            await choose(tab, "anna")
            await tab.until(PLOTTED)
            await tab.evaluate(
                f"((unit) => {{ unit.value = '{unit}'; unit.dispatchEvent(new Event('change')); }})"
                "(document.getElementById('unit'))"
            )
            await tab.open(f"{client.base_url}")  # it remembers the unit
            await choose(tab, "anna", "history")
            paths.append(await tab.until(drawn))
        assert paths[0] == paths[1]
        assert len({float(point.split()[1]) for point in paths[0].replace("M", "L").split("L")[1:]}) > 10


async def test_nothing_is_cut_off_and_nobody_is_kept_out(
    chromium: Chromium, settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with api(settings, tmp_path) as client, window(chromium, f"{client.base_url}") as tab:
        await publish(client, "anna", range(0, 121, 3))
        await choose(tab, "anna")
        await tab.until(PLOTTED)
        assert "64 of 96 points are interpolated." in await tab.evaluate(text("doubts"))
        for scheme in ("light", "dark"):
            for width, height in WIDTHS:
                await tab.show(width, height, scheme)
                for part in ("history", "alerts", "scores", "now"):
                    await choose(tab, "anna", part)
                    await tab.until(FITS)
                    if width == 390:
                        assert await tab.barriers() == [], (part, scheme)
        assert await tab.complaints() == []


async def test_plots_fit_at_every_width_on_the_clock_with_the_longest_name(
    chromium: Chromium, settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with api(settings, tmp_path) as client, window(chromium, f"{client.base_url}") as tab:
        await publish(client, "anna", range(121))
        await choose(tab, "anna")
        await tab.until(PLOTTED)
        await pick(tab, "zone", LONG_ZONE)
        for part, plot in (("now", "plot"), ("history", "then-plot")):
            await choose(tab, "anna", part)
            await tab.until(f"document.querySelector('#{plot} .gtitle')?.textContent.includes('{LONG_ZONE}')")
            for width, height in WIDTHS:
                await tab.show(width, height)
                await tab.until_nothing_is_cut_off(plot)
        assert (await tab.evaluate(text("sentence"))).startswith("At ")
        await tab.evaluate("Plotly.relayout('then-plot', {width: 1000}).then(() => 0)")
        assert await tab.cut_off("then-plot") != [], "what sticks out is seen"
        assert await tab.complaints() == []


async def pick(tab: Window, select: str, value: str) -> None:
    """A choice, when it is there, or what is typed into a field."""
    field = f"document.getElementById({json.dumps(select)})"
    await tab.until(f"!{field}.options || [...{field}.options].some((each) => each.value === {json.dumps(value)})")
    await tab.evaluate(
        f"((field) => {{ field.value = {json.dumps(value)}; field.dispatchEvent(new Event('change')); }})"
        f"(document.getElementById({json.dumps(select)}))"
    )


async def test_every_state_keeps_nobody_out_and_leaves_the_console_clean(
    chromium: Chromium, settings: Settings, pipeline: SmallPipeline, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as first, window(chromium, "about:blank") as tab:
        client = await first.enter_async_context(api(settings, tmp_path))
        await tab.open(f"{client.base_url}")
        await tab.until("!document.getElementById('nobody').hidden")
        barriers = {"empty": await tab.barriers()}

        await publish(client, "bert", range(60, 64))
        await choose(tab, "bert")
        await tab.until("!document.getElementById('nothing').hidden")
        barriers["no forecast"] = await tab.barriers()
        await choose(tab, "bert", "scores")
        await tab.until(f"{text('scores-words')}.includes('8 h of readings')")

        await publish(client, "emma", range(114))
        await choose(tab, "emma")
        await tab.until(f"{text('why')}.includes('no longer holds')")
        assert " UTC" not in await tab.evaluate(text("why")), "on the clock of who looks"
        assert await tab.evaluate("document.getElementById('save-forecast').hidden")

        early = {"preset": "early"}
        assert (await client.put("/subjects/anna/alerts/settings", json=early)).status_code == 200
        await publish(client, "anna", range(121), falling)
        await choose(tab, "anna")
        await tab.until("!document.getElementById('holding').hidden")
        assert "likeliest from" in await tab.evaluate(text("holding-words"))
        barriers["an alert"] = await tab.barriers()
        await choose(tab, "anna", "alerts")
        await tab.until("document.querySelectorAll('#rules fieldset').length === 7")
        await tab.evaluate("document.querySelector('#settings details').open = true")
        await tab.show(390, 844, "dark")
        await tab.until(FITS)
        barriers["all settings"] = await tab.barriers()

        steps = [step for step in range(121) if step != 100]
        await publish(client, "carl", steps, pressed, lambda step: at_night(step, 62))
        await choose(tab, "carl")
        await tab.until(f"{text('doubts')}.includes('as under pressure on the sensor')")
        assert "1 of 96 points are interpolated" in await tab.evaluate(text("doubts"))
        barriers["doubts"] = await tab.barriers()

        await scored(settings, "dora")
        await pick(tab, "subject", "dora")
        await tab.evaluate("document.getElementById('tab-scores').click()")
        await tab.until("document.querySelectorAll('#score-rows tr').length >= 2")
        rows = await tab.evaluate("[...document.querySelectorAll('#score-rows tr')].map((row) => row.textContent)")
        assert any(row.startswith("60 min") and "12.0" in row for row in rows), rows
        assert any(row.startswith("60 min, on trial") and "10.0" in row for row in rows), rows
        assert "on trial 90 %" in await tab.evaluate(text("claims"))
        barriers["a model on trial"] = await tab.barriers()

        assert await tab.complaints() == []
        await first.aclose()
        await tab.until("!document.getElementById('connection').hidden")
        barriers["not live"] = await tab.barriers()
        assert {state: found for state, found in barriers.items() if found} == {}


async def scored(settings: Settings, subject: str) -> None:
    """Scores of the served model, and of one on trial."""
    rows = {subject: state_of(SERVED, 12.0, TODAY), trial_key(subject): state_of(TRIAL, 10.0, TODAY)}
    partition = partition_of(subject.encode(), settings.partitions)
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        for key, row in reversed(rows.items()):
            await producer.send_and_wait(SCORES_CHANGELOG.name, row, key.encode(), partition=partition)
