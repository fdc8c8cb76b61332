"""A Gluformer in one file (sealed_file.py), whose metadata says everything that serving needs.

Tensors (float32 or float16):
    member.<i>.<name>   the networks of an ensemble, i = 0.., names and shapes of network.Gluformer; tables of positions
                        and counters of batches are left out, they follow from the configuration
    skip.weight         (12, 96) or (12, 106), skip.bias (12,): a regression of the level on the past, or on it and
                        its bends (regression.py), mg/dL in and out
Metadata:
    config        GluformerConfig
    scaler        {"kind": "fixed", "mean_mgdl": m, "scale_mgdl": s}: scaled = (mgdl - m) / s
                  {"kind": "window"}: min-max over the past 96 points alone
    residual      true: level = skip + scale * network; false: level = offset + scale * network
    residual_sd   (members, 12), scaled units: spread of the truth around each member's mean
    log_variance  true: that spread times exp(log-variance of the network / 2), one value a window
    calibration   agents.core.calibration.Calibration or null
    provenance    where the weights come from; licence: SPDX name

Draws are dealt to the members in turn: sample s belongs to member s mod members. No torch is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.core.calibration import Calibration
from agents.models.checkpoint_file import read_bounded
from agents.models.gluformer.config import GluformerConfig
from agents.models.regression import WIDTHS, Regression
from agents.models.sealed_file import opened, sealed, write_whole

_DERIVED = ("pos_emb", "num_batches_tracked")

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Scaler:
    """Between mg/dL and the network's units; `window` ignores the two numbers."""

    kind: Literal["fixed", "window"]
    mean_mgdl: float = 0.0
    scale_mgdl: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("fixed", "window"):
            raise ValueError(f"scaler kind must be fixed or window, not {self.kind!r}")
        if not (np.isfinite(self.mean_mgdl) and 0.0 < self.scale_mgdl < np.inf):
            raise ValueError("scaler numbers must be finite and the scale positive")

    def fitted(self, past_mgdl: Array) -> tuple[Array, Array]:
        """Offset and scale (B, 1) in mg/dL for windows (B, 96). A flat window is scaled by 1 mg/dL."""
        if self.kind == "window":
            low = past_mgdl.min(axis=1, keepdims=True)
            return low, np.maximum(past_mgdl.max(axis=1, keepdims=True) - low, np.float32(1.0))
        column = np.ones((past_mgdl.shape[0], 1), dtype=np.float32)
        return column * np.float32(self.mean_mgdl), column * np.float32(self.scale_mgdl)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded file; `fingerprint` is the SHA-256 of its bytes. See the module's text for the fields."""

    config: GluformerConfig
    members: tuple[Mapping[str, Array], ...]
    scaler: Scaler
    residual_sd: Array
    fingerprint: str
    regression: Regression | None = None
    residual: bool = False
    log_variance: bool = False
    calibration: Calibration | None = None
    provenance: Mapping[str, Any] | None = None
    licence: str = ""

    def __post_init__(self) -> None:
        config = self.config
        if (config.len_seq, config.len_pred) != (96, 12) or config.num_dynamic_features > 6:
            raise ValueError("windows are 96 steps of past and 12 to come with 6 marks; its configuration needs others")
        if not self.members and self.regression is None:
            raise ValueError("it holds neither a network nor a regression")
        if self.residual and self.regression is None:
            raise ValueError("its network predicts a residual, but there is no regression to add it to")
        steps = (max(1, len(self.members)), self.config.len_pred)
        if self.residual_sd.shape != steps:
            raise ValueError(f"residual_sd must be {steps}, not {self.residual_sd.shape}")
        if not np.all(np.isfinite(self.residual_sd)) or np.any(self.residual_sd < 0.0):
            raise ValueError("residual_sd must be finite and not negative")
        if self.regression is not None:
            wanted = [(self.config.len_pred, width) for width in WIDTHS]
            if self.regression.weight.shape not in wanted or self.regression.bias.shape != (self.config.len_pred,):
                raise ValueError(f"skip.weight must be {wanted[0]} or {wanted[1]}, skip.bias {wanted[0][:1]}")
        if self.calibration is not None and self.calibration.horizon != self.config.len_pred:
            raise ValueError(f"calibration is for {self.calibration.horizon} steps, not {self.config.len_pred}")
        for member in self.members:
            check_shapes(self.config, member)


