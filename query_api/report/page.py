"""A report as one HTML page that needs nothing from anywhere, made for A4 and readable on a screen."""

import datetime
import functools
from html import escape
from pathlib import Path

from agents.core.glucose_summary import STABLE_CV, TARGETS, times_in_ranges
from agents.core.local_time import spoken
from agents.core.percent import fine_percent
from query_api.day_view import DayView, held_by_bands
from query_api.report.drawings import COLOURS, days_top, profile_drawing, ranges_drawing, small_day_drawing
from query_api.report.forecast_drawings import coverage_drawing, day_drawing
from query_api.report.numbers import Report
from query_api.scorecard import HorizonCard
from query_api.style import Style
from schemas.fan_chart import DISCLAIMER
from schemas.reading import Unit

MOST_DAYS_DRAWN = 28

_NAMES = {
    "above_250": ("Very high", "above 250", "above 13.9"),
    "from_181_to_250": ("High", "181 to 250", "10.1 to 13.9"),
    "from_70_to_180": ("In range", "70 to 180", "3.9 to 10.0"),
    "from_54_to_69": ("Low", "54 to 69", "3.0 to 3.8"),
    "below_54": ("Very low", "below 54", "below 3.0"),
}
"""Each range with its limits in mg/dL and in mmol/L, as the consensus writes them."""
_SOURCES = (
    "Ranges, targets and the data they need: Battelino et al. 2019, Diabetes Care 42:1593, for most adults with "
    "diabetes; a coefficient of variation up to 36 % is called stable. Glucose management indicator: Bergenstal et al. "
    "2018, Diabetes Care 41:2275."
)


def page(report: Report, unit: Unit) -> str:
    """The whole document."""
    style = Style(unit, timezone=report.timezone)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Glucose report, {escape(report.subject_id)}, {report.end:%Y-%m-%d}</title>
<link rel="icon" href="data:,">
<style>{_css()}</style>
</head>
<body>
{_header(report, style)}
{_warnings(report)}
{_numbers(report, style)}
{_ranges(report, style)}
<section>
<h2>Ambulatory glucose profile</h2>
<figure>{profile_drawing(report.profile, style)}
<figcaption>{style.unit}. At each time of day the median of all days, and the bands that hold the middle 50 % and 90 %
of the readings. Green: the target range.</figcaption></figure>
</section>
{_days(report, style)}
<section class="page">{_forecasts(report, style)}</section>
{_footer()}
</body>
</html>
"""


@functools.cache
def _css() -> str:
    return Path(__file__).with_name("page.css").read_text("utf-8")


def _header(report: Report, style: Style) -> str:
    days = "1 day" if report.covered_days == 1 else f"{report.covered_days} days"
    return f"""<header>
