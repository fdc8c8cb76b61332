"""What the plot shows, as numbers."""

import math
from statistics import NormalDist
from typing import Any

import orjson
import pytest

from query_api.figure import FAN_MINUTES, HEIGHT, WIDTH, Style, figure
from query_api.plots import SAMPLE_TYPES, SUBJECT_TYPES, preferred
from schemas.fan_chart import OUTER_LEVELS
from schemas.grid import MGDL_PER_MMOLL
from tests.kit.charts import fan_chart
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
    assert preferred(accept, SUBJECT_TYPES) == wanted


def test_samples_are_not_offered_as_svg() -> None:
    assert preferred("image/svg+xml", SAMPLE_TYPES) is None


def test_the_application_starts_without_heavy_packages() -> None:
    heavy = ("torch", "pandas", "polars", "plotly", "kaleido", "pyarrow", "faust", "darts", "numpy")
    code = f"import sys, query_api.app; print([name for name in {heavy} if name in sys.modules])"
    assert printed(code).strip() == "[]"
