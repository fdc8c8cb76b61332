"""The leave-one-study-out evaluation as a person reads it: Markdown tables and figures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from agents.training.reliability import AHEAD, ALLOWED, ENOUGH, EVENTS, furthest_off
from agents.training.report import grid, number, saved, table
from agents.training.study_metrics import NUMBERS

SERVED = "glucast"
ANCHOR = "ridge, 96 lags"
_COLOURS = {
    "glucast": "#0b6e4f", "glucast, 8 hours alone": "#6fb39b", ANCHOR: "#c8553d", "ridge, 24 lags": "#e8a598",
    "persistence": "#8a8a8a", "LightGBM": "#3c6e9f", "Darts N-HiTS": "#b0892f", "Darts TiDE": "#7d5ba6",
}  # fmt: skip
_HORIZON = (1, 3, 6, 9, 12)


def write_study_report(summary: dict[str, Any], out: Path) -> None:
    """Writes studies.md and its figures (PNG) into `out`; `summary` as `evaluate_studies` returns it."""
    drawn = _drawn(summary["studies"], out)
    (out / "studies.md").write_text(study_markdown(summary, drawn), encoding="utf-8")


def study_markdown(summary: dict[str, Any], drawn: list[tuple[str, str]]) -> str:
    """The report's text; figures are (file, caption)."""
    studies = summary["studies"]
    lines = [
        "# Leave one study out",
        "",
        "Not a medical device; not for treatment decisions.",
        "",
        "Written by `glucast evaluate --studies FILE`. Each study is forecast by a network that saw nothing of it:",
        "trained, scaled and calibrated on people of other studies alone. People with type 1 diabetes and a reading",
        f"every five minutes, one window in {summary['stride']}, {summary['num_samples']} dropout draws a forecast; a",
        "target that was not measured is not scored. Every baseline has a residual spread and a conformal step of its",
        "own from the same people kept back. RMSE, MAE and CRPS in mg/dL, MARD in %. glucast reads what is known of",
        "the week before; its line of 8 hours alone is the same network where nothing is known. RMSE is of the mean of",
        "glucast's published fan, MAE and MARD of its median: what each of them asks for. A baseline gives one",
        "number, and is judged by it.",
        "",
        "## Accuracy",
        "",
        *table(
            ["held out", "forecaster", "windows", "RMSE", "MAE", "MARD", "CRPS", *_at_60("RMSE", "MAE", "CRPS")],
            [
                [
                    study,
                    name,
                    f"{one['windows']:,}",
                    *(f"{one['all'][key]:.2f}" for key in ("rmse_mgdl", "mae_mgdl", "mard_percent", "crps_mgdl")),
                    *(f"{one['at']['60'][key]:.2f}" for key in ("rmse_mgdl", "mae_mgdl", "crps_mgdl")),
                ]
                for study, found in studies.items()
                for name, one in found["forecasters"].items()
            ],
        ),
        "",
        "## Against ridge on 96 lags, 60 minutes ahead",
        "",
        "Change in %; in brackets the 95 % interval of a bootstrap over people.",
        "",
        *table(
            ["held out", "forecaster", "RMSE", "MAE", "CRPS"],
            [
                [study, name, *_changes(found, name)]
                for study, found in studies.items()
                for name in found["forecasters"]
                if name != ANCHOR
            ]
            + [["mean", name, *_mean_changes(studies, name)] for name in _names(studies) if name != ANCHOR],
        ),
        "",
        "## By another number, 60 minutes ahead",
        "",
        "What the mean and the median of each fan, a baseline's conformal one too, would make of RMSE and MAE.",
        "",
        *table(
            ["held out", "forecaster", *(f"{figure}, {name}" for figure in _ERRORS for name in NUMBERS)],
            [
                [
                    study,
                    name,
                    *(f"{one['numbers']['60'][by][key]:.2f}" for key in ("rmse_mgdl", "mae_mgdl") for by in NUMBERS),
                ]
                for study, found in studies.items()
                for name, one in found["forecasters"].items()
            ],
        ),
        "",
        "## Coverage",
        "",
        "Share of truths inside the central intervals, in %, all steps and by regime (of the 90 % interval).",
        "",
        *table(
            ["held out", "forecaster", "50 %", "90 %", "90 % at 60 min", *_regime_names(studies)],
            [
                [
                    study,
                    name,
                    *(f"{100 * one['all'][key]:.1f}" for key in ("in_50", "in_90")),
                    f"{100 * one['at']['60']['in_90']:.1f}",
                    *(_share(one["regimes"].get(regime)) for regime in _regime_names(studies)),
                ]
                for study, found in studies.items()
                for name, one in found["forecasters"].items()
            ],
        ),
        "",
        "## Accuracy by regime, all steps",
        "",
        *table(
            ["held out", "forecaster", *(f"{name}: {figure}" for name in _regime_names(studies) for figure in _ERRORS)],
            [
                [study, name, *_regime_errors(one, _regime_names(studies))]
                for study, found in studies.items()
                for name, one in found["forecasters"].items()
            ],
        ),
        "",
        "## Lows 30 minutes ahead",
        "",
        "Windows that are not low yet. A warning is P(<70 mg/dL) of one half or more; in the last two columns the",
        f"probability that warns is chosen so that as many warnings are right as of {SERVED}'s.",
        "",
        *table(
            ["held out", "forecaster", "lows", "warnings", "right", "seen", "seen, same precision", "at P of"],
            [[study, name, *_lows(found, name)] for study, found in studies.items() for name in found["forecasters"]],
        ),
        "",
        "## Reliability of event probabilities",
        "",
        "The furthest that a tenth of the probabilities lies from how often it was so, where "
        f"{ENOUGH} windows or more fall.",
        "",
        *table(
            [
                "held out",
                "forecaster",
                *(f"P({event}), {minutes} min" for minutes in AHEAD for event in EVENTS),
            ],
            [
                [study, name, *_furthest(one)]
                for study, found in studies.items()
                for name, one in found["forecasters"].items()
            ],
        ),
        "",
        *_certainty(studies),
        "## A correction for each person",
        "",
        "What a ridge regression on a person's own residuals of the last week, with the network as prior, would change",
        "at 60 minutes. It is not served.",
        "",
        *table(
            ["held out", "RMSE", "corrected", "change, %", "MAE", "corrected", "change, %"],
            [[study, *_corrected(found["adapted"])] for study, found in studies.items() if "adapted" in found],
        ),
        "",
        "## The served model by horizon",
        "",
        *table(
            ["held out", "figure", *(f"{5 * step}" for step in _HORIZON)],
            [
                [study, label, *_horizon(found["forecasters"][SERVED]["by_horizon"][key], digits)]
                for study, found in studies.items()
                for label, key, digits in _BY_HORIZON
            ],
        ),
        "",
        "Columns are minutes ahead.",
        "",
        "## The served model by person, 60 minutes ahead",
        "",
        *table(
            ["person", "windows", "RMSE", "MAE", "90 % covers", "ridge's RMSE", "ridge's MAE"],
            [
                _person(person, one, found["forecasters"][ANCHOR]["by_person"][person])
                for found in studies.values()
                for person, one in found["forecasters"][SERVED]["by_person"].items()
            ],
        ),
    ]
    for file, caption in drawn:
        lines += ["", f"![{caption}]({file})", "", f"*{caption}*"]
    return "\n".join(lines) + "\n"