def save_checkpoint(
    path: Path,
    *,
    config: GluformerConfig,
    members: Sequence[Mapping[str, Any]],
    scaler: Scaler,
    residual_sd: ArrayLike,
    regression: Regression | None = None,
    residual: bool = False,
    log_variance: bool = False,
    calibration: Calibration | None = None,
    provenance: Mapping[str, Any],
    licence: str,
    half: bool = False,
) -> str:
    """Writes the file in one step and returns its fingerprint.

    `members`: state dicts (torch or numpy) of the network; `residual_sd` (12,) or (members, 12), scaled units; `half`
    stores float16. CheckpointError when the parts do not fit.
    """
    kind = np.float16 if half else np.float32
    tensors: dict[str, NDArray[Any]] = {}
    for place, member in enumerate(members):
        for name, value in member.items():
            if not name.endswith(_DERIVED):
                tensors[f"member.{place}.{name}"] = np.ascontiguousarray(np.asarray(value, dtype=kind))
    if regression is not None:
        tensors["skip.weight"] = np.ascontiguousarray(regression.weight, dtype=np.float32)
        tensors["skip.bias"] = np.ascontiguousarray(regression.bias, dtype=np.float32)
    spread = np.broadcast_to(np.asarray(residual_sd, dtype=np.float64), (max(1, len(members)), config.len_pred))
    document: dict[str, Any] = {
        "config": config.to_dict(),
        "members": len(members),
        "scaler": asdict(scaler),
        "residual": residual,
        "residual_sd": spread.tolist(),
        "log_variance": log_variance,
        "calibration": None if calibration is None else json.loads(calibration.to_json()),
        "provenance": dict(provenance),
        "licence": licence,
    }
    raw = sealed(document, tensors)
    opened(raw, str(path), "gluformer", _assemble)
    return write_whole(path, raw)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies a `.safetensors` checkpoint. CheckpointError says what is wrong with the file."""
    return opened(read_bounded(path), str(path), "gluformer", _assemble)


def _assemble(document: dict[str, Any], single: dict[str, Array], fingerprint: str) -> Checkpoint:
    count = document["members"]
    if type(count) is not int or not 0 <= count <= 64:
        raise ValueError(f"members must be within 0..64, not {count!r}")
    members: list[dict[str, Array]] = [{} for _ in range(count)]
    regression = Regression(single.pop("skip.weight"), single.pop("skip.bias")) if "skip.weight" in single else None
    for name, value in single.items():
        kind, place, rest = name.split(".", 2)
        if kind != "member" or not 0 <= int(place) < count:
            raise ValueError(f"unexpected tensor {name}")
        members[int(place)][rest] = value
    calibration = document["calibration"]
    return Checkpoint(
        config=GluformerConfig.from_dict(document["config"]),
        members=tuple(members),
        scaler=Scaler(**document["scaler"]),
        residual_sd=np.asarray(document["residual_sd"], dtype=np.float32),
        fingerprint=fingerprint,
        regression=regression,
        residual=bool(document["residual"]),
        log_variance=bool(document["log_variance"]),
        calibration=None if calibration is None else Calibration.from_json(calibration),
        provenance=document["provenance"],
        licence=str(document["licence"]),
    )


def check_shapes(config: GluformerConfig, state: Mapping[str, Array]) -> None:
    """ValueError naming the first tensor that is missing, unknown or of another shape than `config` gives it."""
    wanted = expected_shapes(config)
    needed = {name for name in wanted if not name.endswith(_DERIVED)}
    missing, unknown = sorted(needed - set(state)), sorted(set(state) - set(wanted))
    if missing or unknown:
        parts = [f"{len(missing)} tensors are missing, first {missing[0]}"] if missing else []
        parts += [f"{len(unknown)} tensors are unknown, first {unknown[0]}"] if unknown else []
        raise ValueError("; ".join(parts))
    for name, value in state.items():
        if tuple(value.shape) != wanted[name]:
            raise ValueError(f"tensor {name} has shape {tuple(value.shape)}, its configuration needs {wanted[name]}")


def expected_shapes(config: GluformerConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in the published state dict of a network of this shape."""
    d, f, inner = config.d_model, config.d_fcn, config.n_heads * config.head_size
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = weight[:1]

    def attention(name: str) -> None:
        for part in "qkv":
            layer(f"{name}.proj_{part}", inner, d)
        layer(f"{name}.proj_out", d, inner)

    def block(name: str, attentions: Sequence[str]) -> None:
        for part in attentions:
            attention(f"{name}.{part}")
        layer(f"{name}.conv1", f, d, 1)
        layer(f"{name}.conv2", d, f, 1)
        for norm in range(len(attentions) + 1):
            layer(f"{name}.norm{norm + 1}", d)

    for side in ("enc_embedding", "dec_embedding"):
        layer(f"{side}.value_embedding.conv", d, 1, 3)
        layer(f"{side}.time_embedding.embed", d, config.num_dynamic_features)
        shapes[f"{side}.positional_embedding.pos_emb"] = (1, 5000, d)
        layer(f"{side}.subject_embedding.id_embedding", d, config.num_static_features)
    for place in range(config.num_enc_layers):
        block(f"encoder.enc_layers.{place}", ("att",))
    for place in range(config.num_enc_layers - 1 if config.distil else 0):
        layer(f"encoder.conv_layers.{place}.downConv", d, d, 3)
        layer(f"encoder.conv_layers.{place}.norm", d)
        shapes[f"encoder.conv_layers.{place}.norm.running_mean"] = (d,)
        shapes[f"encoder.conv_layers.{place}.norm.running_var"] = (d,)
        shapes[f"encoder.conv_layers.{place}.norm.num_batches_tracked"] = ()
    for place in range(config.num_dec_layers):
        block(f"decoder.layers.{place}", ("self_att", "cross_att"))
    layer("encoder.norm", d)
    layer("decoder.norm", d)
    layer("projection", 1, d)
    layer("var.proj1", 1, d)
    layer("var.proj2", 1, config.len_seq + 1)
    return shapes
