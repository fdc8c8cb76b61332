"""How forecasts did, as SVG: the last day with its forecasts, and what their intervals held against what they claim."""

import datetime
from collections.abc import Sequence
from html import escape

from agents.core.percent import percent
from query_api.day_view import DayView
from query_api.figure import band
from query_api.report.drawings import Frame, Place, axis_label, grid, path, svg
from query_api.scorecard import HorizonCard
from query_api.style import LIGHT, Style
from schemas.fan_chart import FanChart
from schemas.grid import STEP_SECONDS

BROKEN_SECONDS = 3 * STEP_SECONDS
"""Readings further apart are not joined."""
_LEVELS = ("50", "80", "90", "95")
_LOWEST_PERCENT = 30


def day_drawing(view: DayView, style: Style, width: int = 720, height: int = 250) -> str:
    """What was measured, and each forecast from its last known point on: bands of 90 % and 50 %, and the median."""
    highest = [value for _, value in view.readings]
    highest += [value for chart in view.forecasts for value in band(chart, 0.95)]
    frame = Frame(width, height, left=44, right=12, above=10, below=26, top_mgdl=max(highest))
    start, seconds = view.start.timestamp(), view.end.timestamp() - view.start.timestamp()

    def place(time: datetime.datetime, mgdl: float) -> Place:
        share = (time.timestamp() - start) / seconds
        return frame.left + (frame.right_edge - frame.left) * min(1.0, max(0.0, share)), frame.y(mgdl)

    def line(chart: FanChart, values: Sequence[float]) -> list[Place]:
        times = [chart.issue_time, *(chart.target_time(step) for step in range(1, len(values) + 1))]
        known = zip(times, (chart.past_mgdl[-1], *values), strict=True)
        return [place(time, value) for time, value in known if start <= time.timestamp() <= start + seconds]

    parts = [*grid(frame, style)]
    for time, label in _hours(view):
        parts.append(axis_label(frame, place(time, 0.0)[0], label))
    for chart in view.forecasts:
        for low, high, opacity in ((0.05, 0.95, 0.2), (0.25, 0.75, 0.34)):
            outline = [*line(chart, band(chart, high)), *reversed(line(chart, band(chart, low)))]
            if len(outline) > 2:
                parts.append(f'<path d="{path(outline)}Z" fill="rgb({LIGHT.fan_rgb})" fill-opacity="{opacity}"/>')
        if len(median := line(chart, chart.median_mgdl)) > 1:
            parts.append(f'<path d="{path(median)}" fill="none" stroke="{LIGHT.median}" stroke-width="1.3"/>')
    run: list[Place] = []
    before = 0.0
    for time, value in view.readings:
        if run and time.timestamp() - before > BROKEN_SECONDS:
            parts.append(_measured(run))
            run = []
        run.append(place(time, value))
        before = time.timestamp()
    parts += [_measured(run)] if run else []
    return svg(width, height, "The last day with its forecasts", parts)


def _measured(run: Sequence[Place]) -> str:
    if len(run) == 1:
        return f'<circle cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="1.6" fill="{LIGHT.truth}"/>'
    return f'<path d="{path(run)}" fill="none" stroke="{LIGHT.truth}" stroke-width="1.8"/>'


def _hours(view: DayView) -> list[tuple[datetime.datetime, str]]:
    """Every third hour of the clock."""
    found = []
    time = view.start.astimezone(datetime.UTC).replace(minute=0, second=0, microsecond=0)
    while time <= view.end:
        for quarter in range(4):  # offsets are whole quarters of an hour, almost everywhere
            then = time + datetime.timedelta(minutes=15 * quarter)
            local = then.astimezone(view.start.tzinfo)
            inside = view.start.timestamp() <= then.timestamp() <= view.end.timestamp()
            if inside and local.minute == 0 and local.hour % 3 == 0:
                found.append((local, f"{local:%H:%M}"))
        time += datetime.timedelta(hours=1)
    return found


def coverage_drawing(cards: Sequence[HorizonCard], width: int = 720, row: int = 18) -> str:
    """A line for each interval of each horizon: a bar where it claims to be, a dot where the truths were."""
    left, right, above = 150, 56, 20
    height = above + row * len(cards) * len(_LEVELS) + 8 * (len(cards) - 1) + 6

    def x(claim: float) -> float:
        share = (max(claim, _LOWEST_PERCENT) - _LOWEST_PERCENT) / (100 - _LOWEST_PERCENT)
        return left + (width - left - right) * share

    parts = []
    for claim in range(_LOWEST_PERCENT, 101, 10):
        at = x(claim)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{above - 4}" y2="{height - 4}"/>')
        parts.append(f'<text x="{at:.1f}" y="11" text-anchor="middle">{claim} %</text>')
    y = float(above)
    for card in cards:
        parts.append(f'<text class="level-name" x="0" y="{y + row / 2 + 4:.1f}">{card.minutes_ahead} min ahead</text>')
        for level in _LEVELS:
            middle, claimed, held = y + row / 2, float(level), 100 * card.covered[level]
            parts.append(f'<text x="{left - 8}" y="{middle + 4:.1f}" text-anchor="end">{level} %</text>')
            parts.append(
                f'<line x1="{x(claimed):.1f}" x2="{x(held):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" '
                f'stroke="rgb({LIGHT.fan_rgb})" stroke-width="2" stroke-opacity="0.5"/>'
            )
            parts.append(
                f'<line x1="{x(claimed):.1f}" x2="{x(claimed):.1f}" y1="{middle - 6:.1f}" y2="{middle + 6:.1f}" '
                f'stroke="{LIGHT.ink}" stroke-width="2"/>'
            )
            parts.append(f'<circle cx="{x(held):.1f}" cy="{middle:.1f}" r="4.2" fill="rgb({LIGHT.fan_rgb})"/>')
            said = escape(percent(card.covered[level]))
            parts.append(f'<text x="{width - right + 12}" y="{middle + 4:.1f}">{said} %</text>')
            y += row
        y += 8
    return svg(width, height, "Intervals: claimed and held", parts)
