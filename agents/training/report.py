"""The evaluation as a person reads it: Markdown tables and three figures."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

SERVED = "glucast"
_COLOURS = {"glucast": "#0b6e4f", "ridge": "#c8553d", "persistence": "#8a8a8a"}
_LEVELS = ("50", "80", "90", "95")


def write_report(summary: dict[str, Any], out: Path) -> None:
    """Writes report.md and its figures (PNG) into `out`; `summary` as `evaluate` returns it."""
    figures = _figures(summary["results"], out)
    (out / "report.md").write_text(markdown(summary, figures), encoding="utf-8")


def markdown(summary: dict[str, Any], figures: list[tuple[str, str]]) -> str:
    """The report's text; figures are (file, caption)."""
    results = summary["results"]
    held_out = "; ".join(f"{name}: {', '.join(people)}" for name, people in summary["held_out_people"].items())
    windows = summary["windows"]
    lines = [
        "# Evaluation",
        "",
        "Not a medical device; not for treatment decisions.",
        "",
        "Written by `glucast evaluate`. ID: later time of the people of the training data. OOD: people that training",
        f"never saw ({held_out}). virtual: simulated people with type 1 diabetes. One hour ahead in 12 steps,",
        f"all steps together; {summary['num_samples']} dropout samples a forecast, calibrated as served. Windows: "
        f"{windows['train']:,} training,",
        f"{windows['select']:,} selection, {windows['calibrate']:,} calibration. Model fingerprint "
        f"`{summary['fingerprint'][:16]}`.",
        "",
        "ID and OOD without a name: both data sets together. Every baseline gets a residual spread and conformal step",
        "of its own from the same calibration windows.",
        "",
        "## Accuracy",
        "",
        "RMSE, MAE and CRPS in mg/dL, MARD in %; lower is better.",
        "",
        *table(
            ["held out", "forecaster", "windows", "RMSE", "MAE", "MARD", "CRPS"],
            [
                [part, name, f"{one['windows']:,}", *(f"{one[key]:.2f}" for key in _ACCURACY)]
                for part, rows in results.items()
                for name, one in rows.items()
            ],
        ),
        "",
        "## Calibration",
        "",
        "Share of truths inside the central intervals, in %, and the mean calibration error over levels and steps.",
        "",
        *table(
            ["held out", "forecaster", *(f"{level} %" for level in _LEVELS), "calibration error"],
            [
                [
                    part,
                    name,
                    *(f"{100 * one['coverage'][level]:.1f}" for level in _LEVELS),
                    f"{one['calibration_error']:.3f}",
                ]
                for part, rows in results.items()
                for name, one in rows.items()
            ],
        ),
        "",
        "## The served model by horizon",
        "",
        *table(
            ["held out", "figure", *(f"{5 * step}" for step in (1, 3, 6, 9, 12))],
            [
                [part, label, *(number(_at(rows[SERVED], path)[step - 1], digits) for step in (1, 3, 6, 9, 12))]
                for part, rows in results.items()
                for label, path, digits in _BY_HORIZON
            ],
        ),
        "",
        "Columns are minutes ahead.",
        "",
        "## Clinical zones",
        "",
        "Share of the median forecasts in the zones of the Clarke and Parkes (type 1) error grids, in %.",
        "",
        *table(
            [
                "held out",
                "forecaster",
                *(f"Clarke {zone}" for zone in "ABCDE"),
                *(f"Parkes {zone}" for zone in "ABCDE"),
            ],
            [
                [part, name, *(f"{100 * one[grid][zone]:.1f}" for grid in ("clarke", "parkes") for zone in "ABCDE")]
                for part, rows in results.items()
                for name, one in rows.items()
            ],
        ),
        "",
        "## Warnings",
        "",
        "A warning is a probability of one half or more of being below 70 (above 180) mg/dL at a step of the hour,",
        "issued while glucose is still inside; an event lasts 15 minutes or more. Lead: median minutes from the first",
        "warning within the hour before to the event.",
        "",
        *table(
            ["held out", "forecaster", *(f"{kind}: {name}" for kind in ("low", "high") for name in _EVENT_NAMES)],
            [
                [part, name, *(number(one[kind][key], digits) for kind in ("low", "high") for key, digits in _EVENTS)]
                for part, rows in results.items()
                for name, one in rows.items()
            ],
        ),
    ]
    for file, caption in figures:
        lines += ["", f"![{caption}]({file})", "", f"*{caption}*"]
    return "\n".join(lines) + "\n"


