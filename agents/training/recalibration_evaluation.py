"""What recalibration does for people of a study that the network has not seen, forecast by forecast as the stream does.

Each person's forecasts go in order through `agents.calc.scorekeeping`, the same that the calc role runs, from an empty
state on. Base fan and published fan are judged by the same measured targets. Regimes are those of the last points
before the forecast: rising and falling by 1 mg/dL a minute or more over 15 minutes, below 80 or above 250 mg/dL.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.calc.scorekeeping import keep
from agents.core.fan_scores import INTERVALS, crps
from agents.core.predictive import quantiles
from agents.models.choice import Choice
from agents.models.load import load_forecaster
from agents.training.evaluate import served
from agents.training.studies import judged_by
from agents.training.study_metrics import regimes
from agents.training.table import Person, Pool, read_people
from schemas.errors import ConfigurationError
from schemas.fan_chart import MEDIAN, FanChart
from schemas.grid import HORIZON_STEPS, PAST_POINTS, STEP_MINUTES, STEP_SECONDS, STEPS_A_DAY
from schemas.score_state import SUMMED_STEPS, ScoreState

Array = NDArray[np.float64]
Progress = Callable[[str], None]
AGES = {"0-6 h": (0, 72), "6-24 h": (72, STEPS_A_DAY), "day 2": (STEPS_A_DAY, 2 * STEPS_A_DAY)}
FROM_DAY_2 = "from day 2"
_CHUNK = 250
_DIGEST = "0" * 64


class Judged(NamedTuple):
    """N forecasts of one person: base and published quantiles (N, 9, 12), truth (N, 12) NaN where not measured.

    `age` (N,) counts steps since the first forecast; `regimes` name which of them.
    """

    person: str
    base: Array
    published: Array
    truth: Array
    age: NDArray[np.int64]
    regimes: dict[str, NDArray[np.bool_]]


def evaluate_recalibration(
    *, data: Path, study: str, checkpoint: str, days: int, most_people: int | None = None, progress: Progress = print
) -> dict[str, Any]:
    """Figures of base and published fan: {"base" or "published": {group: {...}}} over `days` of each person.

    FileNotFoundError without the table, ConfigurationError where it lacks the study.
    """
    people = [person for person in judged_by(read_people(data), study) if person.ends.size >= 2 * STEPS_A_DAY]
    people = people[:most_people]
    if not people:
        raise ConfigurationError(f"{data} holds nobody of {study} with two days of a reading every five minutes")
    forecaster = load_forecaster("network", Choice(checkpoint=checkpoint))
    judged = []
    for person in people:
        progress(f"{person.name}")
        judged.append(judge(person, forecaster, days))
    return {
        "study": study,
        "days": days,
        "people": len(people),
        "forecasts": sum(one.age.size for one in judged),
        "fans": {name: _figures(judged, name) for name in ("base", "published")},
    }


def judge(person: Person, forecaster: Any, days: int) -> Judged:
    """The forecasts of a person's first days, through the scorekeeping of the stream."""
    pool = Pool.of([person])
    slots = pool.slot[pool.ends]
    rows = np.flatnonzero(slots < slots[0] + days * STEPS_A_DAY)
    examples, slots = pool.examples(rows), slots[rows]
    answer = served(forecaster, examples)
    parts = [slice(begin, begin + _CHUNK) for begin in range(0, rows.size, _CHUNK)]
    base = np.concatenate(
        [quantiles(answer.samples_mgdl[part], answer.residual_sd_mgdl[part], answer.calibration) for part in parts]
    )
    base = np.round(base, 1)
    published = _published(person, slots, base)
    return Judged(
        person.name, base, published, examples.future_mgdl.astype(np.float64), slots - slots[0], regimes(examples)
    )


def _published(person: Person, slots: NDArray[np.int64], base: Array) -> Array:
    found, state = np.empty_like(base), ScoreState()
    for place, (slot, fan) in enumerate(zip(slots.tolist(), base, strict=True)):
        last = slot - person.first + 1
        past = slice(last - PAST_POINTS, last)
        chart = _chart(slot, person.mgdl[past].tolist(), np.flatnonzero(~person.measured[past]).tolist(), fan.tolist())
        chart, _ = keep(state, chart, recalibrate=True)
        found[place] = [values for _, values in chart.levels()]
    return found


