"""Trees as flat arrays: what LightGBM says of the same models, the same bits in every batch, and no array that leads
anywhere else."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.models.trees import UNIT_MGDL, Trees
from agents.training.fit_trees import not_above, trees_of
from schemas.grid import HORIZON_STEPS

lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install 'glucast[train]'")

WIDTH = 5


def boosters(seed: int, *, trees: int, leaves: int) -> list[Any]:
    """Models of twelve steps of the same noise; the last is of a constant, whose trees are leaves alone."""
    rng = np.random.default_rng(seed)
    read = rng.normal(size=(600, WIDTH)).astype(np.float32)
    read[:, 1] = np.round(read[:, 1])  # ties, and thresholds that lie between whole numbers
    settings = {"objective": "huber", "num_leaves": leaves, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    targets = [40.0 * read[:, step % WIDTH] * read[:, 0] + rng.normal(size=600) for step in range(HORIZON_STEPS - 1)]
    return [
        lightgbm.train(settings, lightgbm.Dataset(read, label=target), num_boost_round=trees)
        for target in [*targets, np.full(600, 7.0)]
    ]


def near_thresholds(made: Trees, rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Features of which every other one is a threshold, or one of its two neighbours."""
    read = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    for column in range(WIDTH):
        own = made.threshold[made.feature == column]
        if own.size:
            near = rng.choice(own, rows)
            side = rng.choice(np.array([-np.inf, 0.0, np.inf], dtype=np.float32), rows)
            near = np.where(side == 0.0, near, np.nextafter(near, side))
            read[:, column] = np.where(rng.random(rows) < 0.5, near, read[:, column])
    return read


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(2, 20), st.integers(1, 3))
def test_they_say_what_lightgbm_says(seed: int, trees: int, leaves: int, forests: int) -> None:
    """The mean of what the models of a step say."""
    models = [boosters(seed + forest, trees=trees + forest, leaves=leaves) for forest in range(forests)]
    made = trees_of(list(zip(*models, strict=True)))
    read = near_thresholds(made, np.random.default_rng(seed), 200)
    each = [np.stack([np.asarray(one.predict(read)) for one in forest], axis=1) for forest in models]
    theirs = np.mean(each, axis=0)
    off = np.abs(made.change(read) - theirs)
    assert off.max() <= 0.5 * UNIT_MGDL * made.a_step + 1e-6 * np.abs(theirs).max()


@pytest.fixture(scope="module")
def made() -> Trees:
    return trees_of([[one] for one in boosters(3, trees=7, leaves=12)])


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200))
def test_a_row_has_the_same_bits_in_every_batch(made: Trees, seed: int, rows: int) -> None:
    read = near_thresholds(made, np.random.default_rng(seed), rows)
    whole = made.change(read)
    cut = seed % rows
    np.testing.assert_array_equal(made.change(read[cut : cut + 1])[0], whole[cut])
    np.testing.assert_array_equal(made.change(np.asfortranarray(read)[::-1]), whole[::-1])


def test_no_rows_have_no_changes(made: Trees) -> None:
    assert made.change(np.empty((0, WIDTH), np.float32)).shape == (0, HORIZON_STEPS)
    with pytest.raises(ValueError, match="features must be"):
        made.change(np.zeros((1, WIDTH + 1), np.float32))


@given(st.floats(-1e30, 1e30, allow_nan=False))
def test_a_rounded_threshold_sends_single_precision_the_same_way(value: float) -> None:
    rounded = not_above(np.array([value]))[0]
    above = np.nextafter(rounded, np.float32(np.inf))
    assert float(rounded) <= value < float(above)


def changed(made: Trees, name: str, place: int, value: Any) -> Trees:
    array = getattr(made, name).copy()
    array[place] = value
    return replace(made, **{name: array})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("feature", WIDTH, "must lie within"),
        ("feature", -1, "must lie within"),
        ("threshold", np.nan, "must be finite"),
        ("threshold", np.inf, "must be finite"),
        ("left", 0, "leads out of its tree, or back in it"),
        ("right", 1000, "leads out of its tree, or back in it"),
        ("right", -1000, "leads out of its tree, or back in it"),
        ("splits", -1, "must not be negative"),
        ("splits", 3, "must be"),
    ],
)
def test_arrays_that_lead_elsewhere_are_refused(made: Trees, name: str, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        changed(made, name, 0, value)


def test_two_ways_to_one_leaf_are_refused(made: Trees) -> None:
    last = int(made.splits[0]) - 1  # whose children are leaves both
    with pytest.raises(ValueError, match="from two"):
        changed(made, "right", last, made.left[last])


def test_a_leaf_that_no_file_holds_is_refused() -> None:
    far = lightgbm.Dataset(np.zeros((50, WIDTH), np.float32), label=np.full(50, 65.0))
    model = lightgbm.train({"objective": "l1", "verbosity": -1, "min_data_in_leaf": 5}, far, num_boost_round=1)
    with pytest.raises(ValueError, match="a leaf lies 65 mg/dL out"):
        trees_of([[model]] * HORIZON_STEPS)


def test_trees_of_a_step_that_is_missing_are_refused(made: Trees) -> None:
    with pytest.raises(ValueError, match="multiple of 12"):
        replace(made, splits=made.splits[:-1])


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(("left", "right")), st.integers(0, 2**31), st.integers(-13, 13))
def test_whatever_a_child_is_changed_to_a_walk_ends(made: Trees, name: str, seed: int, value: int) -> None:
    """It is refused, or they are trees still."""
    try:
        other = changed(made, name, seed % made.left.size, value)
    except ValueError:
        return
    read = near_thresholds(other, np.random.default_rng(seed), 3)
    assert np.isfinite(other.change(read)).all()
