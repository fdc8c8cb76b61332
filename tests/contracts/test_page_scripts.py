"""The page's scripts: their types are right, and every one of them is served."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from query_api.event_streams import HEARTBEAT_SECONDS
from query_api.routers.page import _OWN, DASHBOARD, PLOTLY
from tests.kit.sources import ROOT

TSC = Path(sys.prefix) / "node/node_modules/typescript/bin/tsc"


def test_the_types_of_the_scripts_are_right() -> None:
    node = shutil.which("node")
    if node is None or not TSC.exists():
        pytest.skip("no Node or no TypeScript: bash deploy/setup.sh --test installs the latter where there is npm")
    checked = subprocess.run(
        [node, TSC, "--project", ROOT / "tests/browser/tsconfig.json"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_every_file_of_the_page_is_served() -> None:
    assert {path.name for path in DASHBOARD.iterdir()} - {"page.html", "docs.html"} == {*_OWN}


def modules_of(name: str, found: set[str]) -> set[str]:
    """A module and all that it imports, and so on."""
    if name not in found:
        found.add(name)
        for other in re.findall(r'from "\./(\w+\.js)"', (DASHBOARD / name).read_text()):
            modules_of(other, found)
    return found


def test_the_page_names_all_its_modules_so_that_they_come_in_one_round_and_plotly_is_in_nobodys_way() -> None:
    page = (DASHBOARD / "page.html").read_text()
    named = re.findall(r'<link rel="modulepreload" href="/static/(\w+\.js)">', page)
    assert sorted(named) == named
    assert {"page.js", *named} == modules_of("page.js", set())
    assert re.findall("<script[^>]*>", page) == ['<script src="/static/page.js" type="module">']
    assert f'<link rel="preload" href="/static/{PLOTLY}" as="script" fetchpriority="low">' in page
    assert f'"/static/{PLOTLY}"' in (DASHBOARD / "chart.js").read_text()


def test_the_page_waits_for_more_than_two_heartbeats_before_it_calls_events_lost() -> None:
    (patience,) = re.findall(r"SILENT_MILLISECONDS = (\d+)", (DASHBOARD / "events.js").read_text())
    assert (HEARTBEAT_SECONDS, int(patience) > 2000 * HEARTBEAT_SECONDS) == (15, True)


STUBS = """
const stub = () => new Proxy(function () {}, {
  get: (_, name) => name === Symbol.toPrimitive ? () => "" : name === "innerHTML" ? "" : name === "childNodes" ? []
    : name === "value" ? "mg/dL" : stub(),
  set: () => true, apply: () => stub(),
});
globalThis.document = {
  getElementById: stub, createElement: stub, documentElement: stub(), querySelectorAll: () => [],
};
globalThis.sessionStorage = globalThis.localStorage = { getItem: () => null, setItem() {} };
globalThis.Option = function () {};
globalThis.matchMedia = () => ({ matches: false, addEventListener() {} });
globalThis.Node = class {};
globalThis.window = globalThis;
const people = await import(process.argv[1]);
const at = (minutes) => new Date(Date.UTC(2026, 2, 1, 12, minutes)).toISOString();
const overview = (reading, more = {}) => {
  globalThis.fetch = async () => new Response(JSON.stringify({subjects: [{
    subject_id: "anna", forecast: null, withheld_times: [], holding: [], holding_until: {}, reading: {
      direction: "NONE", simulated: false, device: null, before: [], without_forecast: false, ...reading,
    }, ...more,
  }], more: 0}));
  return people.load();
};
const minutely = (from, ...values) => values.forEach((glucose, minute) => read(from + minute, glucose));
const read = (minutes, glucose, more = {}) => people.takeReading({
  subject_id: "anna", status: "forecast_requested", issue_times: [], withheld_times: [], ...more,
  reading: { subject_id: "anna", time: at(minutes), glucose, unit: "mg/dL", simulated: false },
});
const forecast = (minutes) => people.takeForecast({
  subject_id: "anna", issue_time: at(minutes), simulated: false, p_path: null, p_below_70: [0.5], p_above_180: [0],
});
const none = (code, ...ends) => ({ status: "no_forecast", code, withheld_times: ends.map(at) });
const shown = [];
const show = () => {
  const person = people.person("anna");
  shown.push([person.reading.mgdl, person.reading.direction, people.forecastOf(person) !== null]);
};
"""
"""What the list of people stands on in a browser, and what it is told."""


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("read(0, 118); read(5, 250); read(5, 112); show(); read(5, 112); read(5, 250, {status: 'duplicate'}); show()",
         [[112, "FortyFiveDown", False]] * 2),
        ("read(0, 118); forecast(0); show(); read(0, 300, none('implausible_change', 0)); show()",
         [[118, "NONE", True], [300, "NONE", False]]),
        ("read(0, 118); read(5, 119); forecast(5); read(0, 300, none('implausible_change', 0, 5)); show()",
         [[119, "DoubleDown", False]]),
        ("read(0, 118); forecast(0); read(2, 119, none('superseded')); show()", [[119, "NONE", True]]),
        ("read(0, 118); read(5, 55, none('implausible_change')); forecast(0); show(); "
         "read(10, 57); forecast(10); show()",
         [[55, "DoubleDown", False], [57, "Flat", True]]),
        ("await overview({time: at(5), glucose_mgdl: 240, without_forecast: true}); forecast(0); show(); "
         "read(10, 244); forecast(10); show()",
         [[240, "NONE", False], [244, "Flat", True]]),
        ("minutely(0, 120, 119, 121, 120, 118, 121, 119, 120, 119, 122); show(); minutely(10, 119, 112, 104); show()",
         [[122, "Flat", False], [104, "DoubleDown", False]]),
        ("minutely(0, 120, 123); show(); read(2, 126); show(); read(3, 129); show()",
         [[123, "NONE", False], [126, "NONE", False], [129, "DoubleUp", False]]),
        ("await overview({time: at(5), glucose_mgdl: 118, direction: 'Flat', before: [4, 3, 2, 1, 0].map((minute) => "
         "({time: at(minute), glucose_mgdl: 118}))}); read(6, 108); show(); read(24, 100); show()",
         [[108, "SingleDown", False], [100, "NONE", False]]),
        ("read(0, 100); read(10, 120); read(5, 119); read(10, 121); show()", [[121, "Flat", False]]),
        ("read(0, 150); read(15.1, 118); show()", [[118, "SingleDown", False]]),
        ("read(0, 130); read(5, 150); show(); read(0, 152); show()", [[150, "DoubleUp", False], [150, "Flat", False]]),
        ("read(5, 100); show(); read(0, 118); show()", [[100, "NONE", False], [100, "DoubleDown", False]]),
        ("read(0, 118); forecast(0); show(); read(0, 300, none('other_device', 0)); show()",
         [[118, "NONE", True], [118, "NONE", False]]),
        ("await overview({time: at(0), glucose_mgdl: 118, before: undefined}, {withheld_times: undefined}); "
         "forecast(0); show(); read(5, 119, {withheld_times: undefined}); show()",
         [[118, "NONE", True], [119, "Flat", True]]),
    ],
    ids=["a correction", "of what was forecast", "of what it was made of", "beside it", "a late forecast",
         "a late forecast after loading", "each minute", "too soon to tell", "each minute, loaded", "a late reading",
         "each quarter of an hour", "a correction of the one before", "one before that comes late",
         "another device", "told by a replica of before"],
)  # fmt: skip
def test_the_list_of_people_shows_what_counts_of_what_it_is_told(told: str, shown: list[list[object]]) -> None:
    assert _said_by("people.js", f"{told}; console.log(JSON.stringify(shown));") == shown


def test_a_share_of_nearly_all_is_not_all_and_one_of_nearly_none_not_none() -> None:
    shares = [0, 0.0049, 0.005, 0.5, 0.9949, 0.995, 0.9962, 1]
    said = _said_by("words.js", f"console.log(JSON.stringify({shares}.map(people.percent)))")
    assert said == ["<1 %", "<1 %", "<1 %", "50 %", "99 %", ">99 %", ">99 %", ">99 %"]


CLOCKS = """
const clocks = { wall: 0, steady: 0 };
Date.now = () => clocks.wall;
performance.now = () => clocks.steady;
const told = (seconds) => people.noteClock({ headers: { get: () => new Date(1000 * seconds).toUTCString() } });
const found = [], doubted = [];
const pass = (wall, steady) => {
  clocks.wall += 1000 * wall; clocks.steady += 1000 * steady; found.push(people.now() / 1000);
  doubted.push(people.clockIsDoubted());
};
clocks.wall = 3600000; told(10); pass(60, 60);  // an hour ahead
pass(-3600 + 2400, 2400);  // put right, and forty minutes on
pass(7200, 1);  // asleep for two hours, in which the steady one stood
pass(5, 5); told(20000); pass(5, 5);
console.log(JSON.stringify([found, doubted]));
"""


def test_time_goes_on_though_a_clock_is_put_back_and_though_another_stands() -> None:
    found, doubted = _said_by("api.js", CLOCKS)
    assert found == [70, 2470, 9670, 9675, 20005]
    assert doubted == [False, False, True, True, False], "it was asleep, or its clock was put forward: an answer tells"


def _said_by(module: str, script: str) -> Any:
    """What a script writes, as JSON, that imports one of the page's as `people`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node")
    ran = subprocess.run(
        [node, "--input-type=module", "--eval", f"{STUBS}\n{script}", "--", DASHBOARD / module],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