_ERRORS = ("RMSE", "MAE")
_BY_HORIZON = (
    ("RMSE", "rmse_mgdl", 1),
    ("MAE", "mae_mgdl", 1),
    ("CRPS", "crps_mgdl", 2),
    ("50 % covered", "coverage_50", 3),
    ("90 % covered", "coverage_90", 3),
)


def mean_change(studies: dict[str, Any], name: str, figure: str) -> float:
    """Mean over studies of the change from the anchor in %, 60 minutes ahead."""
    changes = [_change(found, name, figure) for found in studies.values()]
    return sum(changes) / len(changes)


def _at_60(*names: str) -> list[str]:
    return [f"{name} @60" for name in names]


def _names(studies: dict[str, Any]) -> list[str]:
    return list(next(iter(studies.values()))["forecasters"])


def _regime_names(studies: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for one in studies.values() for name in one["forecasters"][SERVED]["regimes"]))


def _change(found: dict[str, Any], name: str, figure: str) -> float:
    own, base = (found["forecasters"][one]["at"]["60"][figure] for one in (name, ANCHOR))
    return 100.0 * (float(own) / float(base) - 1.0)


def _changes(found: dict[str, Any], name: str) -> list[str]:
    texts = []
    for figure in ("rmse", "mae"):
        low, high = found["bootstrap_60"][name][f"{figure}_change_percent"]
        texts.append(f"{_change(found, name, f'{figure}_mgdl'):+.1f} [{low:+.1f}, {high:+.1f}]")
    return [*texts, f"{_change(found, name, 'crps_mgdl'):+.1f}"]


