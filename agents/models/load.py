"""Chooses and loads the forecaster that the settings name. Heavy libraries are imported when their model is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from agents.core.forecaster import Forecaster
from agents.models.gluformer.checkpoint import Checkpoint, load_checkpoint
from agents.models.gluformer.checkpoint_file import checkpoint_path
from agents.models.gluformer.published import Published
from schemas.errors import CheckpointError, ConfigurationError

Kind = Literal["gluformer", "persistence", "ridge", "darts"]


def load_forecaster(
    kind: Kind = "gluformer",
    *,
    checkpoint: str | Path = "bundled",
    checkpoint_config: Path | None = None,
    published: Published | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    num_copies_per_device: int = 1,
    torch_threads: int | None = None,
) -> Forecaster:
    """The forecaster `kind`, ready for `warm_up`.

    `checkpoint`: "bundled", "huggingface" (then `published` says which file) or a path: .safetensors; .pth with the
    JSON configuration `checkpoint_config` beside it; for darts a model saved by Darts. CheckpointError for a file that
    cannot be served, ConfigurationError for a choice that cannot work.
    """
    if kind == "persistence":
        from agents.models.simple import Persistence

        return Persistence()
    if kind == "darts":
        from agents.models.darts_model import DartsForecaster

        return DartsForecaster(Path(checkpoint))
    model = _checkpoint(checkpoint, checkpoint_config, published)
    if kind == "ridge" or not model.members:
        from agents.models.simple import RidgeForecaster

        if model.skip is None:
            raise CheckpointError(f"the checkpoint {checkpoint} holds no ridge regression; use the bundled one")
        return RidgeForecaster(model)
    if kind != "gluformer":
        raise ConfigurationError(f"forecaster {kind!r} is unknown: use gluformer, persistence, ridge or darts")
    if torch_threads is not None:
        import torch

        torch.set_num_threads(torch_threads)
    from agents.models.gluformer.engine import GluformerEngine

    return GluformerEngine(model, device=device, precision=precision, copies_per_device=num_copies_per_device)


def _checkpoint(checkpoint: str | Path, config: Path | None, published: Published | None) -> Checkpoint:
    path = checkpoint_path(checkpoint, published)
    if path.suffix == ".safetensors":
        return load_checkpoint(path)
    from agents.models.gluformer.state_dict import load_state_dict_checkpoint

    return load_state_dict_checkpoint(path, config)


def settings_arguments(settings: Any) -> dict[str, Any]:
    """Keyword arguments of `load_forecaster` from streams.settings.Settings."""
    published = None
    if settings.checkpoint == "huggingface":
        published = Published(
            repository=settings.huggingface_repository,
            file=settings.huggingface_file,
            revision=settings.huggingface_revision,
            sha256=settings.huggingface_sha256,
        )
    return {
        "kind": settings.forecaster,
        "checkpoint": settings.checkpoint,
        "checkpoint_config": settings.checkpoint_config,
        "published": published,
        "device": settings.device,
        "precision": settings.precision,
        "num_copies_per_device": settings.num_copies_per_device,
        "torch_threads": settings.torch_threads,
    }
