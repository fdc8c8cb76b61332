"""What every figure has around its data: paper, title, axes, the target range, a line at the foot."""

import re
from collections.abc import Sequence
from typing import Any

from query_api.style import FONT, HIGH_MGDL, LOW_MGDL, TARGET_RANGE_MGDL, Style

TITLE_PIXELS, SUMMARY_PIXELS = 20, 14
_LETTER = 0.56
"""How wide a letter is on average, of its height; of a bold one more than of others."""
_LINE_PIXELS = 18
_BETWEEN = "  ·  "


def layout(
    style: Style,
    title: str,
    summary: str,
    time_axis: dict[str, Any],
    mgdl: tuple[float, float],
    shapes: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """A Plotly layout; `mgdl` is the vertical range."""
    palette = style.palette
    room = style.width - 88
    lines = [summary] if _wide(summary, SUMMARY_PIXELS) <= room else summary.split(_BETWEEN)
    title_pixels = _fitting([title], TITLE_PIXELS, room)
    summary_pixels = _fitting(lines, SUMMARY_PIXELS, room)
    return {
        "width": style.width,
        "height": style.height,
        "paper_bgcolor": palette.paper,
        "plot_bgcolor": palette.paper,
        "font": {"family": FONT, "size": 13, "color": palette.ink},
        "margin": {"l": 68, "r": 44, "t": 92 + _LINE_PIXELS * (len(lines) - 1), "b": 86},
        "title": {
            "text": f"<b>{title}</b><br><span style='font-size:{summary_pixels}px;color:{palette.muted}'>"
            f"{'<br>'.join(lines)}</span>",
            "x": 0.068,
            "xanchor": "left",
            "y": 0.945,
            "font": {"size": title_pixels},
        },
        "xaxis": time_axis,
        "yaxis": {
            "title": {"text": f"Glucose ({style.unit})", "standoff": 10},
            "range": [style.number(level) for level in mgdl],
            "gridcolor": palette.grid,
            "zeroline": False,
            "linecolor": palette.axis,
        },
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        "hovermode": "closest",
        "shapes": [*ranges(style, *mgdl), *shapes],
        "annotations": [*range_labels(style), *annotations],
    }


def _wide(text: str, pixels: int) -> float:
    shown = re.sub(r"<[^>]*>", "", text).replace("&lt;", "<").replace("&gt;", ">")
    return _LETTER * pixels * len(shown)


def _fitting(lines: Sequence[str], pixels: int, room: float) -> int:
    """The size at which the longest line has room, at most `pixels`."""
    longest = max(_wide(line, pixels) for line in lines)
    return pixels if longest <= room else max(8, int(pixels * room / longest))


def time_axis(
    style: Style, minutes: Sequence[float], labels: Sequence[str], between: tuple[float, float]
) -> dict[str, Any]:
    """Counts minutes from what the figure says, and shows the clock."""
    return {
        "title": {"text": "Time", "standoff": 8},
        "range": list(between),
        "tickvals": list(minutes),
        "ticktext": list(labels),
        "gridcolor": style.palette.grid,
        "zeroline": False,
        "linecolor": style.palette.axis,
        "ticks": "outside",
        "tickcolor": style.palette.axis,
    }


def vertical_range(drawn_mgdl: Sequence[float]) -> tuple[float, float]:
    """All that is drawn, and the target range for orientation, with a margin."""
    low, high = min(*drawn_mgdl, TARGET_RANGE_MGDL[0]), max(*drawn_mgdl, TARGET_RANGE_MGDL[1])
    margin = 0.04 * (high - low)
    return max(0.0, low - margin), high + margin


def ranges(style: Style, low: float, high: float) -> list[dict[str, Any]]:
    """The target range and what lies beside it, as shapes below the data."""
    palette = style.palette

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
    shapes = [band(target_low, target_high, palette.target_fill)]
    shapes += [line(target_low, palette.target_line), line(target_high, palette.target_line)]
    if low < target_low:
        shapes.append(band(low, target_low, palette.low_fill))
    if high > target_high:
        shapes.append(band(target_high, high, palette.high_fill))
    shapes += [line(level, palette.extreme_line) for level in (LOW_MGDL, HIGH_MGDL) if low < level < high]
    return shapes


def range_labels(style: Style) -> list[dict[str, Any]]:
    """The levels of the target range, beside it."""
    return [
        {
            "xref": "paper", "x": 1, "xanchor": "left", "xshift": 4, "y": style.number(level), "yanchor": "middle",
            "text": style.text(level), "showarrow": False, "font": {"size": 12, "color": style.palette.target_ink},
        }
        for level in TARGET_RANGE_MGDL
    ]  # fmt: skip


def foot(style: Style, text: str) -> dict[str, Any]:
    """A line below the axis."""
    return {
        "xref": "paper", "x": 0, "yref": "paper", "y": 0, "yshift": -68, "xanchor": "left", "showarrow": False,
        "text": text, "font": {"size": 11, "color": style.palette.muted},
    }  # fmt: skip
