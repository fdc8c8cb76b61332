"""One table of every forecaster on every held-out part, through the same path that serves forecasts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agents.core.calibration import Calibration
from agents.core.forecaster import Forecaster, Windows
from agents.models.choice import Choice
from agents.models.load import load_forecaster
from agents.training.baselines import PointForecast, darts_models, persistence, ridge_forecast, with_spread
from agents.training.data import DATA_SETS, data_directory, read_series, virtual_series
from agents.training.metrics import Predictive, evaluate_predictive
from agents.training.report import write_report
from agents.training.ridge import fit_ridge
from agents.training.splits import Examples, Split, examples, joined, split
from agents.virtual_person.physiology import patient_names

Progress = Callable[[str], None]
SERVED_SAMPLES = 10
PARTS = ("test_id", "test_ood")
VIRTUAL_TEST_SEED = 9001  # virtual lives that no training run has seen; the patients themselves may have been
_BATCH = 256


def splits(directory: Path) -> dict[str, Split]:
    """Every real data set, cut."""
    return {one.name: split(read_series(one, directory), one.segment_points) for one in DATA_SETS}


def sampling_seeds(windows: Windows) -> list[bytes]:
    """A seed of 32 bytes from each window's content, as the stream derives one from the forecast id."""
    return [
        hashlib.sha256(past.tobytes() + str(end).encode()).digest()
        for past, end in zip(windows.past_mgdl, windows.end_times, strict=True)
    ]


def served(forecaster: Forecaster, data: Examples, num_samples: int = SERVED_SAMPLES) -> Predictive:
    """The forecaster's own answer, samples and calibration as served; without a calibration its raw distribution."""
    samples, spreads = [], []
    for begin in range(0, len(data), _BATCH):
        part = data.windows.rows(slice(begin, begin + _BATCH))
        answered = forecaster.sample(part, sampling_seeds(part), num_samples)
        samples.append(answered.samples_mgdl)
        spreads.append(answered.residual_sd_mgdl)
    calibration = forecaster.calibration or Calibration.identity()
    return Predictive(np.concatenate(samples), np.concatenate(spreads), calibration)


def evaluate(
    *,
    checkpoint: str | Path = "bundled",
    beside: Path | None = None,
    data: Path | None = None,
    out: Path | None = None,
    num_samples: int = SERVED_SAMPLES,
    darts: bool = False,
    virtual_days: int = 2,
    seed: int = 0,
    progress: Progress = print,
) -> dict[str, Any]:
    """Scores a checkpoint and its baselines on the held-out parts: {"results": {part: {forecaster: figures}}, ...}.

    `beside`: another checkpoint, scored as "beside". `virtual_days` of ten virtual people are a part of their own; 0
    leaves it out. With `out`, writes report.json, report.md and figures there. FileNotFoundError where data is missing.
    """
    cut = splits(data_directory(data))
    together = joined(*cut.values())
    train, select, calibrate = examples(together.train), examples(together.select), examples(together.calibrate)
    progress(f"{len(train):,} training, {len(select):,} selection and {len(calibrate):,} calibration windows")
    points: dict[str, PointForecast] = {
        "persistence": persistence,
        "ridge": ridge_forecast(fit_ridge(train, select)),
    }
    if darts:
        progress("training the Darts baselines")
        points |= darts_models(together.train, together.select, seed)
    answers: dict[str, Callable[[Examples], Predictive]] = {}
    for name, forecast in points.items():
        progress(f"calibrating {name}")
        answers[name] = with_spread(forecast, calibrate)
    forecaster = load_forecaster("network", Choice(checkpoint=str(checkpoint)))
    forecaster.warm_up()
    answers["glucast"] = lambda part: served(forecaster, part, num_samples)
    if beside is not None:
        other = load_forecaster("network", Choice(checkpoint=beside))
        answers["beside"] = lambda part: served(other, part, num_samples)

    tests = {part[5:].upper(): examples(getattr(together, part)) for part in PARTS}
    if virtual_days:
        lives = virtual_series(copies=1, days=virtual_days, seed=VIRTUAL_TEST_SEED, names=patient_names()[::3])
        tests["virtual"] = examples(lives)
    results: dict[str, dict[str, Any]] = {}
    for part, held_out in tests.items():
        sets = (
            {f"{name} {part}": np.flatnonzero(held_out.data_set == name) for name in cut} if part != "virtual" else {}
        )
        for name, answer in answers.items():
            progress(f"{part}: {name}")
            whole = answer(held_out)
            results.setdefault(part, {})[name] = evaluate_predictive(held_out, whole)
            for set_part, rows in sets.items():
                results.setdefault(set_part, {})[name] = evaluate_predictive(held_out.take(rows), whole.take(rows))
    summary = {
        "fingerprint": forecaster.fingerprint,
        "num_samples": num_samples,
        "windows": {"train": len(train), "select": len(select), "calibrate": len(calibrate)},
        "held_out_people": {name: sorted({one.person for one in part.test_ood}) for name, part in cut.items()},
        "results": results,
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        write_report(summary, out)
    return summary
