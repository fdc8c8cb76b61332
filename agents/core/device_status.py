"""A forecast as a `devicestatus` document of Nightscout, as oref0 (OpenAPS) or as Loop writes it: never both.

Numbers are mg/dL. Index 0 is the last measured value at the timestamp, index i lies 5 i minutes later. A reader such as
LoopFollow draws the cone between the lowest and the highest curve, and its alarm of a coming low looks at the lowest.
"""

import datetime
from typing import Any, Literal

from agents.core.percent import chance_percent
from schemas.fan_chart import DISCLAIMER, FanChart

Form = Literal["openaps", "loop"]
FORMS: tuple[Form, ...] = ("openaps", "loop")
DEVICE = "glucast"
"""Who has made a document."""
_NONE, _MINUTE = datetime.timedelta(), datetime.timedelta(minutes=1)


def document_of(
    chart: FanChart, form: Form, lower: float, measured_at: datetime.datetime | None = None
) -> dict[str, Any]:
    """The document; `lower` is the level of the lower curve, the upper one is its mirror image.

    `measured_at`: when the last value was measured, where that is known. A window holds it at the nearest five minutes,
    which may be two and a half ahead of it. A document is never of a time after it was made: apps count its age.
    """
    measured = chart.past_mgdl[-1]
    levels = dict(chart.levels())
    middle, low, high = (
        _curve(measured, levels[min(levels, key=lambda known: abs(known - level))]) for level in (0.5, lower, 1 - lower)
    )
    document = {
        "_id": chart.chart_id[:24],
        "device": DEVICE,
        "created_at": _utc(chart.computed_at),
        "mills": 1000 * int(chart.computed_at.timestamp()),
        "utcOffset": (chart.issue_time.utcoffset() or _NONE) // _MINUTE,
    }
    time = _utc(min(measured_at or chart.issue_time, chart.computed_at))
    if form == "loop":
        return document | {
            "loop": {
                "name": DEVICE,
                "version": "0.1.0",
                "timestamp": time,
                "predicted": {"startDate": time, "values": middle},
            }
        }
    suggested = {
        "timestamp": time,
        "deliverAt": time,
        "bg": middle[0],
        "eventualBG": middle[-1],
        "reason": _reason(chart, lower, low[-1], high[-1]),
        "predBGs": {"IOB": middle, "ZT": low, "UAM": high},
    }
    return document | {"openaps": {"suggested": suggested}}


def _curve(measured: float, values: tuple[float, ...]) -> list[int]:
    return [round(value) for value in (measured, *values)]


def _reason(chart: FanChart, lower: float, low: int, high: int) -> str:
    chance = f"{'up to ' if chart.p_path is None else ''}{chance_percent(chart.within_hour[0])}%"
    return f"glucast {100 * (1 - 2 * lower):.0f}% {low}-{high} in 60 min, P(<70) {chance}. {DISCLAIMER}"


def _utc(time: datetime.datetime) -> str:
    """Without fractions of a second: LoopFollow's formatter knows none."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
