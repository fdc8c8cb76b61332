"""What the plot shows, as numbers."""

import dataclasses
import datetime
import hashlib
import math
import re
from statistics import NormalDist
from typing import Any, get_args

import orjson
import pytest

from query_api.figure import FAN_MINUTES, figure
from query_api.plots import PLOT_TYPES, preferred
from query_api.style import DARK, HEIGHT, LIGHT, WIDTH, Style, Theme
from schemas.errors import ImplausibleError
from schemas.fan_chart import OUTER_LEVELS
from schemas.grid import MGDL_PER_MMOLL, PRESENT
from tests.golden.figures import CASES
from tests.kit.charts import ISSUE, fan_chart
from tests.kit.goldens import outline
from tests.kit.processes import printed


def traces(shown: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [trace for trace in shown["data"] if trace["name"] == name]


def test_the_figure_is_small_and_says_what_it_is_not_for() -> None:
    shown = figure(fan_chart())
    assert len(orjson.dumps(shown)) <= 40_000
    assert (shown["layout"]["width"], shown["layout"]["height"]) == (WIDTH, HEIGHT) == (1000, 600)
    assert any("not for treatment decisions" in note["text"] for note in shown["layout"]["annotations"])
    assert shown["layout"]["xaxis"]["title"]["text"] == "Time"
    assert shown["layout"]["yaxis"]["title"]["text"] == "Glucose (mg/dL)"


def test_fans_are_closed_shapes_of_their_own_nearer_ones_darker() -> None:
    fans = traces(figure(fan_chart()), "predicted density")
    opacities = [float(fan["fillcolor"].rstrip(")").split(",")[-1]) for fan in fans]
    assert len(fans) == 12
    assert opacities == sorted(opacities, reverse=True)
    for step, fan in enumerate(fans, start=1):
        assert fan["fill"] == "toself"
        assert fan["x"][0] == fan["x"][-1] == 5 * step
        assert 0.95 * FAN_MINUTES < 5 * step - min(fan["x"]) <= FAN_MINUTES + 0.01
        normal = NormalDist(120, 2 + 2 * step)
        assert min(fan["y"]) < normal.inv_cdf(0.001)
        assert max(fan["y"]) > normal.inv_cdf(0.999)


def test_the_median_begins_at_the_last_known_point_and_truth_goes_on_where_known() -> None:
    chart = fan_chart(past_mgdl=[float(100 + step % 20) for step in range(96)], truth_mgdl=[111.0, 112.0] + [None] * 10)
    shown = figure(chart)
    (median,), (measured,) = traces(shown, "forecast median"), traces(shown, "measured")
    assert (median["x"][0], median["y"][0]) == (0, chart.past_mgdl[-1])
    assert median["x"][1:] == list(range(5, 61, 5))
    assert measured["x"] == list(range(-55, 11, 5))
    assert measured["y"] == [*chart.past_mgdl[-12:], 111.0, 112.0]


def test_what_nobody_measured_is_drawn_hollow_and_says_so() -> None:
    chart = fan_chart(past_mgdl=[float(100 + step % 20) for step in range(96)], truth_mgdl=[111.0, 112.0, *[None] * 10],
                      interpolated_points=[0, 90, 91, 96])  # fmt: skip
    shown = figure(chart)
    (measured,), (interpolated,) = traces(shown, "measured"), traces(shown, "interpolated")
    known = [*chart.past_mgdl[-12:], 111.0, 112.0]
    assert measured["x"] == interpolated["x"] == list(range(-55, 11, 5))
    hollow = [90 - 84, 91 - 84, 96 - 84]
    assert measured["y"] == [None if place in hollow else value for place, value in enumerate(known)]
    assert [place for place, size in enumerate(interpolated["marker"]["size"]) if size] == hollow
    joined = [place for place, value in enumerate(interpolated["y"]) if value is not None]
    assert joined == [5, 6, 7, 8, 11, 12, 13], "from reading to reading"
    assert interpolated["marker"]["symbol"] == "circle-open"
    assert ["interpolated" in text for text in measured["text"]] == [place in hollow for place in range(14)]


def test_nothing_is_called_interpolated_where_all_that_is_drawn_was_measured() -> None:
    assert traces(figure(fan_chart(interpolated_points=[0, 50, 83])), "interpolated") == []


def test_the_subtitle_says_the_chance_of_the_path_where_it_is_known() -> None:
    path = dict.fromkeys(("below_54", "below_70", "above_180", "above_250"), (0.01, 0.02, 0.04, 0.4))
    known, unknown = (figure(chart)["layout"]["title"]["text"] for chart in (fan_chart(p_path=path), fan_chart()))
    assert "chance within the hour below 70: 40 %, above 180: 40 %" in known
    assert "highest chance below 70: 3 %, above 180: 1 %" in unknown


def test_the_axis_shows_the_clock_of_the_data() -> None:
    axis = figure(fan_chart())["layout"]["xaxis"]
    labels = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    assert (labels[0], labels[60]) == ("<b>14:05</b>", "15:05")


def test_every_glucose_is_in_the_unit_that_is_asked_for() -> None:
    shown = figure(fan_chart(), Style(unit="mmol/L"))
    (measured,) = traces(shown, "measured")
    assert measured["y"][0] == pytest.approx(120 / MGDL_PER_MMOLL, abs=0.01)
    target = next(shape for shape in shown["layout"]["shapes"] if shape["type"] == "rect")
    assert (target["y0"], target["y1"]) == (3.89, 9.99)
    assert "mmol/L" in shown["layout"]["title"]["text"]


def test_the_range_holds_all_that_is_drawn() -> None:
    chart = fan_chart(truth_mgdl=[399.0] + [None] * 11)
    low, high = figure(chart)["layout"]["yaxis"]["range"]
    assert low < 70
    assert high > 399


def test_a_fan_without_width_is_no_error() -> None:
    flat = fan_chart(quantiles_mgdl=[[120.0] * 12] * len(OUTER_LEVELS), epistemic_sd_mgdl=[0.0] * 12)
    for style in (Style(), Style(fan="epistemic")):
        for trace in traces(figure(flat, style), "predicted density" if style.fan == "total" else "model uncertainty"):
            assert all(map(math.isfinite, trace["x"] + trace["y"]))


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, "image/png"),
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("application/json", "application/json"),
        ("application/json;q=0.5, image/png;q=0.1", "application/json"),
        ("text/html,application/xhtml+xml,image/avif,*/*;q=0.8", "image/png"),
        ("image/png;q=0, */*", "image/svg+xml"),
        ("image/svg+xml", "image/svg+xml"),
        ("text/csv", None),
        ("application/json; charset=utf-8", "application/json"),
        ("APPLICATION/JSON;q=0.5;v=1, image/*;q=0.4", "application/json"),
        ("application/json, */*", "image/png"),
        ("image/png;q=0.5, application/json;q=0.5", "image/png"),
        ("image/*;q=0, */*", "application/json"),
        ("image/*, image/png;q=0.1", "image/svg+xml"),
        ("*/*;q=0.1, image/svg+xml;q=0.2", "image/svg+xml"),
        ("image/png, ", "image/png"),
        ("image/png;q=0", None),
        ("garbage", None),
        (";;;,=,\x00", None),
        ("*/json", None),
        (",".join(["a/b"] * 10_000), None),
        ("application/json;q=nonsense", None),
    ],
)
def test_accept_headers(accept: str | None, wanted: str | None) -> None:
    assert preferred(accept, PLOT_TYPES) == wanted


