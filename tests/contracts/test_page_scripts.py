"""The page's scripts: their types are right, and every one of them is served."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from query_api.routers.page import _OWN, DASHBOARD
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
         [[119, "Flat", False]]),
        ("read(0, 118); forecast(0); read(2, 119, none('superseded')); show()", [[119, "Flat", True]]),
        ("read(0, 118); read(5, 55, none('implausible_change')); forecast(0); show(); "
         "read(10, 57); forecast(10); show()",
         [[55, "DoubleDown", False], [57, "Flat", True]]),
    ],
    ids=["a correction", "of what was forecast", "of what it was made of", "beside it", "a late forecast"],
)  # fmt: skip
def test_the_list_of_people_shows_what_counts_of_what_it_is_told(told: str, shown: list[list[object]]) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node")
    script = f"{STUBS}\n{told}; console.log(JSON.stringify(shown));"
    ran = subprocess.run(
        [node, "--input-type=module", "--eval", script, "--", DASHBOARD / "people.js"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == shown