def _mean_changes(studies: dict[str, Any], name: str) -> list[str]:
    return [f"{mean_change(studies, name, figure):+.1f}" for figure in ("rmse_mgdl", "mae_mgdl", "crps_mgdl")]


def _share(one: dict[str, float] | None) -> str:
    return "–" if one is None else f"{100 * one['in_90']:.1f}"


def _regime_errors(one: dict[str, Any], names: list[str]) -> list[str]:
    missing = {"rmse_mgdl": math.nan, "mae_mgdl": math.nan}
    return [number(one["regimes"].get(name, missing)[key], 1) for name in names for key in ("rmse_mgdl", "mae_mgdl")]


def _lows(found: dict[str, Any], name: str) -> list[str]:
    one, same = found["lows"][name], found["lows_at_the_same_precision"][name]
    return [
        f"{one['lows']:,}",
        f"{one['warnings']:,}",
        number(one["precision"], 2),
        number(one["seen"], 3),
        number(same["seen"], 3),
        number(same["threshold"], 2),
    ]


def _corrected(adapted: dict[str, Any]) -> list[str]:
    texts = []
    for figure in ("rmse_mgdl", "mae_mgdl"):
        own, other = (adapted[f"60, {side}"][figure] for side in ("served", "corrected"))
        texts += [f"{own:.2f}", f"{other:.2f}", f"{100.0 * (other / own - 1.0):+.1f}"]
    return texts


def _furthest(one: dict[str, Any]) -> list[str]:
    return [number(furthest_off(one["reliability"][minutes][event]), 3) for minutes in AHEAD for event in EVENTS]


def _certainty(studies: dict[str, Any]) -> list[str]:
    """Bins of the served model that lie further off than is allowed, and how much of that days alone would make."""
    known = {study: found["certainty"] for study, found in studies.items() if "certainty" in found}
    if not known:
        return []
    right = [
        f"{100.0 * (1.0 - math.prod(1.0 - one[minutes]['chance_beyond'] for one in known.values())):.0f} % "
        f"{minutes} minutes ahead"
        for minutes in AHEAD
    ]
    return [
        f"Tenths of {SERVED}'s that lie further off than {ALLOWED}, with the 95 % interval of a bootstrap over days of",
        f"people. Of a forecaster whose every probability is right, one tenth or more would lie beyond {ALLOWED} in",
        f"{' and '.join(right)} of all drawings of such days: so few are the windows.",
        "",
        *table(
            ["held out", "event", "minutes", "windows", "days", "forecast", "observed less forecast"],
            [
                [study, f"P({bin_['event']})", minutes, f"{bin_['windows']:,}", f"{bin_['days']:,}",
                 f"{bin_['forecast']:.3f}",
                 f"{bin_['off']:+.3f} [{bin_['off_95'][0]:+.3f}, {bin_['off_95'][1]:+.3f}]"]
                for study, one in known.items()
                for minutes in AHEAD
                for bin_ in one[minutes]["beyond"]
            ],
        ),
        "",
    ]  # fmt: skip


