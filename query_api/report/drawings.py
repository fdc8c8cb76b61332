"""The drawings of a report as SVG that needs nothing else: the profile of a day, the days one by one, the ranges.

Measured glucose is blue, as in every plot. Lengths are in pixels of the drawing, which scales with the page.
"""

import itertools
from collections.abc import Iterable, Sequence

from agents.core.glucose_summary import DAY_MINUTES, PROFILE_STEP_MINUTES, ProfilePoint, Ranges
from query_api.report.numbers import Minutes
from query_api.style import LIGHT, TARGET_RANGE_MGDL, Style
from schemas.grid import THRESHOLDS_MGDL

COLOURS = {
    "above_250": "#c65f17",
    "from_181_to_250": "#e9a93a",
    "from_70_to_180": "#3a9d6e",
    "from_54_to_69": "#d3322d",
    "below_54": "#8f1d1a",
}
"""By range, from the highest down."""

BOTTOM_MGDL, LEAST_TOP_MGDL, MOST_TOP_MGDL = 40.0, 300.0, 600.0
_TICKS_MGDL = (54, 70, 140, 180, 250, 350, 450, 550)
_BROKEN_MINUTES = 15
"""Readings further apart are not joined."""

Place = tuple[float, float]


def profile_drawing(points: Sequence[ProfilePoint | None], style: Style, width: int = 720, height: int = 292) -> str:
    """The ambulatory glucose profile: bands of 5 to 95 % and 25 to 75 %, and the median."""
    top = max((point.quantiles_mgdl[-1] for point in points if point is not None), default=0.0)
    frame = Frame(width, height, left=44, right=52, above=10, below=26, top_mgdl=top)
    parts = grid(frame, style)
    parts += [axis_label(frame, frame.x(60 * hour), f"{hour:02}:00") for hour in range(0, 25, 3)]
    for run in _runs([*points, None if points[0] is None else points[0]._replace(minute=DAY_MINUTES)]):
        for low, high, opacity in ((0, 4, 0.16), (1, 3, 0.34)):
            upper = [frame.at(point.minute, point.quantiles_mgdl[high]) for point in run]
            lower = [frame.at(point.minute, point.quantiles_mgdl[low]) for point in reversed(run)]
            parts.append(f'<path d="{path([*upper, *lower])}Z" fill="{LIGHT.truth}" fill-opacity="{opacity}"/>')
        median = path([frame.at(point.minute, point.quantiles_mgdl[2]) for point in run])
        parts.append(f'<path d="{median}" fill="none" stroke="{LIGHT.truth}" stroke-width="2.6"/>')
    names = ((4, "95 %"), (3, "75 %"), (2, "median"), (1, "25 %"), (0, "5 %"))
    last = next((point for point in reversed(points) if point is not None), None)
    if last is not None:
        heights = _apart([frame.y(last.quantiles_mgdl[place]) for place, _ in names], 12)
        for (_, name), y in zip(names, heights, strict=True):
            parts.append(f'<text class="curve" x="{frame.right_edge + 6}" y="{y + 4:.1f}">{name}</text>')
    return svg(width, height, "Ambulatory glucose profile", parts)


