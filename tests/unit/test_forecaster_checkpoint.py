"""Checkpoints: what is written is read; anything else is refused with a reason and without running it."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.core.calibration import Calibration
from agents.models.checkpoint_file import checkpoint_fingerprint
from agents.models.choice import Choice
from agents.models.gluformer.checkpoint import Checkpoint, Scaler, load_checkpoint, save_checkpoint
from agents.models.gluformer.config import GluformerConfig
from agents.models.gluformer.network import Gluformer
from agents.models.gluformer.state_dict import load_state_dict_checkpoint
from agents.models.load import load_forecaster
from agents.models.regression import Regression
from schemas.errors import CheckpointError

TINY = GluformerConfig(d_model=16, n_heads=2, d_fcn=24)
SKIP = Regression(np.full((12, 96), 0.01, dtype=np.float32), np.arange(12, dtype=np.float32))


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Gluformer(TINY).state_dict()


def save(path: Path, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "config": TINY,
        "members": [state(), state()],
        "scaler": Scaler("fixed", 120.0, 40.0),
        "residual_sd": np.linspace(0.1, 0.5, 12),
        "regression": SKIP,
        "residual": True,
        "log_variance": True,
        "calibration": Calibration.identity(),
        "provenance": {"recordings": ["a"]},
        "licence": "MIT",
    }
    return save_checkpoint(path, **(fields | changes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "model.safetensors"
    save(made)
    return made


def header_of(raw: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def with_header(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def test_round_trip(path: Path) -> None:
    loaded = load_checkpoint(path)
    assert (loaded.config, loaded.scaler, loaded.licence) == (TINY, Scaler("fixed", 120.0, 40.0), "MIT")
    assert loaded.calibration == Calibration.identity()
    assert loaded.provenance == {"recordings": ["a"]}
    assert loaded.residual
    assert loaded.log_variance
    assert loaded.residual_sd.shape == (2, 12)
    assert loaded.regression is not None
    assert np.array_equal(loaded.regression.weight, SKIP.weight)
    for member in loaded.members:
        for name, value in member.items():
            assert np.array_equal(value, state()[name].numpy())
    assert not any("pos_emb" in name for name in loaded.members[0])


def test_fingerprint_is_that_of_the_file_and_moves_with_it(path: Path, tmp_path: Path) -> None:
    first = checkpoint_fingerprint(path)
    assert load_checkpoint(path).fingerprint == first == save(tmp_path / "again.safetensors")
    assert save(tmp_path / "other.safetensors", scaler=Scaler("fixed", 121.0, 40.0)) != first


def test_half_precision_storage_is_half_as_large(path: Path, tmp_path: Path) -> None:
    save(tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.75 * path.stat().st_size
    loaded = load_checkpoint(tmp_path / "half.safetensors").members[0]
    np.testing.assert_allclose(loaded["projection.weight"], state()["projection.weight"].numpy(), rtol=1e-3)


def test_a_ridge_alone_is_a_checkpoint(tmp_path: Path) -> None:
    made = tmp_path / "ridge.safetensors"
    save(made, members=[], residual=False)
    forecaster = load_forecaster(choice=Choice(checkpoint=made))
    assert forecaster.name == "ridge"
    assert forecaster.calibration == Calibration.identity()


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.999])
def test_one_changed_byte_anywhere_is_noticed(path: Path, place: float) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 0x40
    path.write_bytes(bytes(raw))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(path)


def test_changed_metadata_under_the_old_checksum_is_noticed(path: Path) -> None:
    header, body = header_of(path.read_bytes())
    document = json.loads(header["__metadata__"]["glucast"])
    document["scaler"]["mean_mgdl"] = 60.0
    header["__metadata__"]["glucast"] = json.dumps(document)
    path.write_bytes(with_header(header, body))
    with pytest.raises(CheckpointError, match="checksum does not match"):
        load_checkpoint(path)


@pytest.mark.parametrize("keep", [0, 4, 8, 500, 20_000, -1])
def test_truncated(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"truncated|not a"):
        load_checkpoint(path)


def test_a_header_longer_than_the_file_is_refused(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(path)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "none.safetensors")
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, dtype=np.float32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="only files written by glucast"):
        load_checkpoint(tmp_path / "foreign.safetensors")


def test_another_format_version_is_named(path: Path) -> None:
    header, body = header_of(path.read_bytes())
    document = json.loads(header["__metadata__"]["glucast"]) | {"format": 2}
    header["__metadata__"]["glucast"] = json.dumps(document)
    path.write_bytes(with_header(header, body))
    with pytest.raises(CheckpointError, match="format 2; this version reads 1"):
        load_checkpoint(path)


def wrong_shape() -> dict[str, torch.Tensor]:
    return state() | {"projection.weight": torch.zeros(1, 17)}


def missing() -> dict[str, torch.Tensor]:
    return {name: value for name, value in state().items() if name != "var.proj1.bias"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"members": [wrong_shape()]}, r"projection\.weight has shape \(1, 17\)"),
        ({"members": [missing()]}, r"1 tensors are missing, first var\.proj1\.bias"),
        ({"members": [state() | {"extra": torch.zeros(1)}]}, "1 tensors are unknown, first extra"),
        ({"members": [state() | {"projection.bias": torch.tensor([torch.nan])}]}, "finite"),
        ({"config": GluformerConfig(d_model=16, n_heads=2, d_fcn=24, len_seq=48)}, "windows are 96 steps"),
        ({"members": [], "regression": None, "residual": False}, "neither a network nor a regression"),
        ({"regression": None}, "no regression to add it to"),
        ({"residual_sd": -np.ones(12)}, "residual_sd must be finite and not negative"),
        ({"regression": Regression(SKIP.weight[:, :95], SKIP.bias)}, r"skip\.weight must be \(12, 96\) or"),
        ({"calibration": Calibration.identity(6)}, "calibration is for 6 steps"),
    ],
)
def test_parts_that_do_not_fit_are_never_written(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        save(tmp_path / "bad.safetensors", **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "fields",
    [
        {"d_model": 0},
        {"d_model": 15},
        {"n_heads": 99},
        {"r_drop": 1.0},
        {"activ": "tanh"},
        {"label_len": 97},
        {"d_fcn": True},
    ],
)
def test_impossible_shapes_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        GluformerConfig(**fields)
    with pytest.raises(ValueError, match="unknown configuration fields: depth"):
        GluformerConfig.from_dict({"depth": 3})


class Malicious:
    """Pickles to a call that leaves a file behind when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, suffix: str, writer: str) -> None:
    trace, path = tmp_path / "executed", tmp_path / f"evil{suffix}"
    evil = dict(state()) | {"projection.bias": Malicious(trace)}
    if writer == "torch":
        torch.save(evil, path)
    else:
        path.write_bytes(pickle.dumps({"x": Malicious(trace)}))
    with pytest.raises(CheckpointError, match=r"not run|damaged|not a"):
        load_forecaster(choice=Choice(checkpoint=path))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))  # noqa: S301 (the same pickle does act where it is loaded carelessly)
    assert trace.exists()


