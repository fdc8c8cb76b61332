"""An MLP in one file (sealed_file.py), with a plain regression beside it to be compared with or served alone.

Tensors (float32; those of networks float16 where it holds them exactly):
    network.<name>     names and shapes of network.Mlp, behind an axis of the members where config has several
    feature.centre, feature.scale   (features.WIDTH,): standardised = (feature - centre) / scale, within FURTHEST
    step.scale         (12,) mg/dL: the unit of changes and scales at each step
    skip.weight        (12, 96), skip.bias (12,): a ridge regression of the level on the past; or neither
    trees.<name>       the arrays of agents.models.trees, some of them whole numbers; or none
Metadata:
    network       mlp
    config        MlpConfig
    calibration   agents.core.calibration.Calibration or null
    ridge_sd_mgdl (12,) spread of the truth around the regression, or null; ridge_calibration as calibration
    trees         only where there are trees: {"share": of the location that is theirs, "features_version"}
    provenance    where the weights come from; licence: SPDX expression
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agents.core.calibration import Calibration
from agents.models.checkpoint_file import read_bounded
from agents.models.mlp.config import MlpConfig
from agents.models.mlp.features import WIDTH
from agents.models.mlp.tree_features import TREE_FEATURES_VERSION, TREE_WIDTH
from agents.models.regression import Regression
from agents.models.sealed_file import opened, sealed, write_whole
from agents.models.trees import KINDS, NAMES, Trees
from schemas.grid import HORIZON_STEPS, PAST_POINTS

NETWORK = "mlp"
_WHOLE = {f"trees.{name}": kind for name, kind in KINDS.items()}

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LinearAnchor:
    """The regression, the spread of the truth around it (12,) mg/dL, and how that is calibrated."""

    regression: Regression
    residual_sd_mgdl: Array
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Beside:
    """Trees beside the network: a location is (1 - share) of the network's and `share` of theirs, 0 < share <= 1."""

    trees: Trees
    share: float

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"the trees' share must be above 0 and at most 1, not {self.share!r}")
        if self.trees.width != TREE_WIDTH:
            raise ValueError(f"trees must read {TREE_WIDTH} features, not {self.trees.width}")


@dataclass(frozen=True)
class MlpCheckpoint:
    """A loaded file; `fingerprint` is the SHA-256 of its bytes. See the module's text for the fields."""

    config: MlpConfig
    network: Mapping[str, Array]
    feature_centre: Array
    feature_scale: Array
    step_scale_mgdl: Array
    fingerprint: str = ""
    anchor: LinearAnchor | None = None
    beside: Beside | None = None
    calibration: Calibration | None = None
    provenance: Mapping[str, Any] | None = None
    licence: str = ""

    def __post_init__(self) -> None:
        wanted = expected_shapes(self.config)
        found = {name: tuple(value.shape) for name, value in self.network.items()}
        if found != wanted:
            odd = sorted(set(found.items()) ^ set(wanted.items()))[0]
            raise ValueError(f"tensor network.{odd[0]} is missing, unknown or of another shape than configured")
        for name, value, size in (
            ("feature.centre", self.feature_centre, WIDTH),
            ("feature.scale", self.feature_scale, WIDTH),
            ("step.scale", self.step_scale_mgdl, HORIZON_STEPS),
        ):
            if value.shape != (size,):
                raise ValueError(f"{name} must be ({size},), not {value.shape}")
        if np.any(self.feature_scale <= 0.0) or np.any(self.step_scale_mgdl <= 0.0):
            raise ValueError("feature.scale and step.scale must be positive")
        if self.anchor is not None:
            shapes = (self.anchor.regression.weight.shape, self.anchor.regression.bias.shape)
            if shapes != ((HORIZON_STEPS, PAST_POINTS), (HORIZON_STEPS,)):
                raise ValueError(f"skip.weight must be ({HORIZON_STEPS}, {PAST_POINTS}), skip.bias ({HORIZON_STEPS},)")
            if self.anchor.residual_sd_mgdl.shape != (HORIZON_STEPS,) or np.any(self.anchor.residual_sd_mgdl < 0.0):
                raise ValueError(f"ridge_sd_mgdl must be {HORIZON_STEPS} numbers, none negative")
        for calibration in (self.calibration, self.anchor.calibration if self.anchor else None):
            if calibration is not None and calibration.horizon != HORIZON_STEPS:
                raise ValueError(f"calibration is for {calibration.horizon} steps, not {HORIZON_STEPS}")


