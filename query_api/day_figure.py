"""A day as a Plotly figure: measured glucose in blue, and the forecasts that were made on the way.

Each forecast begins at the point that was its last known one and opens over its hour: the band of 90 % lightly, that of
50 % more darkly, the median in red. The horizontal axis counts minutes from the start and is labelled with the clock.
"""

import datetime
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from agents.core.glucose_summary import times_in_ranges
from agents.core.percent import percent
from query_api.day_view import DayView, held_by_bands
from query_api.figure import band
from query_api.plot_frame import foot, layout, time_axis, vertical_range
from query_api.style import TARGET_RANGE_MGDL, Style
from schemas.fan_chart import DISCLAIMER, FanChart
from schemas.grid import STEP_SECONDS

TICK_HOURS = 3
BROKEN_SECONDS = 3 * STEP_SECONDS
"""Readings further apart are not joined by a line."""


def day_figure(view: DayView, style: Style) -> dict[str, Any]:
    """``{"data": …, "layout": …}``."""
    drawn = [value for _, value in view.readings]
    drawn += [value for chart in view.forecasts for level in (0.05, 0.95) for value in band(chart, level)]
    axis = time_axis(style, *_ticks(view), (0, _minutes(view, view.end)))
    return {
        "data": [*_fans(view, style), _measured(view, style)],
        "layout": layout(
            style, _title(view, style), _summary(view, style), axis, vertical_range(drawn), [], [_foot(view, style)]
        ),
    }


def _minutes(view: DayView, time: datetime.datetime) -> float:
    return round((time.timestamp() - view.start.timestamp()) / 60, 2)


def _points(chart: FanChart, values: Sequence[float]) -> Iterator[tuple[datetime.datetime, float]]:
    """From the last known point on."""
    yield chart.issue_time, chart.past_mgdl[-1]
    yield from ((chart.target_time(step), value) for step, value in enumerate(values, start=1))


def _fans(view: DayView, style: Style) -> list[dict[str, Any]]:
    levels = ((0.05, 0.95, "90 % of the forecasts", 0.20), (0.25, 0.75, "50 %", 0.34))
    return [*(_bands(view, style, *level) for level in levels), _medians(view, style)]


def _bands(view: DayView, style: Style, low: float, high: float, name: str, opacity: float) -> dict[str, Any]:
    """One closed shape a forecast, with a break between two of them."""
    x: list[float | None] = []
    y: list[float | None] = []
    for chart in view.forecasts:
        outline = [*_points(chart, band(chart, high)), *reversed([*_points(chart, band(chart, low))])]
        x += [_minutes(view, time) for time, _ in outline]
        y += [style.number(value) for _, value in outline]
        x.append(None)
        y.append(None)
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "fill": "toself", "name": name, "hoverinfo": "skip",
        "fillcolor": f"rgba({style.palette.fan_rgb},{opacity})", "line": {"width": 0},
    }  # fmt: skip


def _medians(view: DayView, style: Style) -> dict[str, Any]:
    x: list[float | None] = []
    y: list[float | None] = []
    for chart in view.forecasts:
        points = list(_points(chart, chart.median_mgdl))
        x += [*(_minutes(view, time) for time, _ in points), None]
        y += [*(style.number(value) for _, value in points), None]
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "name": "their medians", "hoverinfo": "skip",
        "line": {"color": style.palette.median, "width": 1.6},
    }  # fmt: skip


def _measured(view: DayView, style: Style) -> dict[str, Any]:
    x: list[float | None] = []
    y: list[float | None] = []
    clocks: list[str] = []
    before = 0.0
    for time, value in view.readings:
        if before and time.timestamp() - before > BROKEN_SECONDS:
            x.append(None)
            y.append(None)
            clocks.append("")
        x.append(_minutes(view, time))
        y.append(style.number(value))
        clocks.append(f"{time:%H:%M}")
        before = time.timestamp()
    return {
        "type": "scatter", "mode": "lines+markers", "x": x, "y": y, "text": clocks, "name": "measured",
        "line": {"color": style.palette.truth, "width": 2}, "marker": {"color": style.palette.truth, "size": 3.5},
        "hovertemplate": f"%{{text}}  <b>%{{y}}</b> {style.unit}<extra></extra>",
    }  # fmt: skip


def _ticks(view: DayView) -> tuple[list[float], list[str]]:
    """Every third hour of the clock, also of a day that has 23 or 25."""
    times, labels = [], []
    start, zone = view.start.astimezone(datetime.UTC), view.start.tzinfo
    first = start + (datetime.datetime.min.replace(tzinfo=datetime.UTC) - start) % datetime.timedelta(minutes=15)
    time = first
    while time <= view.end:
        local = time.astimezone(zone)
        if local.minute == 0 and local.hour % TICK_HOURS == 0:
            times.append(_minutes(view, time))
            labels.append(f"<b>{local:%d %b}</b>" if local.hour == 0 else f"{local:%H:%M}")
        time += datetime.timedelta(minutes=15)
    return times, labels


def _title(view: DayView, style: Style) -> str:
    if view.is_calendar_day:
        return f"Glucose on {view.start:%d %b %Y}, {style.zone_text(view.start)}"
    return f"24 hours of glucose up to {view.end:%d %b %Y, %H:%M} {style.zone_text(view.end)}"


def _summary(view: DayView, style: Style) -> str:
    """Of the readings: how many, where they lay, and how many of them the bands of 90 % held."""
    values = [value for _, value in view.readings]
    if not values:
        return "no readings"
    low, high = (style.text(level) for level in TARGET_RANGE_MGDL)
    ranges = times_in_ranges(values)
    text = (
        f"mean <b>{style.text(sum(values) / len(values))} {style.unit}</b>  ·  {low} to {high}: "
        f"<b>{_share(ranges.from_70_to_180)}</b>, below: {_share(ranges.below_70)}, "
        f"above: {_share(ranges.above_180)}"
    )
    held, targets = held_by_bands(view)
    return f"{text}  ·  the 90 % bands held {held} of {targets}" if targets else text


def _share(share: float) -> str:
    return f"{escape(percent(share))} %"


def _foot(view: DayView, style: Style) -> dict[str, Any]:
    simulated = "Simulated data.  " if view.simulated else ""
    made = f"{len(view.forecasts)} forecasts, as they were made then." if view.forecasts else "No forecasts are kept."
    return foot(style, f"{DISCLAIMER}  {simulated}{made}")
