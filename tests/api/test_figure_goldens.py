"""Figures have the structure that was once looked at; tests/golden/figures.py says how a new one is taken over."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.golden.figures import CASES, DIRECTORY, RENEW, outline_of, path_of
from tests.kit.goldens import differences


@pytest.mark.parametrize("name", CASES)
def test_a_figure_has_the_structure_of_its_golden(name: str) -> None:
    golden = json.loads(path_of(name).read_text("utf-8"))
    found = list(differences(golden, outline_of(name)))
    told = "\n  ".join(found[:20] + ([f"and {len(found) - 20} more"] if len(found) > 20 else []))
    assert not found, f"the figure of {name} differs from {path_of(name).name}:\n  {told}\nIf that is meant: {RENEW}"


def test_every_golden_has_its_case() -> None:
    assert {path.name for path in DIRECTORY.glob("figure-*.json")} == {path_of(name).name for name in CASES}


@pytest.mark.parametrize("name", [name for name in CASES if name != "without-width"])
def test_a_golden_is_a_fan_of_closed_shapes_a_median_and_what_was_measured(name: str) -> None:
    """Whoever renews a golden cannot give away what a figure is."""
    traces = json.loads(path_of(name).read_text("utf-8"))["traces"]
    lines = ["measured", "forecast median"] if name != "quarters" else ["interpolated", "measured", "forecast median"]
    assert [trace["name"] for trace in traces[12:]] == lines
    assert [trace["closed"] for trace in traces] == [True] * 12 + [False] * len(lines)
    assert [trace["points"] for trace in traces[:12]] == [42] * 12
    assert traces[-1]["points"] == 13


def altered(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    changed = copy.deepcopy(outline_of("live"))
    change(changed)
    return changed


def opened(found: dict[str, Any]) -> None:
    found["traces"][3]["closed"] = False


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda found: found["traces"].pop(), "figure.traces: 13 entries, there were 14"),
        (lambda found: found["traces"][3]["y"].__setitem__(9, 0.0), "'predicted density'.y[9]: 0, it was"),
        (lambda found: found["traces"][3]["x"].pop(), "'predicted density'.x: 41 entries, there were 42"),
        (opened, "figure.traces[3] 'predicted density'.closed: false, it was true"),
        (lambda found: found["traces"][12].update(name="truth"), "'measured'.name: \"truth\", it was \"measured\""),
        (lambda found: found["traces"][12].update(type="bar"), "'measured'.type: \"bar\", it was \"scatter\""),
        (lambda found: found["axes"]["yaxis"]["range"].__setitem__(1, 400.0), "axes.yaxis.range[1]: 400, it was"),
        (lambda found: found["axes"]["xaxis"].pop("ticktext"), "axes.xaxis: ticktext is gone, it was ["),
        (lambda found: found["shapes"].clear(), "figure.shapes: 0 entries, there were"),
        (lambda found: found.update(title="Forecast"), "figure.title: \"Forecast\", it was \"<b>Glucose"),
        (lambda found: found.update(more=1), "figure: more is new: 1"),
    ],
)  # fmt: skip
def test_a_difference_is_told_by_its_place(change: Callable[[dict[str, Any]], object], told: str) -> None:
    found = list(differences(outline_of("live"), altered(change)))
    assert len(found) == 1
    assert told in found[0]


def test_numbers_that_no_eye_tells_apart_are_no_difference() -> None:
    def moved(found: dict[str, Any]) -> None:
        for trace in found["traces"]:
            trace["y"] = [value + 0.04 for value in trace["y"]]

    assert list(differences(outline_of("live"), altered(moved))) == []
