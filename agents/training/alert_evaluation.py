"""How well alerts warn people whom neither the forecaster nor the maps were fitted on: `glucast evaluate alerts`.

Streams are walked point by point. A low is 15 minutes below the threshold; an alert is right if one begins 5 to 60
minutes after it, false if none does; recall counts lows whose whole hour before was forecast, by how early the first
alert came. Beside ours, under the same rules of silence and cooldown: an alarm at a fixed level, the line through the
last quarter of an hour, and the median forecast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.core.alert_policy import AFTER_STEPS, PRESETS, RELEASE, Seen, judge
from agents.core.path_events import STEPS, PathEvents
from agents.models.mlp.checkpoint import load_mlp
from agents.models.mlp.engine import MlpEngine
from agents.training.alert_fit import Fans, fit_path_events, save, some_rows
from agents.training.studies import Cut, cut, judged_by, licence_of
from agents.training.table import Pool, read_people
from agents.training.train_mlp import BULK
from schemas.alert import THRESHOLD_MGDL, AlertSettings, AlertState, LevelKind, Preset, level_of
from schemas.errors import ConfigurationError
from schemas.grid import HORIZON_STEPS, STEP_MINUTES, STEPS_A_DAY, THRESHOLDS_MGDL

Array = NDArray[np.float64]
Progress = Callable[[str], None]

LEADS = (5, 10, 15, 20)
RATES = (0.5, 1.0, 2.0)
COOLDOWN = 6
KEPT_WINDOWS, OTHER_WINDOWS = 60_000, 90_000
_BINS = 10
_SCORED: tuple[tuple[LevelKind, int], ...] = (("low", 30), ("urgent_low", 45))
"""Kinds with the horizon, in minutes, that their presets look at."""


class Stream(NamedTuple):
    """One person: rows of the fans, their slots; glucose at every slot from `first` on, NaN where unknown."""

    rows: NDArray[np.int64]
    slots: NDArray[np.int64]
    first: int
    mgdl: Array


class Warned(NamedTuple):
    """False alarms a person-day, recall by LEADS, median lead in minutes."""

    false_a_day: float
    recall: tuple[float, ...]
    median_lead: float


def evaluate_alerts(
    *, data: Path, study: str, checkpoint: Path, out: Path, days: int = 300, seed: int = 0, progress: Progress = print
) -> dict[str, Any]:
    """Fits on all studies but `study`, scores the first of its person-days, about `days`, and writes a report.

    `checkpoint` was trained without the study. ConfigurationError where the table holds nobody of it.
    """
    people = read_people(data)
    judged = judged_by(people, study)
    if not judged:
        raise ConfigurationError(f"{data} holds nobody of {study} with a reading every five minutes")
    engine = MlpEngine(load_mlp(checkpoint), device="cpu", windows_a_product=BULK)
    events = _fitted(engine, cut(people, study, seed), seed, progress)
    pool = Pool.of(judged)
    each = days * STEPS_A_DAY // len(judged)
    rows = np.concatenate([np.flatnonzero(pool.owner == who)[:each] for who in range(len(judged))])
    fans = Fans.of(engine, pool, rows, lambda text: progress(f"{study}: {text}"))
    found = {"study": study, "people": len(judged), **score(fans, events, progress)}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"alerts-{study}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / f"alerts-{study}.md").write_text(markdown(found), encoding="utf-8")
    _draw(found, out / f"alerts-{study}.png")
    return found


def fit_served(*, data: Path, checkpoint: Path, out: Path, seed: int = 0, progress: Progress = print) -> None:
    """Fits on everyone but the people who are never trained on, and writes what the calc role reads."""
    engine = MlpEngine(load_mlp(checkpoint), device="cpu", windows_a_product=BULK)
    parts = cut(read_people(data), None, seed)
    save(_fitted(engine, parts, seed, progress), out, licence_of([*parts.train, *parts.calibrate]))


def _fitted(engine: MlpEngine, parts: Cut, seed: int, progress: Progress) -> PathEvents:
    fitted_on = []
    for name, group, most in (("kept back", parts.calibrate, KEPT_WINDOWS), ("other", parts.train, OTHER_WINDOWS)):
        pool = Pool.of(group)
        rows = some_rows(pool, most, seed)
        fitted_on.append(Fans.of(engine, pool, rows, lambda text, name=name: progress(f"{name} people: {text}")))  # type: ignore[misc]
    progress("fitting the probabilities")
    return fit_path_events(fitted_on[0], fitted_on[1:], seed)


def score(fans: Fans, events: PathEvents, progress: Progress = lambda text: None) -> dict[str, Any]:
    """Reliability of the probabilities, operating curves of every method, and the presets as they are served."""
    chances, happened = fans.read(events), fans.events()
    found: dict[str, Any] = {"person_days": len(fans) / STEPS_A_DAY, "reliability": [], "curves": {}, "presets": {}}
    for place, threshold in enumerate(THRESHOLDS_MGDL):
        for column, steps in enumerate(STEPS):
            error, brier = reliability(chances[:, place, column], happened[:, place, column])
            found["reliability"].append(
                {"threshold_mgdl": threshold, "minutes": steps * STEP_MINUTES, "ece": error, "brier": brier}
            )
    streams = streams_of(fans)
    last = fans.past_mgdl[:, -1]
    line = last + 4 * (last - fans.past_mgdl[:, -4]) / 3
    for kind, minutes in _SCORED:
        threshold = THRESHOLD_MGDL[kind]
        place, column = THRESHOLDS_MGDL.index(threshold), minutes // 15 - 1
        levels = -np.arange(threshold, threshold + 46, 2.0)
        methods: dict[str, tuple[Array, Array, float]] = {
            "glucast": (chances[:, place, column], np.geomspace(0.02, 0.9, 30), RELEASE),
            "fixed level": (-last, levels, 1.0),
            "line, 20 min": (-line, -np.arange(threshold - 40, threshold + 40, 3.0), 1.0),
            "median within 30 min": (-fans.mean_mgdl[:, :6].min(axis=1), levels, 1.0),
        }
        found["curves"][kind] = {}
        for name, (values, points, release) in methods.items():
            progress(f"{kind}: {name}")
            curve = [(float(point), warned(_walk(streams, values, point, release, threshold), streams, threshold))
                     for point in points]  # fmt: skip
            found["curves"][kind][name] = {
                "points": [[point, *one] for point, one in curve],
                "at": _at_rates([one for _, one in curve]),
            }
    for preset in PRESETS:
        progress(f"preset {preset}")
        raised = _judged(fans, chances, streams, preset)
        found["presets"][preset] = {
            kind: warned(raised[kind], streams, THRESHOLD_MGDL[kind])._asdict() for kind, _ in _SCORED
        }
    found["lows"] = {kind: sum(_lows(one, THRESHOLD_MGDL[kind])[1].size for one in streams) for kind, _ in _SCORED}
    return found


def reliability(probability: Array, happened: Array) -> tuple[float, float]:
    """Expected calibration error over ten even bins, and Brier score, of what is known."""
    known = np.isfinite(happened)
    said, was = probability[known], happened[known]
    if not said.size:
        return float("nan"), float("nan")
    bins = np.minimum((said * _BINS).astype(int), _BINS - 1)
    apart = np.abs(np.bincount(bins, said - was, _BINS))
    return float(apart.sum() / said.size), float(np.mean((said - was) ** 2))


def streams_of(fans: Fans) -> list[Stream]:
    """One a person."""
    found = []
    for who in np.unique(fans.owner):
        rows = np.flatnonzero(fans.owner == who)
        slots = fans.slot[rows]
        first = int(slots.min())
        mgdl = np.full(int(slots.max()) - first + HORIZON_STEPS + 1, np.nan)
        for step in range(HORIZON_STEPS):
            ahead = fans.future_mgdl[rows, step]
            known = np.isfinite(ahead)
            mgdl[slots[known] - first + step + 1] = ahead[known]
        mgdl[slots - first] = fans.past_mgdl[rows, -1]
        found.append(Stream(rows, slots, first, mgdl))
    return found


def warned(alerts: list[NDArray[np.int64]], streams: list[Stream], threshold: float) -> Warned:
    """Of alerts, as places in each stream's glucose."""
    false, caught, lows, points = 0, np.zeros(len(LEADS)), 0, 0
    leads: list[int] = []
    for places, stream in zip(alerts, streams, strict=True):
        begins, counted = _lows(stream, threshold)
        points += stream.rows.size
        lows += counted.size
        false += sum(not np.any((begins > place) & (begins <= place + HORIZON_STEPS)) for place in places)
        for begin in counted:
            ahead = begin - places[(places < begin) & (places >= begin - HORIZON_STEPS)]
            if ahead.size:
                leads.append(int(ahead.max()) * STEP_MINUTES)
                caught += [leads[-1] >= lead for lead in LEADS]
    return Warned(
        false * STEPS_A_DAY / points,
        tuple(float(one) for one in caught / max(lows, 1)),
        float(np.median(leads)) if leads else float("nan"),
    )