def small_day_drawing(readings: Minutes, top_mgdl: float, style: Style, width: int = 100, height: int = 58) -> str:
    """One day, small: its readings over the target range."""
    frame = Frame(width, height, left=0, right=0, above=2, below=2, top_mgdl=top_mgdl)
    low, high = (frame.y(level) for level in TARGET_RANGE_MGDL)
    parts = [
        f'<rect x="0" y="{high:.1f}" width="{width}" height="{low - high:.1f}" fill="{LIGHT.target_fill}"/>',
        *(f'<line class="target" x1="0" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>' for y in (low, high)),
        f'<line class="grid" x1="{width / 2}" x2="{width / 2}" y1="2" y2="{height - 2}"/>',
    ]
    for run in _stretches(readings):
        places = [frame.at(minute, value) for minute, value in run]
        if len(places) == 1:
            parts.append(f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="1" fill="{LIGHT.truth}"/>')
        else:
            parts.append(f'<path d="{path(places)}" fill="none" stroke="{LIGHT.truth}" stroke-width="1.3"/>')
    return svg(width, height, "Glucose of the day", parts)


def days_top(days: Iterable[Minutes]) -> float:
    """The highest of all, for small drawings that share their axis."""
    return max((value for day in days for _, value in day), default=0.0)


def ranges_drawing(ranges: Ranges, width: int = 46, height: int = 168) -> str:
    """The shares of the ranges, one above the other."""
    shares = ranges._asdict()
    parts, y = [], 0.0
    for name, colour in COLOURS.items():
        tall = shares[name] * height
        parts.append(f'<rect x="0" y="{y:.2f}" width="{width}" height="{tall:.2f}" fill="{colour}"/>')
        y += tall
    return svg(width, height, "Shares of the ranges", parts, stretched=True)


class Frame:
    """Where minutes of a day and mg/dL lie on a drawing."""

    def __init__(
        self, width: int, height: int, *, left: int, right: int, above: int, below: int, top_mgdl: float
    ) -> None:
        self.left, self.right_edge = left, width - right
        self.above, self.bottom_edge = above, height - below
        self.top_mgdl = rounded_top(top_mgdl)

    def x(self, minute: float) -> float:
        return self.left + (self.right_edge - self.left) * minute / DAY_MINUTES

    def y(self, mgdl: float) -> float:
        share = (min(mgdl, self.top_mgdl) - BOTTOM_MGDL) / (self.top_mgdl - BOTTOM_MGDL)
        return self.bottom_edge - (self.bottom_edge - self.above) * max(0.0, share)

    def at(self, minute: float, mgdl: float) -> Place:
        return self.x(minute), self.y(mgdl)


def axis_label(frame: Frame, x: float, label: str) -> str:
    """A time on the horizontal axis, with its line."""
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.above}" y2="{frame.bottom_edge}"/>'
    return f'{line}<text x="{x:.1f}" y="{frame.bottom_edge + 17}" text-anchor="middle">{label}</text>'


def grid(frame: Frame, style: Style) -> list[str]:
    """The target range, and the levels of glucose beside the axis."""
    left, right = frame.left, frame.right_edge
    low, high = (frame.y(level) for level in TARGET_RANGE_MGDL)
    parts = [
        f'<rect x="{left}" y="{high:.1f}" width="{right - left}" height="{low - high:.1f}" fill="{LIGHT.target_fill}"/>'
    ]
    for level in _TICKS_MGDL:
        if level > frame.top_mgdl:
            break
        y = frame.y(level)
        is_target, is_extreme = level in TARGET_RANGE_MGDL, level in (THRESHOLDS_MGDL[0], THRESHOLDS_MGDL[-1])
        kind = "target" if is_target else "extreme" if is_extreme else "grid"
        parts.append(f'<line class="{kind}" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        shown = ' class="level"' if is_target else ""
        parts.append(f'<text{shown} x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{style.text(level)}</text>')
    return parts


def rounded_top(highest: float) -> float:
    """The upper end of an axis for this glucose in mg/dL."""
    return min(MOST_TOP_MGDL, max(LEAST_TOP_MGDL, 50.0 * -(-highest // 50)))


def _runs(points: Iterable[ProfilePoint | None]) -> list[list[ProfilePoint]]:
    """Neighbours that have quantiles, two at least."""
    runs = [
        [point for point in run if point is not None]
        for is_there, run in itertools.groupby(points, lambda point: point is not None)
        if is_there
    ]
    return [run for run in runs if run[-1].minute - run[0].minute >= PROFILE_STEP_MINUTES]


def _stretches(readings: Minutes) -> list[Minutes]:
    stretches: list[Minutes] = []
    for minute, value in readings:
        if not stretches or not 0 <= minute - stretches[-1][-1][0] <= _BROKEN_MINUTES:
            stretches.append([])
        stretches[-1].append((minute, value))
    return stretches


def _apart(places: Sequence[float], least: float) -> list[float]:
    """Falling labels moved until they are so far apart."""
    moved = list(places)
    for _ in range(20):
        for before, after in itertools.pairwise(range(len(moved))):
            if (short := least - (moved[after] - moved[before])) > 0:
                moved[before] -= short / 2
                moved[after] += short / 2
    return moved


def path(places: Sequence[Place]) -> str:
    """The data of an SVG path through places."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def svg(width: int, height: int, name: str, parts: Iterable[str], stretched: bool = False) -> str:
    """The drawing of these parts; `name` is for those who hear it."""
    ratio = ' preserveAspectRatio="none"' if stretched else ""
    return f'<svg viewBox="0 0 {width} {height}"{ratio} role="img" aria-label="{name}">{"".join(parts)}</svg>'