def _horizon(values: list[float], digits: int) -> list[str]:
    return [number(values[step - 1], digits) for step in _HORIZON]


def _person(name: str, own: dict[str, Any], ridge: dict[str, Any]) -> list[str]:
    at, base = own["60"], ridge["60"]
    return [
        name,
        f"{own['windows']:,}",
        *(f"{at[key]:.1f}" for key in ("rmse_mgdl", "mae_mgdl")),
        f"{100 * at['in_90']:.1f}",
        *(f"{base[key]:.1f}" for key in ("rmse_mgdl", "mae_mgdl")),
    ]


def _drawn(studies: dict[str, Any], out: Path) -> list[tuple[str, str]]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return [
        (_errors(plt, studies, out / "studies_rmse.png"), "Root mean squared error by minutes ahead, study held out"),
        (
            _reliability(plt, studies, out / "studies_reliability.png"),
            f"Reliability of the event probabilities where {ENOUGH} windows fall; shaded: within {ALLOWED:.2f}",
        ),
        (_regimes(plt, studies, out / "studies_regimes.png"), "Coverage of the served 90 % interval by regime"),
    ]


def _errors(plt: Any, studies: dict[str, Any], path: Path) -> str:
    figure, axes = grid(plt, len(studies), sharey=False)
    minutes = [5 * step for step in range(1, 13)]
    for axis, (study, found) in zip(axes, studies.items(), strict=True):
        for name, one in found["forecasters"].items():
            wide = 2.4 if name == SERVED else 1.4
            axis.plot(minutes, one["by_horizon"]["rmse_mgdl"], label=name, color=_COLOURS.get(name), linewidth=wide)
        axis.set_title(study, fontsize=10)
        axis.set_xlabel("minutes ahead")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("RMSE, mg/dL")
    lines, names = axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return saved(plt, figure, path)


def _reliability(plt: Any, studies: dict[str, Any], path: Path) -> str:
    figure, axes = grid(plt, len(EVENTS), sharey=True)
    for axis, event in zip(axes, EVENTS, strict=True):
        axis.fill_between([0, 1], [-ALLOWED, 1 - ALLOWED], [ALLOWED, 1 + ALLOWED], color="#8a8a8a", alpha=0.2)
        for study, found in studies.items():
            for minutes, style in (("30", "-"), ("60", "--")):
                bins = found["forecasters"][SERVED]["reliability"][minutes][event]
                bins = [one for one in bins if one["windows"] >= ENOUGH]
                axis.plot(
                    [b["forecast"] for b in bins], [b["observed"] for b in bins], style, label=f"{study}, {minutes} min"
                )
        axis.set_title(f"P({event})", fontsize=10)
        axis.set_xlabel("forecast")
        axis.set_ylim(0, 1)
    axes[0].set_ylabel("observed")
    axes[0].legend(fontsize=6, frameon=False)
    return saved(plt, figure, path)


def _regimes(plt: Any, studies: dict[str, Any], path: Path) -> str:
    figure, axes = grid(plt, len(studies), sharey=True)
    for axis, (study, found) in zip(axes, studies.items(), strict=True):
        regimes = found["forecasters"][SERVED]["regimes"]
        axis.axvspan(80, 97, color="#8a8a8a", alpha=0.2)
        axis.axvline(90, color="#8a8a8a", linewidth=0.8)
        axis.plot([100 * one["in_90"] for one in regimes.values()], list(regimes), "o", color=_COLOURS[SERVED])
        axis.set_title(study, fontsize=10)
        axis.set_xlabel("% inside")
        axis.set_xlim(70, 100)
    return saved(plt, figure, path)
