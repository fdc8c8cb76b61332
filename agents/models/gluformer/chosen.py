"""The checkpoint that was chosen, of either kind of file."""

from __future__ import annotations

from agents.models.checkpoint_file import checkpoint_path
from agents.models.choice import Choice
from agents.models.gluformer.checkpoint import Checkpoint, load_checkpoint


def chosen_checkpoint(choice: Choice) -> Checkpoint:
    """The checkpoint itself. CheckpointError where it is missing, damaged or of the wrong shape."""
    path = checkpoint_path(choice.checkpoint, choice.published)
    if path.suffix == ".safetensors":
        return load_checkpoint(path)
    from agents.models.gluformer.state_dict import load_state_dict_checkpoint

    return load_state_dict_checkpoint(path, choice.checkpoint_config)