UNCHANGED = {
    "live": "5556d0a3c150f021",
    "live-epistemic": "d3ecebbd0a2b8398",
    "sample-with-truth": "80223c9c20b5675f",
    "sample-with-truth-mmol": "a20213779b863172",
    "quarters": "28b696719e66df6e",
    "low": "7bdd7aad0432eadb",
    "without-width": "105c213b2c36f31a",
}
"""Digests of figures before themes, zones and sizes: who asks for none of them gets the same bytes as ever."""


@pytest.mark.parametrize("name", CASES)
def test_without_a_style_the_figure_is_what_it_was(name: str) -> None:
    assert hashlib.sha256(orjson.dumps(figure(*CASES[name]))).hexdigest()[:16] == UNCHANGED[name]


def words(shown: dict[str, Any]) -> str:
    return " ".join([shown["layout"]["title"]["text"], *(note["text"] for note in shown["layout"]["annotations"])])


def test_the_clock_is_that_of_the_zone_that_is_asked_for_also_where_clocks_change() -> None:
    before = datetime.datetime(2026, 3, 29, 0, 40, tzinfo=datetime.UTC)
    chart = fan_chart(issue_time=before, first_target_time=before + datetime.timedelta(minutes=5))
    shown = figure(chart, Style(timezone="Europe/Vienna"))
    assert "29 Mar 2026, 01:40 Europe/Vienna (UTC+01:00)" in words(shown)
    ticks = dict(zip(shown["layout"]["xaxis"]["tickvals"], shown["layout"]["xaxis"]["ticktext"], strict=True))
    assert (ticks[0], ticks[15], ticks[30]) == ("<b>01:40</b>", "01:55", "03:10"), "there is no 02:10"
    assert "00:40 UTC" in words(figure(chart, Style(timezone="UTC")))
    assert "06:25 UTC+05:45" in words(figure(chart, Style(timezone="+05:45")))


