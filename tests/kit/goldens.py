"""Figures by their structure: what is drawn where, compared with what was once looked at and found right.

The outline of a figure is what a person reads from it: its traces with their kinds, names and points, whether a shape
is closed, the axes with their ranges and labels, the levels and the words around. Colours, fonts and hover texts are
left out: a change of taste needs no new golden.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RELATIVE, ABSOLUTE = 1e-3, 0.05
"""How far numbers may be apart: less than the line of a curve is wide."""


def outline(figure: dict[str, Any]) -> dict[str, Any]:
    """The structure of a Plotly figure, as JSON can hold it."""
    layout = figure["layout"]
    return {
        "size": [layout["width"], layout["height"]],
        "title": _words(layout["title"]["text"]),
        "axes": {name: _axis(layout[name]) for name in ("xaxis", "yaxis")},
        "traces": [_trace(trace) for trace in figure["data"]],
        "shapes": [_some(shape, "type", "x0", "x1", "y0", "y1", "xref", "yref") for shape in layout["shapes"]],
        "annotations": [_some(note, "text", "x", "y", "xref", "yref") for note in layout["annotations"]],
    }


def _words(text: str) -> str:
    return re.sub(r" style='[^']*'", "", text)


def _axis(axis: dict[str, Any]) -> dict[str, Any]:
    return {"title": axis["title"]["text"]} | _some(axis, "range", "tickvals", "ticktext")


def _trace(trace: dict[str, Any]) -> dict[str, Any]:
    x, y = list(trace["x"]), list(trace["y"])
    closed = trace.get("fill") == "toself" and len(x) == len(y) > 2 and x[0] == x[-1]
    found = _some(trace, "type", "mode", "name", "fill", "showlegend", "legendgroup")
    return found | {"closed": closed, "points": len(x), "x": x, "y": y}


def _some(source: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: source[name] for name in names if name in source}


def differences(golden: Any, found: Any, where: str = "figure") -> Iterator[str]:
    """Every place where two outlines differ, in words; numbers that are near each other do not."""
    if isinstance(golden, dict) and isinstance(found, dict):
        label = f"{where} {golden['name']!r}" if "name" in golden else where
        for name in sorted(golden.keys() | found.keys()):
            if name not in found:
                yield f"{label}: {name} is gone, it was {_short(golden[name])}"
            elif name not in golden:
                yield f"{label}: {name} is new: {_short(found[name])}"
            else:
                yield from differences(golden[name], found[name], f"{label}.{name}")
    elif isinstance(golden, list) and isinstance(found, list):
        if len(golden) != len(found):
            yield f"{where}: {len(found)} entries, there were {len(golden)}"
        for place, (before, after) in enumerate(zip(golden, found, strict=False)):
            yield from differences(before, after, f"{where}[{place}]")
    elif _is_number(golden) and _is_number(found):
        if not math.isclose(golden, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            yield f"{where}: {found:g}, it was {golden:g}"
    elif golden != found:
        yield f"{where}: {_short(found)}, it was {_short(golden)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def write(path: Path, content: Any) -> None:
    """As JSON that a person can read and compare: a list of numbers is one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)
    path.write_text(text + "\n", "utf-8")