def _lows(stream: Stream, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where lows begin, and of these the ones whose whole hour before was forecast."""
    below = np.concatenate([[False], stream.mgdl < threshold, [False, False]])
    begins = np.flatnonzero(below[1:-2] & below[2:-1] & below[3:] & ~below[:-3])
    forecast = np.zeros(stream.mgdl.size + 1, dtype=np.int64)
    forecast[stream.slots - stream.first + 1] = 1
    before = np.cumsum(forecast)
    whole = [
        one for one in begins if one >= HORIZON_STEPS and before[one] - before[one - HORIZON_STEPS] == HORIZON_STEPS
    ]
    return begins, np.array(whole, dtype=np.int64)


def _walk(
    streams: list[Stream], values: Array, point: float, release: float, threshold: float
) -> list[NDArray[np.int64]]:
    """Where `values` raise alerts at `point`: the rules of the policy again, quick enough to try many points."""
    found = []
    low = point * release
    for stream in streams:
        raised: list[int] = []
        holding, last, beyond = False, -STEPS_A_DAY, -STEPS_A_DAY
        for row, place in zip(stream.rows.tolist(), (stream.slots - stream.first).tolist(), strict=True):
            value, below = values[row], stream.mgdl[place] < threshold
            if below:
                beyond = place
            if holding and ((value <= low and not below) or place - last >= HORIZON_STEPS):
                holding = False
            if not holding and value >= point and place - last >= COOLDOWN and place - beyond > AFTER_STEPS:
                raised.append(place)
                holding, last = True, place
        found.append(np.array(raised, dtype=np.int64))
    return found


def _judged(
    fans: Fans, chances: Array, streams: list[Stream], preset: Preset
) -> dict[LevelKind, list[NDArray[np.int64]]]:
    """What the served policy raises under a preset."""
    found: dict[LevelKind, list[NDArray[np.int64]]] = {kind: [] for kind in THRESHOLD_MGDL}
    measured = np.ones(fans.past_mgdl.shape[1], dtype=bool)
    for stream in streams:
        state = AlertState(settings=AlertSettings(preset=preset))
        raised: dict[LevelKind, list[int]] = {kind: [] for kind in THRESHOLD_MGDL}
        for row, slot in zip(stream.rows.tolist(), stream.slots.tolist(), strict=True):
            seen = Seen("s", slot, 0, 0, True, fans.past_mgdl[row], measured,
                        dict(zip(THRESHOLD_MGDL, chances[row].tolist(), strict=True)))  # fmt: skip
            state, told = judge(state, seen)
            for alert in told:
                kind = level_of(alert.kind)
                if alert.status == "raised" and kind is not None:
                    raised[kind].append(slot - stream.first)
                    if kind == "urgent_low":  # who is told of it is told of a low
                        raised["low"].append(slot - stream.first)
        for kind, places in raised.items():
            found[kind].append(np.unique(np.array(places, dtype=np.int64)))
    return found


def _at_rates(curve: list[Warned]) -> dict[str, list[float]]:
    """Recall by LEADS at RATES, between the points of a curve."""
    order = np.argsort([one.false_a_day for one in curve])
    rate = np.array([curve[place].false_a_day for place in order])
    recall = np.array([curve[place].recall for place in order])
    return {f"{wanted:g}": [float(np.interp(wanted, rate, column)) for column in recall.T] for wanted in RATES}


def markdown(found: Mapping[str, Any]) -> str:
    """The report's text."""
    name = found["study"]
    lines = [
        f"# Alerts on people of {name}, whom nothing was fitted on",
        "",
        "Not a medical device; not for treatment decisions.",
        "",
        f"{found['people']} people, {found['person_days']:.0f} person-days, {found['lows']['low']} lows below 70 and "
        f"{found['lows']['urgent_low']} below 54 mg/dL.",
        "Recall in % with at least 5 / 10 / 15 / 20 minutes of warning.",
        "",
        "| alert | method | 0.5 false a day | 1 a day | 2 a day |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, methods in found["curves"].items():
        for method, one in methods.items():
            cells = ["/".join(f"{100 * part:.0f}" for part in one["at"][f"{rate:g}"]) for rate in RATES]
            lines.append(f"| {kind} | {method} | {' | '.join(cells)} |")
    lines += ["", "| preset | alert | false a day | recall | median lead |", "| --- | --- | --- | --- | --- |"]
    for preset, kinds in found["presets"].items():
        for kind, one in kinds.items():
            recall = "/".join(f"{100 * part:.0f}" for part in one["recall"])
            lines.append(f"| {preset} | {kind} | {one['false_a_day']:.2f} | {recall} | {one['median_lead']:.0f} min |")
    lines += ["", "| mg/dL | within | ECE | Brier |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one['threshold_mgdl']:g} | {one['minutes']} min | {one['ece']:.4f} | {one['brier']:.4f} |"
        for one in found["reliability"]
    ]
    lines += ["", f"![Recall with 10 minutes of warning over false alarms a day](alerts-{name}.png)"]
    return "\n".join(lines) + "\n"


def _draw(found: Mapping[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found["curves"]), figsize=(10, 4), layout="constrained")
    for axis, (kind, methods) in zip(axes, found["curves"].items(), strict=True):
        for method, one in methods.items():
            points = sorted((point[1], 100 * point[2][LEADS.index(10)]) for point in one["points"])
            axis.plot(*zip(*points, strict=True), label=method)
        axis.set(title=kind, xlim=(0, 3), ylim=(0, 100), xlabel="false alarms a day", ylabel="recall, 10 min, %")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)