@pytest.mark.parametrize("timezone", ["", "Mars/Olympus", "Europe", "../UTC", "+25:00", "+٠٢:٠٠", "UTC\0", "+2"])
def test_a_zone_that_does_not_exist_draws_nothing(timezone: str) -> None:
    with pytest.raises(ImplausibleError, match="unknown timezone"):
        figure(fan_chart(), Style(timezone=timezone))


def test_the_age_is_written_only_where_it_is_asked_for() -> None:
    assert "Drawn at" not in words(figure(fan_chart()))
    assert "Drawn at 14:09, 4 min after the last known point." in words(figure(fan_chart(), Style(age_minutes=4)))
    simulated = words(figure(fan_chart(simulated=True), Style(age_minutes=4)))
    assert "Simulated; computed 4 min before" in simulated
    assert "Drawn at" not in simulated


def test_what_is_the_present_forecast_says_until_when_on_the_clock_that_is_shown() -> None:
    until = ISSUE.astimezone(datetime.UTC) + PRESENT
    assert "holds until" not in words(figure(fan_chart())), "of the past"
    assert "last known 14:05<br>holds until 14:20" in words(figure(fan_chart(), Style(valid_until=until)))
    elsewhere = figure(fan_chart(), Style(valid_until=until, timezone="UTC"))
    assert "last known 13:05<br>holds until 13:20" in words(elsewhere)
    simulated = figure(fan_chart(simulated=True), Style(valid_until=until + datetime.timedelta(hours=3)))
    assert "last known 14:05<br>simulated, holds until 17:20" in words(simulated)


def test_a_theme_changes_colours_and_nothing_else() -> None:
    light, dark = (figure(fan_chart(past_mgdl=[60.0] * 96), Style(theme=theme)) for theme in get_args(Theme))
    assert outline(light) == outline(dark)
    for palette, shown in ((LIGHT, light), (DARK, dark)):
        used = set(re.findall(r"#[0-9a-f]{6}", orjson.dumps(shown).decode()))
        assert used <= set(dataclasses.astuple(palette))


def test_drawings_that_differ_have_keys_that_differ() -> None:
    styles = [
        Style(), Style(unit="mmol/L"), Style(fan="epistemic"), Style(theme="dark"), Style(timezone="UTC"),
        Style(width=800), Style(height=800), Style(scale=2), Style(age_minutes=0), Style(age_minutes=1),
        Style(valid_until=ISSUE), Style(valid_until=ISSUE + PRESENT),
    ]  # fmt: skip
    assert len({style.key for style in styles}) == len(styles)
    assert len(styles) >= 2 + len(dataclasses.fields(Style))


def test_the_application_starts_without_heavy_packages() -> None:
    heavy = ("torch", "pandas", "polars", "plotly", "kaleido", "pyarrow", "faust", "darts", "numpy")
    code = f"import sys, query_api.app; print([name for name in {heavy} if name in sys.modules])"
    assert printed(code).strip() == "[]"
