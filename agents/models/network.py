"""The network that a checkpoint declares, behind the engine that serves its kind."""

from __future__ import annotations

from agents.core.forecaster import Forecaster
from agents.models.checkpoint_file import checkpoint_path
from agents.models.choice import Choice
from agents.models.sealed_file import DEFAULT_NETWORK, declared_network
from schemas.errors import CheckpointError


def load(choice: Choice) -> Forecaster:
    """CheckpointError for a bad file or a kind of network that this version does not know."""
    path = checkpoint_path(choice.checkpoint, choice.published)
    kind = declared_network(path) if path.suffix == ".safetensors" else DEFAULT_NETWORK
    if kind == "mlp":
        return _mlp(choice)
    if kind == "gluformer":
        return _gluformer(choice)
    raise CheckpointError(f"{path} holds a network of kind {kind!r}; this version knows gluformer and mlp")


def _mlp(choice: Choice) -> Forecaster:
    from agents.models.mlp.checkpoint import load_mlp
    from agents.models.mlp.engine import MlpEngine

    made = load_mlp(checkpoint_path(choice.checkpoint, choice.published))
    _set_threads(choice)
    return MlpEngine(made, device=choice.device, copies_per_device=choice.num_copies_per_device)


def _gluformer(choice: Choice) -> Forecaster:
    """The engine of a checkpoint, or its regression alone where it holds no network."""
    from agents.models.gluformer.chosen import chosen_checkpoint
    from agents.models.ridge import ridge_of_gluformer

    made = chosen_checkpoint(choice)
    if not made.members and (regression := ridge_of_gluformer(made)) is not None:
        return regression
    from agents.models.gluformer.engine import GluformerEngine

    _set_threads(choice)
    return GluformerEngine(
        made, device=choice.device, precision=choice.precision, copies_per_device=choice.num_copies_per_device
    )


def _set_threads(choice: Choice) -> None:
    if choice.torch_threads is not None:
        import torch

        torch.set_num_threads(choice.torch_threads)
