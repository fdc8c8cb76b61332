"""Makes an MLP checkpoint from a table of recordings: fitted, its spread calibrated on people kept back, as served.

Steps: read the table (table.py), keep people back (studies.py), fit the networks (fit_mlp.py), the trees beside them
(fit_trees.py) and the ridge (lags.py), sample through the serving engine on the people kept back, fit the conformal
step and that of the lows on these samples, write the checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.core.calibration import Calibration
from agents.core.predictive import probability_below
from agents.models.mlp.checkpoint import Beside, LinearAnchor, MlpCheckpoint, save_mlp
from agents.models.mlp.config import MlpConfig
from agents.models.mlp.engine import MlpEngine
from agents.models.regression import Regression
from agents.training.baselines import with_spread
from agents.training.calibrate import even_weight, fit_calibration
from agents.training.evaluate import SERVED_SAMPLES, served
from agents.training.fit_mlp import MlpFit, MlpSchedule
from agents.training.fit_trees import TreesSchedule, fit_trees, lightgbm_or_refused
from agents.training.lags import LagRidge, fit_lag_ridge
from agents.training.low_lines import fit_low_lines
from agents.training.metrics import Predictive
from agents.training.splits import Examples
from agents.training.studies import cut, licence_of
from agents.training.table import Person, Pool, read_people
from schemas.errors import ConfigurationError
from schemas.grid import HORIZON_STEPS, STEP_MINUTES, THRESHOLDS_MGDL

Progress = Callable[[str, float], None]
"""(what is happening, share done 0..1)"""

CALIBRATION_WINDOWS = 16_000
LOW_WINDOWS = 20_000
BULK = 64
"""Windows at once: the samples that are served, but for the last bits, at an eighth of the time."""
_RIDGE_STRIDE = 3
_BLOCK = 1000


def train_mlp(
    *,
    out: Path,
    data: Path,
    work: Path,
    held_out: str | None = None,
    config: MlpConfig = MlpConfig(),  # noqa: B008  frozen
    schedule: MlpSchedule = MlpSchedule(),  # noqa: B008  frozen
    trees: TreesSchedule | None = None,
    seed: int = 0,
    threads: int = 1,
    people: Sequence[Person] | None = None,
    progress: Progress = lambda text, share: None,
) -> dict[str, Any]:
    """Trains on every study but `held_out`, calibrates and writes `out`; an unfinished run goes on from `work`.

    `trees`: None for the network alone. `people`: the table, where it has been read already. FileNotFoundError without
    the table; ConfigurationError when `work` belongs to a run with other settings or data, or LightGBM is missing.
    """
    if trees is not None:
        lightgbm_or_refused()
    torch.set_num_threads(threads)
    progress("reading the table", 0.0)
    everyone = read_people(data) if people is None else people
    parts = cut(everyone, held_out, seed)
    settings = {
        "network": "mlp",
        "config": config.to_dict(),
        "schedule": asdict(schedule),
        "seed": seed,
        "held_out": held_out,
        "readings": {one.name: int(one.measured.sum()) for one in parts.train},
        **({} if trees is None else {"trees": asdict(trees)}),
    }
    claim(work, settings)
    pool = Pool.of(parts.train)
    network_share = 0.9 if trees is None else 0.4
    members: list[dict[str, Any]] = []
    for member in range(config.members):
        fit = MlpFit(pool, config, schedule, seed, work / f"mlp-{member}.pt", member=member)
        for step, loss in fit.run():
            done = (member + step / schedule.steps) / config.members
            text = f"network {member + 1} of {config.members}: step {step:,} of {schedule.steps:,}, loss {loss:.3f}"
            progress(text, network_share * done)
        members.append(fit.weights())
    beside = None
    if trees is not None:

        def told(models: int) -> None:
            count = trees.forests * HORIZON_STEPS
            progress(f"trees: {models} models of {count}", 0.4 + 0.5 * models / count)

        beside = Beside(fit_trees(pool, trees, seed, threads, work, told), trees.share)
    progress("fitting the ridge beside it", 0.91)
    calibrate = calibration_windows(parts.calibrate)
    ridge = fit_lag_ridge(Pool.of(parts.train, _RIDGE_STRIDE), Pool.of(parts.calibrate, _RIDGE_STRIDE))
    progress("calibrating as served", 0.95)
    made = MlpCheckpoint(
        config=config,
        network=in_half(members[0] if config.members == 1 else stacked(members)),
        feature_centre=fit.centre,
        feature_scale=fit.scale,
        step_scale_mgdl=fit.unit,
        anchor=_anchor(ridge, calibrate),
        beside=beside,
        provenance=_provenance(settings, parts.train, parts.calibrate, len(pool), ridge),
        licence=licence_of([*parts.train, *parts.calibrate]),
    )
    made = dataclasses.replace(made, calibration=calibrated_as_served(made, calibrate, at_risk(parts.calibrate)))
    fingerprint = save_mlp(out, made)
    progress("done", 1.0)
    return {
        "fingerprint": fingerprint,
        "parameters": sum(value.size for value in made.network.values()),
        "windows": len(pool),
        "people": len(parts.train),
        "kept_back": [one.name for one in parts.calibrate],
    }


def stacked(members: Sequence[dict[str, NDArray[np.float32]]]) -> dict[str, NDArray[np.float32]]:
    """Tensors of like networks behind an axis of members."""
    return {name: np.stack([one[name] for one in members]) for name in members[0]}


def in_half(network: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Tensors rounded to half precision, which is how a file holds them: before anything is fitted to what they say."""
    return {name: value.astype(np.float16).astype(np.float32) for name, value in network.items()}