def write_state_dict(tmp_path: Path, content: object = None) -> tuple[Path, Path]:
    path, config = tmp_path / "weights.pth", tmp_path / "config.json"
    torch.save(state() if content is None else content, path)
    config.write_text(json.dumps(TINY.to_dict()))
    return path, config


def test_a_state_dict_loads_by_name_with_its_configuration(tmp_path: Path) -> None:
    path, config = write_state_dict(tmp_path)
    loaded = load_state_dict_checkpoint(path, config)
    assert isinstance(loaded, Checkpoint)
    assert loaded.scaler.kind == "window"
    assert loaded.log_variance
    assert loaded.members[0].keys() == state().keys()
    assert load_forecaster(choice=Choice(checkpoint=path, checkpoint_config=config, device="cpu")).name == "gluformer"


def test_state_dicts_that_do_not_fit(tmp_path: Path) -> None:
    path, config = write_state_dict(tmp_path)
    with pytest.raises(CheckpointError, match="does not fit its configuration"):
        load_state_dict_checkpoint(path)
    config.write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not valid"):
        load_state_dict_checkpoint(path, config)
    path, config = write_state_dict(tmp_path, [1, 2])
    with pytest.raises(CheckpointError, match="no state dict"):
        load_state_dict_checkpoint(path, config)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="damaged"):
        load_state_dict_checkpoint(path, config)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"damaged|more than tensors, or none"):
        load_state_dict_checkpoint(path, config)
