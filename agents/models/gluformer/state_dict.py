"""Reads a state dict of the reference network (`.pth`): tensors alone, with a configuration given beside it.

Such a file carries no scaler: the published weights are served with min-max scaling over the past 96 points of each
window, and the learned log-variance as the residual spread.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import warnings
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from agents.models.checkpoint_file import read_bounded
from agents.models.gluformer.checkpoint import Checkpoint, Scaler
from agents.models.gluformer.config import GluformerConfig
from schemas.errors import CheckpointError


def load_state_dict_checkpoint(path: Path, config_path: Path | None = None) -> Checkpoint:
    """`config_path`: JSON of GluformerConfig; the published sizes without one. CheckpointError says what is wrong.

    The file is unpickled with `weights_only=True`: anything but tensors in plain containers is refused, not run.
    """
    raw = read_bounded(path)
    config = GluformerConfig() if config_path is None else _config(config_path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about an unusual pickle protocol; what matters is refused
            state: Any = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, or none; it was not run: {_first_line(error)}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged or no PyTorch state dict: {_first_line(error)}") from error
    try:
        members = (_arrays(state),)
        return Checkpoint(
            config=config,
            members=members,
            scaler=Scaler("window"),
            residual_sd=np.ones((1, config.len_pred), dtype=np.float32),
            fingerprint=hashlib.sha256(raw + json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest(),
            log_variance=True,
            provenance={"source": path.name},
        )
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit its configuration: {error}") from error


def _arrays(state: Any) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError("it is no state dict: names with one tensor each")
    arrays = {str(name): value.detach().float().numpy() for name, value in state.items()}
    for name, value in arrays.items():
        if not np.all(np.isfinite(value)):
            raise ValueError(f"tensor {name} is not finite")
    return arrays


def _config(path: Path) -> GluformerConfig:
    try:
        document = json.loads(read_bounded(path))
        return GluformerConfig.from_dict(document)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"the configuration {path} is not valid: {error}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