def calibration_windows(people: Sequence[Person]) -> Examples:
    """Windows of the people kept back, evenly over their time; of each study as many as of another, at most."""
    studies = sorted({one.study for one in people})
    share = CALIBRATION_WINDOWS // len(studies)
    rows = []
    pool = Pool.of(people)
    for study in studies:
        own = np.flatnonzero(pool.studies == study)
        rows.append(own[:: max(1, own.size // share)][:share])
    return pool.examples(np.concatenate(rows))


def at_risk(people: Sequence[Person]) -> Examples | None:
    """Windows of those who have lows to be foretold, with type 1 diabetes and a reading every five minutes, evenly over
    all of them; None where there is no such person."""
    chosen = [one for one in people if one.diabetes == "T1D" and one.step_minutes == STEP_MINUTES and one.ends.size]
    if not chosen:
        return None
    pool = Pool.of(chosen)
    return pool.examples(np.arange(0, len(pool), -(-len(pool) // LOW_WINDOWS)))


def calibrated_as_served(checkpoint: MlpCheckpoint, part: Examples, risky: Examples | None) -> Calibration:
    """For samples of the serving engine: the conformal step on `part`, where every study counts the same, and the step
    of the lows on `risky`, where every person does; without them there is none."""
    engine = MlpEngine(checkpoint, device="cpu", windows_a_product=BULK)
    answer = served(engine, part, SERVED_SAMPLES)
    calibration = fit_calibration(
        answer.samples_mgdl, answer.residual_sd_mgdl, part.future_mgdl, even_weight(part.data_set)
    )
    if risky is None:
        return calibration
    raw = dataclasses.replace(served(engine, risky, SERVED_SAMPLES), calibration=calibration)
    lines = fit_low_lines(chances_below(raw), risky.future_mgdl, even_weight(risky.person))
    return dataclasses.replace(calibration, lows=lines)


def chances_below(answer: Predictive) -> NDArray[np.float64]:
    """Conformal P(Y < threshold) at THRESHOLDS_MGDL (B, T, 12), before the step of the lows, in bounded memory."""
    return np.concatenate(
        [
            probability_below(
                answer.samples_mgdl[begin : begin + _BLOCK],
                answer.residual_sd_mgdl[begin : begin + _BLOCK],
                answer.calibration,
                THRESHOLDS_MGDL,
            )
            for begin in range(0, len(answer.samples_mgdl), _BLOCK)
        ]
    )


def claim(work: Path, settings: dict[str, Any]) -> None:
    """Makes `work` the folder of a run with these settings. ConfigurationError where it is another run's."""
    work.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=1, sort_keys=True)
    file = work / "settings.json"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ConfigurationError(f"{work} holds a run with other settings; remove it or name another --work directory")
    file.write_text(text, encoding="utf-8")


def _anchor(ridge: LagRidge, calibrate: Examples) -> LinearAnchor:
    answer = with_spread(ridge, calibrate)(calibrate)
    regression = Regression(ridge.weight.astype(np.float32), ridge.bias.astype(np.float32))
    return LinearAnchor(regression, np.ascontiguousarray(answer.residual_sd_mgdl[0]), answer.calibration)


def _provenance(
    settings: dict[str, Any], train: Sequence[Person], kept_back: Sequence[Person], windows: int, ridge: LagRidge
) -> dict[str, Any]:
    return {
        "command": "glucast train",
        "settings": {name: value for name, value in settings.items() if name != "readings"},
        "studies": sorted({one.study for one in train}),
        "windows": windows,
        "people": sorted(one.name for one in train),
        "kept_back": sorted(one.name for one in kept_back),
        "ridge_penalty": ridge.penalty,
        "not_for": "Not a medical device; not for treatment decisions.",
    }
