"""A fan chart as a Plotly figure: plain dictionaries, so that neither pandas nor plotly is imported to serve one.

The horizontal axis counts minutes from the last known point and is labelled with the clock of the data. True values
are blue, those interpolated between them grey and hollow; the median is red and begins at the last known point, and
each target step carries the density of its glucose as one closed shape, nearer ones darker.
"""

import datetime
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from agents.core.density_curves import DensityCurve, epistemic_curves, predictive_curves
from agents.core.percent import chance_percent
from query_api.plot_frame import foot, layout, time_axis, vertical_range
from query_api.style import TARGET_RANGE_MGDL, Style
from schemas.fan_chart import FanChart
from schemas.grid import STEP_MINUTES

PAST_SHOWN = 12
FAN_MINUTES = 4.6
"""Width of the widest point of a density: a little less than one step, so that neighbours stay apart."""


def figure(chart: FanChart, style: Style | None = None) -> dict[str, Any]:
    """``{"data": …, "layout": …}`` of 1000x600, at most 40 kB as JSON."""
    style = style or Style()
    chart = chart.model_copy(update={"issue_time": style.clock(chart.issue_time)})
    curves = predictive_curves(chart) if style.fan == "total" else epistemic_curves(chart)
    return {
        "data": [*_fans(curves, style), *_known(chart, style), _median(chart, style)],
        "layout": _layout(chart, style, _range(chart, curves)),
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
        "fillcolor": f"rgba({style.palette.fan_rgb},{opacity:.2f})",
        "line": {"width": 0.6, "color": f"rgba({style.palette.fan_rgb},{min(1.0, opacity + 0.15):.2f})"},
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
    interpolated["line"] = {"color": style.palette.interpolated, "width": 1.5, "dash": "dot"}
    sizes = [0 if each.is_measured else 6 for each in points]
    interpolated["marker"] = {"symbol": "circle-open", "color": style.palette.interpolated, "size": sizes}
    return [interpolated, measured]


def _line(chart: FanChart, style: Style, name: str, points: Sequence[tuple[_Point, bool]]) -> dict[str, Any]:
    """Points joined by a line, which breaks where one is not shown."""
    kinds = ["measured" if each.is_measured else "interpolated" for each, _ in points]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [each.minute for each, _ in points],
        "y": [style.number(each.mgdl) if is_shown else None for each, is_shown in points],
        "line": {"color": style.palette.truth, "width": 2.5},
        "marker": {"color": style.palette.truth, "size": 6},
        "name": name,
        "text": [
            f"{_clock(chart.issue_time, each.minute)} {kind}" for (each, _), kind in zip(points, kinds, strict=True)
        ],
        "hovertemplate": f"%{{text}}  <b>%{{y}}</b> {style.unit}<extra></extra>",
    }


def _median(chart: FanChart, style: Style) -> dict[str, Any]:
    values = (chart.past_mgdl[-1], *chart.median_mgdl)
    lower, upper = band(chart, 0.05), band(chart, 0.95)
    hover = [_clock(chart.issue_time, 0)] + [
        f"{_clock(chart.issue_time, _minutes(step))} (90 %: {style.text(low)} to {style.text(high)})"
        for step, (low, high) in enumerate(zip(lower, upper, strict=True), start=1)
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [_minutes(step) for step in range(len(values))],
        "y": [style.number(value) for value in values],
        "line": {"color": style.palette.median, "width": 3},
        "marker": {"color": style.palette.median, "size": [0] + [6] * (len(values) - 1), "line": {"width": 0}},
        "name": "forecast median",
        "text": hover,
        "hovertemplate": f"%{{text}}  <b>%{{y}}</b> {style.unit}<extra>forecast</extra>",
    }


def band(chart: FanChart, level: float) -> tuple[float, ...]:
    """The published quantile that is nearest to a level, over the horizon."""
    return min(chart.levels(), key=lambda each: abs(each[0] - level))[1]