def expected_shapes(config: MlpConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the networks. No torch is imported here."""
    width = config.width
    layers = {"first": (width, WIDTH), "head": (2 * HORIZON_STEPS, width)}
    layers |= {f"blocks.{place}": (width, width) for place in range(config.blocks)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, weight in layers.items():
        shapes |= {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
    for place in range(config.blocks):
        shapes |= {f"norms.{place}.{part}": (width,) for part in ("weight", "bias")}
    return shapes if config.members == 1 else {name: (config.members, *shape) for name, shape in shapes.items()}


def save_mlp(path: Path, checkpoint: MlpCheckpoint) -> str:
    """Writes the file in one step and returns its fingerprint. CheckpointError when the parts do not fit."""
    tensors: dict[str, NDArray[Any]] = {f"network.{name}": _shortest(v) for name, v in checkpoint.network.items()}
    tensors["feature.centre"] = _single(checkpoint.feature_centre)
    tensors["feature.scale"] = _single(checkpoint.feature_scale)
    tensors["step.scale"] = _single(checkpoint.step_scale_mgdl)
    anchor = checkpoint.anchor
    if anchor is not None:
        tensors["skip.weight"], tensors["skip.bias"] = (
            _single(anchor.regression.weight),
            _single(anchor.regression.bias),
        )
    document: dict[str, Any] = {
        "network": NETWORK,
        "config": checkpoint.config.to_dict(),
        "calibration": _document(checkpoint.calibration),
        "ridge_sd_mgdl": anchor.residual_sd_mgdl.astype(np.float64).tolist() if anchor else None,
        "ridge_calibration": _document(anchor.calibration) if anchor else None,
        "provenance": dict(checkpoint.provenance or {}),
        "licence": checkpoint.licence,
    }
    if (beside := checkpoint.beside) is not None:
        tensors |= {f"trees.{name}": value for name, value in beside.trees.tensors().items()}
        document["trees"] = {"share": beside.share, "features_version": TREE_FEATURES_VERSION}
    raw = sealed(document, tensors)
    opened(raw, str(path), NETWORK, _assemble, _WHOLE)
    return write_whole(path, raw)


def load_mlp(path: Path) -> MlpCheckpoint:
    """Reads and verifies a file. CheckpointError says what is wrong with it."""
    return opened(read_bounded(path), str(path), NETWORK, _assemble, _WHOLE)


def _single(value: ArrayLike) -> Array:
    return np.ascontiguousarray(np.asarray(value, dtype=np.float32))


def _shortest(value: ArrayLike) -> NDArray[Any]:
    """In half precision, where that holds every number exactly."""
    single = _single(value)
    half = single.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), single) else single


def _document(calibration: Calibration | None) -> Any:
    return None if calibration is None else json.loads(calibration.to_json())


def _calibration(document: Any) -> Calibration | None:
    return None if document is None else Calibration.from_json(document)


def _beside(document: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Beside | None:
    """Takes the trees' tensors out of `tensors`; None where the file holds no trees."""
    if "trees" not in document:
        return None
    said = document["trees"]
    if said["features_version"] != TREE_FEATURES_VERSION:
        raise ValueError(
            f"its trees read features of version {said['features_version']}, this is {TREE_FEATURES_VERSION}"
        )
    arrays = {name: tensors.pop(f"trees.{name}") for name in NAMES}
    return Beside(Trees(width=TREE_WIDTH, **arrays), float(said["share"]))


def _assemble(document: dict[str, Any], tensors: dict[str, NDArray[Any]], fingerprint: str) -> MlpCheckpoint:
    network = {
        name.removeprefix("network."): tensors.pop(name) for name in sorted(tensors) if name.startswith("network.")
    }
    anchor = None
    if "skip.weight" in tensors:
        anchor = LinearAnchor(
            Regression(tensors.pop("skip.weight"), tensors.pop("skip.bias")),
            _single(document["ridge_sd_mgdl"]),
            _calibration(document["ridge_calibration"]),
        )
    made = MlpCheckpoint(
        config=MlpConfig(**document["config"]),
        network=network,
        feature_centre=tensors.pop("feature.centre"),
        feature_scale=tensors.pop("feature.scale"),
        step_scale_mgdl=tensors.pop("step.scale"),
        fingerprint=fingerprint,
        anchor=anchor,
        beside=_beside(document, tensors),
        calibration=_calibration(document["calibration"]),
        provenance=document["provenance"],
        licence=str(document["licence"]),
    )
    if tensors:
        raise ValueError(f"unexpected tensor {min(tensors)}")
    return made
