"""A fan chart as a Plotly figure: plain dictionaries, so that neither pandas nor plotly is imported to serve one.

The horizontal axis counts minutes from the last known point and is labelled with the clock of the data. True values
are blue, those interpolated between them grey and hollow; the median is red and begins at the last known point, and
each target step carries the density of its glucose as one closed shape, nearer ones darker.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from agents.core.density_curves import DensityCurve, epistemic_curves, predictive_curves
from agents.core.local_time import offset_text
from schemas.fan_chart import FanChart
from schemas.grid import MGDL_PER_MMOLL, STEP_MINUTES
from schemas.reading import Unit

WIDTH, HEIGHT = 1000, 600
PAST_SHOWN = 12
FAN_MINUTES = 4.6
"""Width of the widest point of a density: a little less than one step, so that neighbours stay apart."""
TARGET_RANGE_MGDL = (70.0, 180.0)
LOW_MGDL, HIGH_MGDL = 54.0, 250.0

FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_INK, _MUTED, _GRID = "#1f2933", "#66727f", "#e8ecf0"
_TRUTH, _MEDIAN = "#1f6fd1", "#d3322d"
_INTERPOLATED = "#7b8794"
_FAN_RGB = "88,86,160"
_TARGET_FILL, _TARGET_LINE = "rgba(46,160,103,0.09)", "rgba(46,160,103,0.55)"
_LOW_FILL, _HIGH_FILL = "rgba(211,50,45,0.06)", "rgba(230,150,30,0.06)"


@dataclasses.dataclass(frozen=True, slots=True)
class Style:
    """What may differ between drawings of the same fan chart."""

    unit: Unit = "mg/dL"
    fan: Literal["total", "epistemic"] = "total"

    @property
    def scale(self) -> float:
        return 1.0 if self.unit == "mg/dL" else 1.0 / MGDL_PER_MMOLL

    @property
    def digits(self) -> int:
        return 1 if self.unit == "mg/dL" else 2

    def number(self, mgdl: float) -> float:
        return round(mgdl * self.scale, self.digits)

    def text(self, mgdl: float) -> str:
        return f"{mgdl * self.scale:.{self.digits - 1}f}"


def figure(chart: FanChart, style: Style | None = None) -> dict[str, Any]:
    """``{"data": …, "layout": …}`` of 1000x600, at most 40 kB as JSON."""
    style = style or Style()
    curves = predictive_curves(chart) if style.fan == "total" else epistemic_curves(chart)
    low, high = _range(chart, curves)
    return {
        "data": [*_fans(curves, style), *_known(chart, style), _median(chart, style)],
        "layout": _layout(chart, style, low, high),
    }


def _minutes(step: int) -> int:
    """Target steps count from 1; 0 is the last known point."""
    return step * STEP_MINUTES


def _fans(curves: Sequence[DensityCurve], style: Style) -> list[dict[str, Any]]:
    return [_fan(step, curve, len(curves), style, first=step == 1) for step, curve in enumerate(curves, start=1)]


def _fan(step: int, curve: DensityCurve, steps: int, style: Style, first: bool) -> dict[str, Any]:
    """One closed shape: the density to the left of its target time, its straight side on the time itself."""
    glucose, density = curve
    peak = max(density)
    base = _minutes(step)
    opacity = 0.78 - 0.52 * (step - 1) / max(1, steps - 1)
    name = "predicted density" if style.fan == "total" else "model uncertainty"
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [base, *(round(base - FAN_MINUTES * value / peak, 2) for value in density), base],
        "y": [style.number(value) for value in (glucose[0], *glucose, glucose[-1])],
        "fill": "toself",
        "fillcolor": f"rgba({_FAN_RGB},{opacity:.2f})",
        "line": {"width": 0.6, "color": f"rgba({_FAN_RGB},{min(1.0, opacity + 0.15):.2f})"},
        "hoverinfo": "skip",
        "name": name,
        "legendgroup": "fan",
        "showlegend": first,
    }


class _Point(NamedTuple):
    """A known point: minutes from the last known one, and whether somebody measured it."""

    minute: int
    mgdl: float
    is_measured: bool


def _known_points(chart: FanChart) -> list[_Point]:
    """What is drawn of the past, and of the target hour what is known."""
    values = [*chart.past_mgdl, *chart.truth_mgdl]
    last = len(chart.past_mgdl) - 1
    interpolated = set(chart.interpolated_points)
    return [
        _Point(_minutes(place - last), value, place not in interpolated)
        for place, value in enumerate(values)
        if value is not None and place > last - PAST_SHOWN
    ]


def _known(chart: FanChart, style: Style) -> list[dict[str, Any]]:
    """Measured points on a solid line, and beneath it interpolated ones on a dotted line from reading to reading."""
    points = _known_points(chart)
    measured = _line(chart, style, "measured", [(each, each.is_measured) for each in points])
    hollow = {each.minute for each in points if not each.is_measured}
    if not hollow:
        return [measured]
    near = {minute + step for minute in hollow for step in (-STEP_MINUTES, 0, STEP_MINUTES)}
    interpolated = _line(chart, style, "interpolated", [(each, each.minute in near) for each in points])
    interpolated["line"] = {"color": _INTERPOLATED, "width": 1.5, "dash": "dot"}
    sizes = [0 if each.is_measured else 6 for each in points]
    interpolated["marker"] = {"symbol": "circle-open", "color": _INTERPOLATED, "size": sizes}
    return [interpolated, measured]


def _line(chart: FanChart, style: Style, name: str, points: Sequence[tuple[_Point, bool]]) -> dict[str, Any]:
    """Points joined by a line, which breaks where one is not shown."""
    kinds = ["measured" if each.is_measured else "interpolated" for each, _ in points]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [each.minute for each, _ in points],
        "y": [style.number(each.mgdl) if is_shown else None for each, is_shown in points],
        "line": {"color": _TRUTH, "width": 2.5},
        "marker": {"color": _TRUTH, "size": 6},
        "name": name,
        "text": [
            f"{_clock(chart.issue_time, each.minute)} {kind}" for (each, _), kind in zip(points, kinds, strict=True)
        ],
        "hovertemplate": f"%{{text}}  <b>%{{y}}</b> {style.unit}<extra></extra>",
    }


def _median(chart: FanChart, style: Style) -> dict[str, Any]:
    values = (chart.past_mgdl[-1], *chart.median_mgdl)
    lower, upper = _band(chart, 0.05), _band(chart, 0.95)
    hover = [_clock(chart.issue_time, 0)] + [
        f"{_clock(chart.issue_time, _minutes(step))} (90 %: {style.text(low)} to {style.text(high)})"
        for step, (low, high) in enumerate(zip(lower, upper, strict=True), start=1)
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [_minutes(step) for step in range(len(values))],
        "y": [style.number(value) for value in values],
        "line": {"color": _MEDIAN, "width": 3},
        "marker": {"color": _MEDIAN, "size": [0] + [6] * (len(values) - 1), "line": {"width": 0}},
        "name": "forecast median",
        "text": hover,
        "hovertemplate": f"%{{text}}  <b>%{{y}}</b> {style.unit}<extra>forecast</extra>",
    }


def _band(chart: FanChart, level: float) -> tuple[float, ...]:
    return min(chart.levels(), key=lambda each: abs(each[0] - level))[1]


def _range(chart: FanChart, curves: Sequence[DensityCurve]) -> tuple[float, float]:
    """The vertical range in mg/dL: all that is drawn, and the target range for orientation."""
    drawn = [end for curve in curves for end in (curve.glucose_mgdl[0], curve.glucose_mgdl[-1])]
    drawn += [*chart.past_mgdl[-PAST_SHOWN:], *chart.median_mgdl, *(v for v in chart.truth_mgdl if v is not None)]
    low, high = min(*drawn, TARGET_RANGE_MGDL[0]), max(*drawn, TARGET_RANGE_MGDL[1])
    margin = 0.04 * (high - low)
    return max(0.0, low - margin), high + margin


def _layout(chart: FanChart, style: Style, low: float, high: float) -> dict[str, Any]:
    ticks = list(range(-_minutes(PAST_SHOWN) + 5, _minutes(len(chart.median_mgdl)) + 1, STEP_MINUTES))
    labelled = [minute for minute in ticks if minute % 15 == 0]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "font": {"family": FONT, "size": 13, "color": _INK},
        "margin": {"l": 68, "r": 44, "t": 92, "b": 86},
        "title": {
            "text": f"<b>{_title(chart)}</b><br><span style='font-size:14px;color:{_MUTED}'>{_summary(chart, style)}"
            "</span>",
            "x": 0.068,
            "xanchor": "left",
            "y": 0.945,
            "font": {"size": 20},
        },
        "xaxis": {
            "title": {"text": "Time", "standoff": 8},
            "range": [ticks[0] - 2, ticks[-1] + 2],
            "tickvals": labelled,
            "ticktext": [_tick(chart.issue_time, minute) for minute in labelled],
            "gridcolor": _GRID,
            "zeroline": False,
            "linecolor": "#c4ccd4",
            "ticks": "outside",
            "tickcolor": "#c4ccd4",
        },
        "yaxis": {
            "title": {"text": f"Glucose ({style.unit})", "standoff": 10},
            "range": [style.number(low), style.number(high)],
            "gridcolor": _GRID,
            "zeroline": False,
            "linecolor": "#c4ccd4",
        },
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        "hovermode": "closest",
        "shapes": _shapes(style, low, high),
        "annotations": _annotations(chart, style),
    }


def _shapes(style: Style, low: float, high: float) -> list[dict[str, Any]]:
    def band(bottom: float, top: float, fill: str) -> dict[str, Any]:
        return {
            "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": style.number(bottom), "y1": style.number(top),
            "fillcolor": fill, "line": {"width": 0}, "layer": "below",
        }  # fmt: skip

    def line(level: float, color: str) -> dict[str, Any]:
        return {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": style.number(level), "y1": style.number(level),
            "line": {"color": color, "width": 1.2, "dash": "dot"}, "layer": "below",
        }  # fmt: skip

    target_low, target_high = TARGET_RANGE_MGDL
    shapes = [band(target_low, target_high, _TARGET_FILL)]
    shapes += [line(target_low, _TARGET_LINE), line(target_high, _TARGET_LINE)]
    if low < target_low:
        shapes.append(band(low, target_low, _LOW_FILL))
    if high > target_high:
        shapes.append(band(target_high, high, _HIGH_FILL))
    shapes += [line(level, "rgba(211,50,45,0.35)") for level in (LOW_MGDL, HIGH_MGDL) if low < level < high]
    now = {
        "type": "line", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1,
        "line": {"color": "#9aa5b1", "width": 1, "dash": "dash"}, "layer": "below",
    }  # fmt: skip
    return [*shapes, now]


def _annotations(chart: FanChart, style: Style) -> list[dict[str, Any]]:
    def label(level: float) -> dict[str, Any]:
        return {
            "xref": "paper", "x": 1, "xanchor": "left", "xshift": 4, "y": style.number(level), "yanchor": "middle",
            "text": style.text(level), "showarrow": False, "font": {"size": 12, "color": "#2c8a5c"},
        }  # fmt: skip

    return [
        *(label(level) for level in TARGET_RANGE_MGDL),
        {
            "x": 0, "yref": "paper", "y": 0.995, "yanchor": "top", "xanchor": "right", "xshift": -5, "showarrow": False,
            "text": "last known", "font": {"size": 11, "color": _MUTED},
        },
        {
            "xref": "paper", "x": 0, "yref": "paper", "y": 0, "yshift": -68, "xanchor": "left", "showarrow": False,
            "text": f"{chart.disclaimer}  Model {chart.model}, {chart.num_samples} samples.",
            "font": {"size": 11, "color": _MUTED},
        },
    ]  # fmt: skip


def _title(chart: FanChart) -> str:
    offset = offset_text(chart.issue_time)
    day = f"{chart.issue_time:%d %b %Y, %H:%M} UTC{'' if offset == '+00:00' else offset}"
    return (
        f"Glucose forecast from {day}"
        if chart.kind == "live"
        else f"Glucose forecast from {day} (sample {chart.index})"
    )


def _summary(chart: FanChart, style: Style) -> str:
    """What matters in one line: the hour's end with its 90 % interval, and at its worst step the risk of leaving the
    target range.
    """
    last = len(chart.median_mgdl) - 1
    text = (
        f"In {_minutes(last + 1)} min: <b>{style.text(chart.median_mgdl[last])} {style.unit}</b> "
        f"(90 %: {style.text(_band(chart, 0.05)[last])} to {style.text(_band(chart, 0.95)[last])})"
    )
    low, high = max(chart.p_below_70), max(chart.p_above_180)
    target_low, target_high = TARGET_RANGE_MGDL
    return (
        f"{text}  ·  highest chance below {style.text(target_low)}: {_percent(low)}, "
        f"above {style.text(target_high)}: {_percent(high)}"
    )


def _percent(probability: float) -> str:
    if probability < 0.005:
        return "&lt;1 %"
    return "&gt;99 %" if probability > 0.995 else f"{100 * probability:.0f} %"


def _clock(issue: datetime.datetime, minutes: int) -> str:
    return f"{issue + datetime.timedelta(minutes=minutes):%H:%M}"


def _tick(issue: datetime.datetime, minutes: int) -> str:
    clock = _clock(issue, minutes)
    return f"<b>{clock}</b>" if minutes == 0 else clock