def _range(chart: FanChart, curves: Sequence[DensityCurve]) -> tuple[float, float]:
    drawn = [end for curve in curves for end in (curve.glucose_mgdl[0], curve.glucose_mgdl[-1])]
    drawn += [*chart.past_mgdl[-PAST_SHOWN:], *chart.median_mgdl, *(v for v in chart.truth_mgdl if v is not None)]
    return vertical_range(drawn)


def _layout(chart: FanChart, style: Style, mgdl: tuple[float, float]) -> dict[str, Any]:
    ticks = list(range(-_minutes(PAST_SHOWN) + 5, _minutes(len(chart.median_mgdl)) + 1, STEP_MINUTES))
    labelled = [minute for minute in ticks if minute % 15 == 0]
    labels = [_tick(chart.issue_time, minute) for minute in labelled]
    now = {
        "type": "line", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1,
        "line": {"color": style.palette.now, "width": 1, "dash": "dash"}, "layer": "below",
    }  # fmt: skip
    last_known = {
        "x": 0, "yref": "paper", "y": 0.995, "yanchor": "top", "xanchor": "right", "xshift": -5, "showarrow": False,
        "text": _last_known(chart, style), "font": {"size": 11, "color": style.palette.muted},
    }  # fmt: skip
    said = f"{chart.disclaimer}  Model {chart.model}, {chart.num_samples} samples.{_age(chart, style)}"
    return layout(
        style,
        _title(chart, style),
        _summary(chart, style),
        time_axis(style, labelled, labels, (ticks[0] - 2, ticks[-1] + 2)),
        mgdl,
        [now],
        [last_known, foot(style, said)],
    )


def _last_known(chart: FanChart, style: Style) -> str:
    """Beside the line of the last known point: its time, and until when the forecast from it holds."""
    if style.valid_until is None:
        return "last known"
    until = f"holds until {style.valid_until.astimezone(chart.issue_time.tzinfo):%H:%M}"
    if chart.simulated:  # with a clock of its own, by which it does not end
        until = f"simulated, {until}"
    return f"last known {chart.issue_time:%H:%M}<br>{until}"


def _age(chart: FanChart, style: Style) -> str:
    if style.age_minutes is None:
        return ""
    if chart.simulated:  # with a clock of its own
        return f"  Simulated; computed {style.age_minutes} min before this was drawn."
    clock = _clock(chart.issue_time, style.age_minutes)
    return f"  Drawn at {clock}, {style.age_minutes} min after the last known point."


def _title(chart: FanChart, style: Style) -> str:
    day = f"{chart.issue_time:%d %b %Y, %H:%M} {style.zone_text(chart.issue_time)}"
    return (
        f"Glucose forecast from {day}"
        if chart.kind == "live"
        else f"Glucose forecast from {day} (sample {chart.index})"
    )


def _summary(chart: FanChart, style: Style) -> str:
    """What matters in one line: the hour's end with its 90 % interval, and the chance to leave the target range in it.

    That of the path, as the page and alerts have it; of samples, which have none, at the worst step.
    """
    last = len(chart.median_mgdl) - 1
    text = (
        f"In {_minutes(last + 1)} min: <b>{style.text(chart.median_mgdl[last])} {style.unit}</b> "
        f"(90 %: {style.text(band(chart, 0.05)[last])} to {style.text(band(chart, 0.95)[last])})"
    )
    low, high = chart.within_hour
    chance = "highest chance" if chart.p_path is None else "chance within the hour"
    target_low, target_high = TARGET_RANGE_MGDL
    return (
        f"{text}  ·  {chance} below {style.text(target_low)}: {escape(chance_percent(low))} %, "
        f"above {style.text(target_high)}: {escape(chance_percent(high))} %"
    )


def _clock(issue: datetime.datetime, minutes: int) -> str:
    time = issue.astimezone(datetime.UTC) + datetime.timedelta(minutes=minutes)
    return f"{time.astimezone(issue.tzinfo):%H:%M}"


def _tick(issue: datetime.datetime, minutes: int) -> str:
    clock = _clock(issue, minutes)
    return f"<b>{clock}</b>" if minutes == 0 else clock