def _chart(slot: int, past: list[float], interpolated: list[int], fan: list[list[float]]) -> FanChart:
    """What the scorekeeping looks at; chances are those of nothing."""
    issue = datetime.datetime.fromtimestamp(slot * STEP_SECONDS, datetime.UTC)
    nothing = (0.0,) * HORIZON_STEPS
    fields: dict[str, Any] = {
        "chart_id": hashlib.sha256(str(slot).encode()).hexdigest(),
        "series_key": "person",
        "model": "mlp",
        "model_fingerprint": _DIGEST,
        "issue_time": issue,
        "past_mgdl": tuple(past),
        "interpolated_points": tuple(interpolated),
        "median_mgdl": tuple(fan[MEDIAN]),
        "quantiles_mgdl": tuple(tuple(row) for row in fan[:MEDIAN] + fan[MEDIAN + 1 :]),
        "p_below_70": nothing,
        "p_above_180": nothing,
    }
    return FanChart.model_construct(**fields)


def _figures(judged: Sequence[Judged], fan: str) -> dict[str, Any]:
    """Means over people, so that who has more forecasts counts no more; regimes over all forecasts of everybody."""
    found: dict[str, Any] = {"ages": {}, "people": {}, "regimes": {}}
    for age, (first, last) in AGES.items():
        found["ages"][age] = _mean([_covered(one, fan, (one.age >= first) & (one.age < last)) for one in judged])
    settled = {one.person: one.age >= STEPS_A_DAY for one in judged}
    found["people"] = {one.person: _covered(one, fan, settled[one.person]) for one in judged}
    found["ages"][FROM_DAY_2] = _mean(list(found["people"].values()))
    for name in judged[0].regimes:
        masks = [one.regimes[name] & settled[one.person] for one in judged]
        parts = [_hits(one, fan, mask) for one, mask in zip(judged, masks, strict=True)]
        found["regimes"][name] = {
            "forecasts": int(sum(mask.sum() for mask in masks)),
            **{key: _known_mean(np.concatenate([part[key] for part in parts])) for key in parts[0]},
        }
    return found


def _covered(one: Judged, fan: str, rows: NDArray[np.bool_]) -> dict[str, float]:
    return {key: _known_mean(values) for key, values in _hits(one, fan, rows).items()}


def _known_mean(values: Array) -> float:
    """Of what is no NaN; NaN of nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _hits(one: Judged, fan: str, rows: NDArray[np.bool_]) -> dict[str, Array]:
    """Of each forecast and of targets that were measured, else NaN: in an interval, CRPS, width of the 90 %."""
    found: dict[str, Array] = {}
    every = one.base if fan == "base" else one.published
    for step in SUMMED_STEPS:
        quantile, truth = every[rows, :, step - 1], one.truth[rows, step - 1]
        known, minutes = np.isfinite(truth), step * STEP_MINUTES
        for percent, (low, high) in INTERVALS.items():
            inside = (quantile[:, low] <= truth) & (truth <= quantile[:, high])
            found[f"in_{percent}_at_{minutes}"] = np.where(known, inside, np.nan)
        low, high = INTERVALS[90]
        found[f"crps_at_{minutes}"] = np.where(known, crps(quantile, np.where(known, truth, 100.0)), np.nan)
        found[f"width_90_at_{minutes}"] = quantile[:, high] - quantile[:, low]
    return found


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: _known_mean(np.array([row[key] for row in rows])) for key in rows[0]}


def text_of(summary: dict[str, Any]) -> str:
    """The figures that are asked for first, as lines."""
    lines = [f"{summary['study']}: {summary['people']} people, {summary['forecasts']:,} forecasts"]
    horizons = [step * STEP_MINUTES for step in SUMMED_STEPS]
    for fan, figures in summary["fans"].items():
        lines.append(f"{fan} fan, share of truths inside the 90 % interval at {horizons} minutes")
        groups = figures["ages"] | figures["regimes"]
        for name, row in groups.items():
            shares = "  ".join(f"{100 * row[f'in_90_at_{minutes}']:5.1f}" for minutes in horizons)
            lines.append(f"  {name:12} {shares}   width at 60: {row['width_90_at_60']:5.1f} mg/dL")
        settled = figures["ages"][FROM_DAY_2]
        for percent in INTERVALS:
            shares = "  ".join(f"{100 * settled[f'in_{percent}_at_{minutes}']:5.1f}" for minutes in horizons)
            lines.append(f"  {percent} %, {FROM_DAY_2}: {shares}")
        lines.append("  CRPS " + "  ".join(f"{settled[f'crps_at_{minutes}']:.2f}" for minutes in horizons))
        for minutes in horizons:
            shares_90 = [100 * row[f"in_90_at_{minutes}"] for row in figures["people"].values()]
            lines.append(f"  people at {minutes}: {min(shares_90):.1f} to {max(shares_90):.1f}")
    return "\n".join(lines)
