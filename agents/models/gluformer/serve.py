"""From what was chosen to what is served: a checkpoint of either kind of file, and the engine that runs it."""

from __future__ import annotations

from agents.core.forecaster import Forecaster
from agents.models.choice import Choice
from agents.models.gluformer.chosen import chosen_checkpoint
from agents.models.gluformer.ridge import ridge_of


def load(choice: Choice) -> Forecaster:
    """The engine of a checkpoint, or its regression alone where it holds no network. CheckpointError for a bad file."""
    model = chosen_checkpoint(choice)
    if not model.members:
        return ridge_of(model, choice.checkpoint)
    if choice.torch_threads is not None:
        import torch

        torch.set_num_threads(choice.torch_threads)
    from agents.models.gluformer.engine import GluformerEngine

    return GluformerEngine(
        model, device=choice.device, precision=choice.precision, copies_per_device=choice.num_copies_per_device
    )
