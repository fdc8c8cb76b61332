"""What it costs a forecast that points of its window lie between readings, as those of slower sensors do.

People with a reading every five minutes, whom the bundled network was not trained on: those who only calibrate, and
GLUCOBENCH_HALL. Of their readings every second, every third, or all but every third are kept, and the rest, the hours
of the week before too, is made of these as the stream does. Windows are those that end at a kept reading and have no
gap either way, so each is forecast several times; what is judged by are the readings of five minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.core.fan_scores import INTERVALS
from agents.core.forecaster import Forecaster, Windows
from agents.models.choice import Choice
from agents.models.load import load_forecaster
from agents.training.evaluate import served
from agents.training.recalibration_evaluation import judge
from agents.training.reliability import AHEAD
from agents.training.splits import Examples
from agents.training.studies import GLUCOBENCH_HALL, cut
from agents.training.study_metrics import regimes, scored, summary
from agents.training.table import Person, Pool, on_grid, read_people
from schemas.errors import ConfigurationError
from schemas.grid import CENTI, PAST_POINTS, STEP_MINUTES, STEPS_A_DAY

Progress = Callable[[str], None]
PATTERNS: dict[int, tuple[bool, ...]] = {
    PAST_POINTS // 3: (True, True, False),
    PAST_POINTS // 2: (True, False),
    PAST_POINTS * 2 // 3: (True, False, False),
}
"""Interpolated points of a window -> which slots of the clock, in turn, have a reading."""
MINUTES = {"15": 2, **AHEAD}
REGIMES = ("rising", "falling", "below 80")
"""Judged apart at 60 minutes, as they were by the readings of five minutes."""
FITTED_PEOPLE, FITTED_DAYS = 12, 3
_LAST = AHEAD["60"]


def evaluate_thinned(
    *, data: Path, checkpoint: str = "bundled", windows: int = 4000, progress: Progress = print
) -> dict[str, Any]:
    """Figures by the number of interpolated points: {"thinned": {"64": {"measured": {...}, "interpolated": {...}}}}.

    About `windows` windows for each number, of everybody as many. FileNotFoundError without the table,
    ConfigurationError where nobody in it has unbroken readings of five minutes.
    """
    everyone = read_people(data)
    unseen = {one.name for one in cut(everyone).calibrate} | GLUCOBENCH_HALL
    people = [one for one in everyone if one.name in unseen and one.step_minutes == STEP_MINUTES]
    forecaster = load_forecaster("network", Choice(checkpoint=checkpoint))
    found: dict[str, Any] = {}
    for count, pattern in PATTERNS.items():
        progress(f"{count} of {PAST_POINTS} points")
        found[str(count)] = _compared(people, pattern, count, windows, forecaster)
        found[str(count)]["in_90_fitted"] = _fitted(people, pattern, forecaster)
    return {"fingerprint": forecaster.fingerprint, "thinned": found}


def thinned(person: Person, pattern: Sequence[bool]) -> Person:
    """The same person with a sensor that speaks at those slots of the clock alone."""
    slots = person.first + np.arange(person.mgdl.size)
    kept = person.measured & np.array(pattern)[slots % len(pattern)]
    places = np.flatnonzero(kept)
    centi = np.floor(person.mgdl[places].astype(np.float64) * CENTI + 0.5).astype(np.int64)
    mgdl = np.full(person.mgdl.size, np.nan, dtype=np.float32)
    if places.size:
        mgdl[places[0] : places[-1] + 1] = on_grid(places - places[0], centi)
    return replace(person, step_minutes=STEP_MINUTES * len(pattern), mgdl=mgdl, measured=kept)


def _compared(
    people: Sequence[Person], pattern: Sequence[bool], count: int, windows: int, forecaster: Forecaster
) -> dict[str, Any]:
    pairs = [(one, thinned(one, pattern)) for one in people]
    common = [(full, thin, np.intersect1d(_ends(full, 0), _ends(thin, count))) for full, thin in pairs]
    common = [each for each in common if each[2].size]
    if not common:
        raise ConfigurationError("nobody in the table has eight unbroken hours of a reading every five minutes")
    most = max(1, windows // len(common))
    measured, between = [], []
    for full, thin, ends in common:
        chosen = ends[np.linspace(0, ends.size - 1, min(most, ends.size)).astype(int)]
        measured.append(_examples(full, chosen))
        between.append(replace(_examples(thin, chosen), future_mgdl=measured[-1].future_mgdl))
    judged = {"measured": _together(measured), "interpolated": _together(between)}
    moving = regimes(judged["measured"])
    found: dict[str, Any] = {"windows": len(judged["measured"]), "people": len(common)}
    for name, part in judged.items():
        of = scored(part, served(forecaster, part))
        found[name] = {minutes: summary(of, slice(step, step + 1)) for minutes, step in MINUTES.items()} | {
            regime: summary(of, slice(_LAST, None), moving[regime]) | {"windows": int(moving[regime].sum())}
            for regime in REGIMES
            if moving[regime].any()
        }
    return found


def _fitted(people: Sequence[Person], pattern: Sequence[bool], forecaster: Forecaster) -> dict[str, dict[str, float]]:
    """Share of readings in the 90 % interval from the second day on: of the model's fan, and of the one that is fitted
    to each person, by minutes ahead. The first FITTED_DAYS days of FITTED_PEOPLE, of all studies in turn.
    """
    slow = [thinned(one, pattern) for one in people]
    slow = [one for one in slow if one.ends.size and one.ends[-1] - one.ends[0] > 2 * STEPS_A_DAY]
    chosen = np.unique(np.linspace(0, len(slow) - 1, FITTED_PEOPLE).astype(int)) if slow else ()
    found = [judge(slow[place], forecaster, FITTED_DAYS) for place in chosen]
    low, high = INTERVALS[90]
    shares: dict[str, dict[str, float]] = {}
    for minutes, step in MINUTES.items():
        for name in ("base", "published") if found else ():
            late = [one.age >= STEPS_A_DAY for one in found]
            fan = np.concatenate([getattr(one, name)[rows, :, step] for one, rows in zip(found, late, strict=True)])
            truth = np.concatenate([one.truth[rows, step] for one, rows in zip(found, late, strict=True)])
            known = np.isfinite(truth)
            inside = (fan[:, low] <= truth) & (truth <= fan[:, high])
            if known.any():  # a sensor of every ten minutes shows nothing after 15
                shares.setdefault(minutes, {})[name] = float(inside[known].mean())
    return shares


def _ends(person: Person, interpolated: int) -> NDArray[np.int64]:
    """The ends of those windows of which so many points are interpolated."""
    between = np.concatenate([[0], np.cumsum(~person.measured)])
    ends = person.ends
    return np.asarray(ends[between[ends + 1] - between[ends + 1 - PAST_POINTS] == interpolated])


def _examples(person: Person, ends: NDArray[np.int64]) -> Examples:
    pool = Pool.of([person])
    return pool.examples(np.flatnonzero(np.isin(pool.ends, ends)))


def _together(parts: Sequence[Examples]) -> Examples:
    windows = Windows(
        np.concatenate([each.windows.past_mgdl for each in parts]),
        np.concatenate([each.windows.end_times for each in parts]),
        np.concatenate([each.windows.hours for each in parts]),
    )
    return Examples(
        windows,
        np.concatenate([each.future_mgdl for each in parts]),
        np.concatenate([each.person for each in parts]),
        np.repeat(np.arange(len(parts)), [len(each) for each in parts]),
    )


def markdown(found: dict[str, Any]) -> str:
    """The table of the model card: 30 and 60 minutes ahead, as measured -> as interpolated."""
    lines = [
        "| interpolated | windows | minutes | RMSE | MAE | CRPS | in the 90 % interval |",
        "| --- |" + " --- |" * 6,
    ]
    for count, one in found["thinned"].items():
        for when in one["measured"]:
            before, after = one["measured"][when], one["interpolated"][when]
            cells = [f"{before[name]:.2f} → {after[name]:.2f}" for name in ("rmse_mgdl", "mae_mgdl", "crps_mgdl")]
            cells.append(f"{100 * before['in_90']:.1f} → {100 * after['in_90']:.1f}")
            name = when if when in MINUTES else f"60, {when}"
            count_of = before.get("windows", one["windows"])
            lines.append(f"| {count} of {PAST_POINTS} | {count_of:,} | {name} | {' | '.join(cells)} |")

    lines += [
        "",
        "| interpolated | minutes | in the 90 % interval of the model's fan | of the person's |",
        "| --- |" + " --- |" * 3,
    ]
    for count, one in found["thinned"].items():
        for minutes, shares in one["in_90_fitted"].items():
            cells = [f"{100 * shares[name]:.1f}" for name in ("base", "published")]
            lines.append(f"| {count} of {PAST_POINTS} | {minutes} | {' | '.join(cells)} |")
    return "\n".join(lines)