<div><h1>Glucose report</h1><p class="who">{escape(report.subject_id)}</p></div>
<p class="when"><strong>{_date(report.start)} to {_date(report.end)}</strong> ({days})<br>
<small>times in {escape(style.zone_text(report.end))}; made {_date(report.made_at)}, {report.made_at:%H:%M}</small></p>
</header>"""


def _date(time: datetime.datetime | datetime.date) -> str:
    return f"{time.day} {time:%b %Y}"


def _warnings(report: Report) -> str:
    said = []
    if report.simulated:
        said.append("<strong>Simulated data.</strong> These are no person's readings.")
    if report.why_not_representative is not None:
        said.append(
            f"<strong>Too few data for conclusions:</strong> {escape(report.why_not_representative)}. The consensus "
            "asks for 14 days of which at least 70 % have data."
        )
    return "".join(f'<p class="warning">{text}</p>' for text in said)


def _ranges(report: Report, style: Style) -> str:
    ranges = report.summary.ranges
    shares = ranges._asdict()
    rows = []
    for name, colour in COLOURS.items():
        word, mgdl, mmoll = _NAMES[name]
        limits = mgdl if style.unit == "mg/dL" else mmoll
        share = shares[name]
        rows.append(
            f'<tr><td><span class="swatch" style="background:{colour}"></span>{word}</td>'
            f'<td>{limits} {style.unit}</td><td class="number big">{percent(share)}</td>'
            f'<td class="number">{_a_day(share)}</td><td class="target">{_target(report, name)}</td></tr>'
        )
    return (
        f'<section><h2>Time in ranges</h2><div class="ranges">{ranges_drawing(ranges)}'
        '<table><thead><tr><th colspan="2">Range</th><th class="number">Readings</th><th class="number">A day</th>'
        f'<th class="target">Target</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def _a_day(share: float) -> str:
    return spoken(round(share * 24 * 60)) or "0 min"


def _target(report: Report, name: str) -> str:
    """What the consensus wants of a range, or of it and what lies beyond."""
    ranges = report.summary.ranges
    if name == "from_70_to_180":
        return f"more than {percent(TARGETS[name])}"
    if name in TARGETS:
        return f"less than {percent(TARGETS[name])}"
    if name == "from_181_to_250":
        return f"less than {percent(TARGETS['above_180'])}, with very high ({percent(ranges.above_180)})"
    return f"less than {percent(TARGETS['below_70'])}, with very low ({percent(ranges.below_70)})"


def percent(share: float) -> str:
    """As `fine_percent`, with the sign."""
    return f"{escape(fine_percent(share))} %"


def _numbers(report: Report, style: Style) -> str:
    numbers = report.summary
    varies = "stable" if numbers.cv <= STABLE_CV else "unstable"
    tiles = [
        ("Mean glucose", style.text(numbers.mean_mgdl), style.unit),
        ("Glucose management indicator", f"{numbers.gmi_percent:.1f} %", ""),
        ("Standard deviation", style.text(numbers.sd_mgdl), style.unit),
        ("Coefficient of variation", f"{100 * numbers.cv:.0f} %", varies),
        ("Sensor active, of the time", percent(numbers.active_share), ""),
        ("Readings", f"{numbers.readings:,}", ""),
    ]
    return (
        '<dl class="tiles">'
        + "".join(f"<div><dt>{name}</dt><dd>{value} <small>{more}</small></dd></div>" for name, value, more in tiles)
        + "</dl>"
    )


def _days(report: Report, style: Style) -> str:
    days = list(report.days.items())[-MOST_DAYS_DRAWN:]
    first = days[0][0]
    top = days_top(readings for _, readings in days)
    figures = []
    for date, readings in days:
        inside = times_in_ranges([value for _, value in readings]).from_70_to_180
        figures.append(
            f"<figure><figcaption><span>{_short(date, date == first)}</span><span>{percent(inside)}</span>"
            f"</figcaption>{small_day_drawing(readings, top, style)}</figure>"
        )
    return (
        f'<section><h2>Day by day</h2><div class="days">{"".join(figures)}</div>'
        '<p class="note">From midnight to midnight; the line in the middle is noon. Percent: in range.</p></section>'
    )


def _short(date: datetime.date, is_first: bool) -> str:
    return f"{date.day} {date:%b}" if is_first or date.day == 1 else f"{date:%a} {date.day}"


def _forecasts(report: Report, style: Style) -> str:
    head = "<h2>How the forecasts did</h2>"
    day = "" if report.last_day is None else _last_day(report.last_day, style)
    if not report.forecasts:
        return f"{head}<p>No forecast has been scored yet: that takes 8 h of readings and 30 minutes.</p>{day}"
    rows = "".join(_horizon(card, style) for card in report.forecasts)
    return f"""{head}
<p>Each forecast of the last 14 days whose target was measured afterwards, by how far ahead it looked.</p>
<table><thead><tr><th>Ahead</th><th class="number">Targets</th>
<th class="number">Mean absolute error<br>of the median</th>
<th class="number">CRPS</th><th class="number">Width of the<br>90 % interval</th>
<th class="number">Clarke A + B</th></tr></thead><tbody>{rows}</tbody></table>
<p class="note">Errors, CRPS and widths in {style.unit}. CRPS, the continuous ranked probability score, is the error of
the whole forecast with its uncertainty: lower is better. Clarke A + B: medians in the two zones of Clarke's error grid
that lead to no wrong treatment.</p>
<h2>What the intervals promised, and what they held</h2>
<figure>{coverage_drawing(report.forecasts)}
<figcaption>Bar: the share of measured values that an interval claims to hold. Dot: the share that it held. A dot to the
left of its bar: too sure of itself; to the right: too careful.</figcaption></figure>
{day}"""


def _last_day(view: DayView, style: Style) -> str:
    held, targets = held_by_bands(view)
    said = f" The 90 % bands held {held} of {targets} measured values." if targets else ""
    return f"""<h2>The last 24 hours with their forecasts</h2>
<figure>{day_drawing(view, style)}
<figcaption>{style.unit}. Blue: measured. One forecast an hour, as it was made then: red its median, violet the bands of
50 % and 90 %.{said}</figcaption></figure>"""


def _horizon(card: HorizonCard, style: Style) -> str:
    cells = [
        f"{card.targets:,}",
        style.text(card.mae_mgdl),
        style.text(card.crps_mgdl) if style.unit == "mmol/L" else f"{card.crps_mgdl:.1f}",
        style.text(card.width_90_mgdl),
        percent(card.clarke["A"] + card.clarke["B"]),
    ]
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f"<tr><td>{card.minutes_ahead} min</td>{numbers}</tr>"


def _footer() -> str:
    return f"<footer><p><strong>{DISCLAIMER}</strong></p><p>{_SOURCES}</p></footer>"
