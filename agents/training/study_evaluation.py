"""Leave one study out: for each of HELD_OUT_STUDIES a network trained on all others, beside its baselines.

Nothing of the study that is held out touches features, fit, spread or calibration: the scaling of the features, the
network, every baseline and every conformal step come from the people of other studies. A study that is done is kept in
the work directory, and each baseline of one that is not, so a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.models.mlp.checkpoint import load_mlp
from agents.models.mlp.config import MlpConfig
from agents.models.mlp.engine import MlpEngine
from agents.training.baselines import spread_around
from agents.training.evaluate import SERVED_SAMPLES, served
from agents.training.fit_mlp import MlpSchedule
from agents.training.fit_trees import TreesSchedule
from agents.training.reliability import bins_of, certainty
from agents.training.splits import Examples
from agents.training.studies import HELD_OUT_STUDIES, cut, judged_by
from agents.training.study_baselines import Baselines
from agents.training.study_metrics import Scored, adaptation, bootstrap, figures, lows_seen, scored
from agents.training.study_report import write_study_report
from agents.training.table import Person, Pool, read_people
from agents.training.train_mlp import BULK, calibration_windows, train_mlp
from schemas.errors import ConfigurationError

Progress = Callable[[str], None]
STRIDE = 3
SERVED = "glucast"
WITHOUT_HOURS = "glucast, 8 hours alone"
ANCHOR = "ridge, 96 lags"
_LAYOUT = 6


def evaluate_studies(
    *,
    data: Path,
    out: Path,
    work: Path,
    config: MlpConfig = MlpConfig(),  # noqa: B008  frozen
    schedule: MlpSchedule = MlpSchedule(),  # noqa: B008  frozen
    trees: TreesSchedule | None = None,
    seed: int = 0,
    threads: int = 1,
    stride: int = STRIDE,
    boosted: bool = True,
    darts: bool = True,
    studies: Sequence[str] = HELD_OUT_STUDIES,
    progress: Progress = print,
) -> dict[str, Any]:
    """Trains, scores and writes studies.json, studies.md and figures into `out`; returns the summary.

    `boosted`: with LightGBM; `darts`: with Darts' N-HiTS and TiDE. FileNotFoundError without the table,
    ConfigurationError where it lacks a study.
    """
    people = read_people(data)
    summary: dict[str, Any] = {
        "stride": stride,
        "num_samples": SERVED_SAMPLES,
        "schedule_steps": schedule.steps,
        "studies": {},
    }
    work.mkdir(parents=True, exist_ok=True)
    baselines = Baselines(seed, threads, boosted, darts)
    for study in studies:
        test = judged_by(people, study)
        if not test:
            raise ConfigurationError(f"{data} holds nobody of {study} with a reading every five minutes")
        checkpoint = work / f"{study}.safetensors"
        train_mlp(
            out=checkpoint, data=data, work=work / study, held_out=study, config=config, schedule=schedule,
            trees=trees, seed=seed, threads=threads, people=people,
            progress=lambda text, share, study=study: progress(f"{study} held out: {text}"),  # type: ignore[misc]
        )  # fmt: skip
        key = hashlib.sha256(
            f"{_LAYOUT} {stride} {boosted} {darts} {threads}".encode() + checkpoint.read_bytes()
        ).hexdigest()
        done = work / f"{study}.json"
        if done.exists() and (kept := json.loads(done.read_text(encoding="utf-8")))["key"] == key:
            summary["studies"][study] = kept["figures"]
            continue
        found = _one_study(study, people, test, checkpoint, baselines, stride, progress)
        done.write_text(json.dumps({"key": key, "figures": found}), encoding="utf-8")
        summary["studies"][study] = found
    out.mkdir(parents=True, exist_ok=True)
    (out / "studies.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    write_study_report(summary, out)
    return summary


def without_hours(part: Examples) -> Examples:
    """As of somebody whose readings began eight hours ago."""
    return replace(part, windows=replace(part.windows, hours_mgdl=None))


def _one_study(
    study: str,
    people: Sequence[Person],
    test: Sequence[Person],
    checkpoint: Path,
    baselines: Baselines,
    stride: int,
    progress: Progress,
) -> dict[str, Any]:
    def say(text: str) -> None:
        progress(f"{study} held out: {text}")

    parts = cut(people, study, baselines.seed)
    calibrate, held_out = calibration_windows(parts.calibrate), Pool.of(test, stride).examples()
    named: dict[str, Scored] = {}
    for name, centre, ahead in baselines.forecasts(parts, calibrate, held_out, checkpoint.with_suffix(""), say):
        say(f"scoring {name}")
        named[name] = scored(held_out, spread_around(centre, calibrate)(ahead))
    engine = MlpEngine(load_mlp(checkpoint), device="cpu", windows_a_product=BULK)
    for name, part in ((WITHOUT_HOURS, without_hours(held_out)), (SERVED, held_out)):
        say(f"scoring {name}")
        named[name] = scored(held_out, served(engine, part))
    say("correcting each person's forecasts")
    lows = {name: lows_seen(held_out, found) for name, found in named.items()}
    own = lows[SERVED]["precision"]
    return {
        "fingerprint": engine.fingerprint,
        "forecasters": {name: figures(held_out, found) for name, found in named.items()},
        "bootstrap_60": bootstrap(held_out, named, ANCHOR, baselines.seed),
        "adapted": adaptation(held_out, named[SERVED]),
        "certainty": certainty(held_out, bins_of(held_out, named[SERVED].events), baselines.seed),
        "lows": lows,
        "lows_at_the_same_precision": {name: lows_seen(held_out, found, own) for name, found in named.items()},
    }