_ACCURACY = ("rmse_mgdl", "mae_mgdl", "mard_percent", "crps_mgdl")
_EVENT_NAMES = ("events", "precision", "recall", "lead")
_EVENTS = (("events", 0), ("precision", 2), ("recall", 2), ("median_lead_minutes", 0))
_BY_HORIZON = (
    ("RMSE", ("rmse_mgdl",), 1),
    ("CRPS", ("crps_mgdl",), 2),
    ("90 % covered", ("coverage", "90"), 3),
    ("90 % width", ("width_90_mgdl",), 0),
    ("calibration error", ("calibration_error",), 3),
)


def _at(figures: dict[str, Any], path: tuple[str, ...]) -> list[float]:
    found: Any = figures["by_horizon"]
    for key in path:
        found = found[key]
    return list(found)


def number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _figures(results: dict[str, dict[str, Any]], out: Path) -> list[tuple[str, str]]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    minutes = [5 * step for step in range(1, 13)]
    drawn = [
        _panels(plt, results, out / "rmse.png", "RMSE, mg/dL", lambda one: one["by_horizon"]["rmse_mgdl"], minutes),
        _panels(plt, results, out / "crps.png", "CRPS, mg/dL", lambda one: one["by_horizon"]["crps_mgdl"], minutes),
    ]
    drawn.append(_coverage(plt, results, out / "coverage.png", minutes))
    captions = (
        "Root mean squared error by minutes ahead",
        "CRPS by minutes ahead: the whole distribution judged",
        "Share of truths inside the served central intervals by minutes ahead; dashed lines: what they promise",
    )
    return list(zip(drawn, captions, strict=True))


def _panels(plt: Any, results: dict[str, Any], path: Path, label: str, pick: Any, minutes: list[int]) -> str:
    figure, axes = grid(plt, len(results), sharey=False)
    for axis, (part, rows) in zip(axes, results.items(), strict=True):
        for name, one in rows.items():
            wide = 2.4 if name == SERVED else 1.4
            axis.plot(minutes, pick(one), label=name, color=_COLOURS.get(name), linewidth=wide)
        axis.set_title(part, fontsize=10)
        axis.set_xlabel("minutes ahead")
        axis.set_xticks([15, 30, 45, 60])
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(label)
    axes[0].legend(fontsize=8, frameon=False)
    return saved(plt, figure, path)


def _coverage(plt: Any, results: dict[str, Any], path: Path, minutes: list[int]) -> str:
    figure, axes = grid(plt, len(results), sharey=True)
    shades = ("#9fd8c4", "#5bb797", "#0b6e4f", "#063d2c")
    for axis, (part, rows) in zip(axes, results.items(), strict=True):
        for level, shade in zip(_LEVELS, shades, strict=True):
            inside = rows[SERVED]["by_horizon"]["coverage"][level]
            axis.plot(minutes, [100 * share for share in inside], color=shade, label=f"{level} %")
            axis.axhline(int(level), color=shade, linestyle="--", linewidth=0.8)
        axis.set_title(part, fontsize=10)
        axis.set_xlabel("minutes ahead")
        axis.set_xticks([15, 30, 45, 60])
        axis.set_ylim(30, 100)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("% of truths inside")
    axes[-1].legend(fontsize=8, frameon=False, loc="lower right")
    return saved(plt, figure, path)


def grid(plt: Any, panels: int, *, sharey: bool) -> tuple[Any, list[Any]]:
    rows = math.ceil(panels / 4)
    size = (3.1 * min(panels, 4), 2.9 * rows)
    figure, axes = plt.subplots(rows, min(panels, 4), figsize=size, sharey=sharey, squeeze=False, layout="constrained")
    for spare in axes.flat[panels:]:
        spare.set_visible(False)
    return figure, list(axes.flat[:panels])


def saved(plt: Any, figure: Any, path: Path) -> str:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    plt.close(figure)
    path.write_bytes(picture.getvalue())
    return path.name
