"""Trees beside the network: what they read, their part of the file, and how they are served."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from agents.core.forecaster import Windows
from agents.models.mlp.checkpoint import Beside, MlpCheckpoint, load_mlp, save_mlp
from agents.models.mlp.engine import MlpEngine
from agents.models.mlp.features import WIDTH
from agents.models.mlp.tree_features import (
    ALIKE_WIDTH,
    HABIT_WIDTH,
    OLDER_WIDTH,
    SPREAD_WIDTH,
    TREE_WIDTH,
    tree_features,
)
from agents.models.sealed_file import sealed
from agents.models.trees import UNIT_MGDL, Trees
from schemas.errors import CheckpointError
from schemas.grid import PAST_HOURS
from tests.unit.test_forecaster_mlp import checkpoint, part, seeds, windows

HABITS = WIDTH + OLDER_WIDTH
SPREADS = HABITS + HABIT_WIDTH
ALIKE = SPREADS + SPREAD_WIDTH
SHAPE = ALIKE + ALIKE_WIDTH


def stumps(column: int, threshold: float) -> Trees:
    """One split a step: 1 h mg/dL up where the column is at most the threshold, as much down where it is above."""
    up = np.arange(1, 13) / UNIT_MGDL
    return Trees(
        width=TREE_WIDTH,
        splits=np.ones(12, np.int16),
        feature=np.full(12, column, np.int16),
        threshold=np.full(12, threshold, np.float32),
        left=np.full(12, -1, np.int16),
        right=np.full(12, -2, np.int16),
        leaf=np.stack([up, -up], axis=1).reshape(-1).astype(np.int16),
    )


def with_trees(share: float = 0.25, **changes: Any) -> MlpCheckpoint:
    return checkpoint(beside=Beside(stumps(95, 150.0), share), **changes)  # column 95: the last point


def sampled(made: MlpCheckpoint, whole: Windows, **options: Any) -> np.ndarray:
    return MlpEngine(made, device="cpu", **options).sample(whole, seeds(len(whole)), 5).samples_mgdl


def line(slope: float, hours: np.ndarray) -> Windows:
    past = (150.0 + slope * np.arange(-95, 1)).astype(np.float32)[None]
    return Windows(past, np.array(["2026-02-28T22:00:00"], "datetime64[s]"), hours.astype(np.float32)[None])


def test_features_of_trees_are_of_the_row_alone_and_finite_whatever_is_known() -> None:
    whole = windows(64)
    read = tree_features(whole)
    assert read.shape == (64, TREE_WIDTH)
    assert read.dtype == np.float32
    assert np.isfinite(read).all()
    for row in range(64):
        assert np.array_equal(tree_features(part(whole, row))[0], read[row])
    nothing = tree_features(replace(whole, hours_mgdl=None))
    assert not nothing[:, WIDTH:SHAPE].any()
    assert np.array_equal(nothing[:, SHAPE:], read[:, SHAPE:])


def test_features_of_trees_say_what_they_are_called() -> None:
    hours = np.full(PAST_HOURS, 100.0)
    hours[-16::-24] = [110.0, 120.0, 130.0, 140.0, 150.0, 160.0, 170.0]  # the hour that comes next, newest day first
    read = tree_features(line(0.5, hours))[0]
    assert read[HABITS : HABITS + 7].tolist() == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]
    assert read[HABITS + 7 : HABITS + 17].tolist() == [-40.0, -30.0, -20.0, -10.0, 0.0, 10.0, 20.0, -10.0, -20.0, -30.0]
    assert read[HABITS + 17 : SPREADS].tolist() == [40.0, 20.0, 10.0, 70.0, -40.0]
    assert read[ALIKE - 2] == pytest.approx(100.0 + 280.0 / 168)
    assert read[SHAPE : SHAPE + 7].tolist() == pytest.approx([0.5] * 7, abs=1e-3)
    slope, bend, offset = read[SHAPE + 7 : SHAPE + 10]
    assert (slope, bend, offset) == pytest.approx((0.5, 0.0, 0.0), abs=1e-3)


def test_hours_that_were_as_the_last_say_what_followed() -> None:
    hours = np.full(PAST_HOURS, 300.0)
    hours[20::10], hours[21::10], hours[22::10] = (
        141.25,
        147.25,
        190.0,
    )  # as the last two hours of the line, then a rise
    unlike = np.full(PAST_HOURS, 300.0)
    followed, weight = tree_features(line(0.5, hours))[0, ALIKE : ALIKE + 2]
    assert weight == pytest.approx(15.0, abs=1.0)
    assert followed == pytest.approx(42.75, abs=4.0)
    assert np.abs(tree_features(line(0.5, unlike))[0, ALIKE : ALIKE + 2]).max() < 1e-3


def test_every_draw_is_drawn_to_the_trees_by_their_share() -> None:
    whole = windows(40)
    last = whole.past_mgdl[:, -1:]
    assert 0 < (last <= 150.0).sum() < 40
    theirs = np.where(last <= 150.0, 1.0, -1.0) * np.arange(1, 13)
    alone, made = sampled(checkpoint(), whole), with_trees(0.25)
    wanted = last[:, None] + 0.75 * (alone - last[:, None]) + 0.25 * theirs[:, None]
    np.testing.assert_allclose(sampled(made, whole), wanted, atol=1e-3)
    spread = MlpEngine(made, device="cpu").sample(whole, seeds(40), 5).residual_sd_mgdl
    assert np.array_equal(spread, MlpEngine(checkpoint(), device="cpu").sample(whole, seeds(40), 5).residual_sd_mgdl)
    only = sampled(with_trees(1.0), whole)
    np.testing.assert_allclose(only, np.repeat((last + theirs)[:, None], 5, axis=1), atol=1e-3)


def test_with_trees_too_bits_do_not_depend_on_batch_mates() -> None:
    whole, made = windows(64), with_trees()
    assert np.array_equal(sampled(made, part(whole, 0))[0], sampled(made, whole)[0])
    bulk = sampled(made, whole, windows_a_product=8)
    assert np.array_equal(sampled(made, part(whole, *range(5)), windows_a_product=8), bulk[:5])


def test_a_file_with_trees_comes_back_and_is_another_model(tmp_path: Path) -> None:
    path, plain = tmp_path / "trees.safetensors", tmp_path / "plain.safetensors"
    made = with_trees(0.375)
    assert save_mlp(path, made) != save_mlp(plain, checkpoint())
    loaded = load_mlp(path)
    assert loaded.beside is not None
    assert loaded.beside.share == 0.375
    for name, value in loaded.beside.trees.tensors().items():
        assert value.dtype == made.beside.trees.tensors()[name].dtype
        assert np.array_equal(value, made.beside.trees.tensors()[name])
    assert np.array_equal(sampled(loaded, windows(3)), sampled(made, windows(3)))
    assert MlpEngine(loaded).fingerprint != MlpEngine(load_mlp(plain)).fingerprint
    assert load_mlp(plain).beside is None
    assert b"trees" not in plain.read_bytes()


def test_trees_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    trees = stumps(95, 150.0)
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share must be"):
            Beside(trees, share)
    with pytest.raises(ValueError, match="trees must read"):
        Beside(replace(trees, width=TREE_WIDTH + 1), 0.5)
    with pytest.raises(ValueError, match=r"trees.leaf must be int16"):
        replace(trees, leaf=trees.leaf.astype(np.int64))


@pytest.mark.parametrize(
    ("tensor", "value", "words"),
    [
        ("trees.left", np.full(12, 0, np.int16), "leads out of its tree"),
        ("trees.feature", np.full(12, TREE_WIDTH, np.int16), "must lie within"),
        ("trees.leaf", np.zeros(23, np.int16), "must be"),
        ("trees.leaf", np.zeros(24, np.float32), "must be int16"),
        ("trees.threshold", np.full(12, np.nan, np.float32), "finite"),
        ("network.head.bias", np.zeros(24, np.int16), "must be float32 or float16"),
        ("trees.more", np.zeros(1, np.float32), "unexpected tensor trees.more"),
        ("trees.splits", None, "trees.splits"),
    ],
)
def test_a_file_with_a_damaged_tree_is_refused(tmp_path: Path, tensor: str, value: Any, words: str) -> None:
    """The checksum is right here: somebody made the file so."""
    path = tmp_path / "m.safetensors"
    save_mlp(path, with_trees())
    path.write_bytes(changed(path.read_bytes(), tensor, value))
    with pytest.raises(CheckpointError, match=words):
        load_mlp(path)


def test_features_of_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_mlp(path, with_trees())
    path.write_bytes(changed(path.read_bytes(), "", None, {"share": 0.5, "features_version": 99}))
    with pytest.raises(CheckpointError, match="features of version 99"):
        load_mlp(path)


def test_a_file_from_before_there_were_several_networks_loads(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_mlp(path, made := checkpoint())
    raw = path.read_bytes()
    document = json.loads(json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]["glucast"])
    del document["checksum"], document["config"]["members"]
    path.write_bytes(sealed(document, load(raw)))
    assert load_mlp(path).config == made.config
    assert np.array_equal(sampled(load_mlp(path), windows(2)), sampled(made, windows(2)))


def changed(raw: bytes, tensor: str, value: Any, said: dict[str, Any] | None = None) -> bytes:
    """The same file with another tensor, or without it where the value is None, and another word of its trees."""
    head = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    document = json.loads(head["__metadata__"]["glucast"])
    del document["checksum"]
    tensors = load(raw)
    tensors.pop(tensor, None)
    if value is not None:
        tensors[tensor] = value
    return sealed(document | ({"trees": said} if said else {}), tensors)
