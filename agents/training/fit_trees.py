"""Fits the trees that stand beside the network, a model a step, by LightGBM, and makes them `agents.models.trees`.

They learn the change from the last point by its absolute error, from windows of the training people of which some know
less of the week, as the network's do. Nothing of the network is seen. A step has several forests, each from windows of
its own, and their mean is served: which windows one happened to be given moves it by as much as twice their number
does. A model that is done is kept, so a run that was stopped goes on behind it to the same trees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.models.mlp.tree_features import TREE_WIDTH, tree_features
from agents.models.trees import UNIT_MGDL, Array, Trees
from agents.training.fit_mlp import forgotten
from agents.training.table import Pool
from schemas.errors import ConfigurationError
from schemas.grid import HORIZON_STEPS

_BLOCK = 20_000
_LARGEST = float(np.finfo(np.float32).max)
_ZERO = float(np.float32(1e-35))
_STREAM = 77  # of draws that are no step's of the network
LIGHTGBM_MISSING = "trees are fitted by LightGBM: pip install 'glucast[train]', or train without --trees"


@dataclass(frozen=True)
class TreesSchedule:
    """How many forests of how many trees of what size learn from how much; `share`: of the location that is theirs."""

    forests: int = 2
    trees: int = 160
    leaves: int = 47
    learning_rate: float = 0.1
    windows: int = 300_000  # of each forest
    feature_share: float = 0.3
    window_share: float = 0.5
    windows_a_leaf: int = 200
    thresholds: int = 63
    share: float = 0.5


def fit_trees(
    pool: Pool,
    schedule: TreesSchedule,
    seed: int,
    threads: int,
    work: Path,
    progress: Callable[[int], None] = lambda step: None,
) -> Trees:
    """The trees of the 12 steps; ConfigurationError without LightGBM. `work`: where the run keeps what is done.

    `progress`: told how many of the models are done.
    """
    lightgbm = lightgbm_or_refused()
    settings: dict[str, Any] = {
        "objective": "l1",
        "num_leaves": schedule.leaves,
        "learning_rate": schedule.learning_rate,
        "min_data_in_leaf": schedule.windows_a_leaf,
        "feature_fraction": schedule.feature_share,
        "bagging_fraction": schedule.window_share,
        "bagging_freq": 1,
        "max_bin": schedule.thresholds,
        "use_missing": False,
        "num_threads": threads,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }
    forests: list[list[Path]] = []
    for forest in range(schedule.forests):
        files = [work / f"trees-{forest}-{step}.txt" for step in range(HORIZON_STEPS)]
        read: Array | None = None
        for step, file in enumerate(files):
            if not file.exists():
                if read is None:
                    read, change = _examples(pool, schedule.windows, seed, forest)
                have = np.isfinite(change[:, step])
                model = lightgbm.train(
                    settings | {"seed": seed + forest},
                    lightgbm.Dataset(read[have], label=change[have, step]),
                    num_boost_round=schedule.trees,
                )
                part = file.with_suffix(".part")
                model.save_model(str(part))
                part.replace(file)
            progress(forest * HORIZON_STEPS + step + 1)
        forests.append(files)
    return trees_of([[lightgbm.Booster(model_file=str(file)) for file in step] for step in zip(*forests, strict=True)])


def lightgbm_or_refused() -> Any:
    """The module; ConfigurationError says how to get it. A run asks before it trains anything."""
    try:
        import lightgbm
    except ModuleNotFoundError as error:
        raise ConfigurationError(LIGHTGBM_MISSING) from error
    return lightgbm


def _examples(pool: Pool, windows: int, seed: int, forest: int) -> tuple[Array, NDArray[np.float32]]:
    """Features and changes (W, 12) of windows drawn for a forest, block by block: an hour's sums take memory."""
    rng = np.random.default_rng([seed, _STREAM, forest])
    rows = rng.choice(len(pool), min(len(pool), windows), replace=False)
    read = np.empty((rows.size, TREE_WIDTH), dtype=np.float32)
    change = np.empty((rows.size, HORIZON_STEPS), dtype=np.float32)
    for begin in range(0, rows.size, _BLOCK):
        part = rows[begin : begin + _BLOCK]
        known = forgotten(pool.windows(part), rng)
        read[begin : begin + part.size] = tree_features(known)
        change[begin : begin + part.size] = pool.future(part) - known.past_mgdl[:, -1:]
    return read, change


class Booster(Protocol):
    """What is read of a LightGBM model."""

    def dump_model(self) -> dict[str, Any]: ...
    def num_feature(self) -> int: ...


def trees_of(steps: Sequence[Sequence[Booster]]) -> Trees:
    """The models of steps 1 to 12, of each the mean of its own. ValueError for one that has splits of another kind, or
    a leaf beyond what is kept.

    A threshold is the largest single-precision number that is not above LightGBM's own, which sends single-precision
    features the same ways; leaves are rounded to UNIT_MGDL. A model that found nothing more to split has fewer trees:
    the rest of them say 0.
    """
    roots = [
        [(tree["tree_structure"], len(step)) for model in step for tree in model.dump_model()["tree_info"]]
        for step in steps
    ]
    most = max(map(len, roots))
    kept = _Arrays()
    for step in roots:
        for root, models in step:
            kept.add(root, models)
        for _ in range(most - len(step)):
            kept.add({"leaf_value": 0.0}, 1)
    leaf = np.round(np.array(kept.leaf) / UNIT_MGDL)
    if np.abs(leaf).max() > np.iinfo(np.int16).max:
        raise ValueError(f"a leaf lies {np.abs(leaf).max() * UNIT_MGDL:.0f} mg/dL out, which no file can hold")
    return Trees(
        width=steps[0][0].num_feature(),
        splits=np.array(kept.splits, dtype=np.int16),
        feature=np.array(kept.feature, dtype=np.int16),
        threshold=not_above(np.array(kept.threshold, dtype=np.float64)),
        left=np.array(kept.left, dtype=np.int16),
        right=np.array(kept.right, dtype=np.int16),
        leaf=leaf.astype(np.int16),
    )


def not_above(values: np.ndarray) -> Array:
    """The largest single-precision numbers that are at most `values` (N,), double precision.

    Below -_ZERO itself: LightGBM takes a feature that lies no further from 0 for 0, and sends it right there.
    """
    values = np.where(values == -_ZERO, np.nextafter(values, -np.inf), values)
    near = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    return np.asarray(np.where(near.astype(np.float64) > values, below, near), dtype=np.float32)


class _Arrays:
    """The arrays of a file, tree by tree."""

    def __init__(self) -> None:
        self.splits: list[int] = []
        self.feature: list[int] = []
        self.threshold: list[float] = []
        self.left: list[int] = []
        self.right: list[int] = []
        self.leaf: list[float] = []

    def add(self, root: dict[str, Any], models: int) -> None:
        """A tree of one of so many models, whose mean is served; a split's number rises from parent to child."""
        splits: dict[int, dict[str, Any]] = {}
        leaves: dict[int, float] = {}
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if "split_index" not in node:
                leaves[int(node.get("leaf_index", 0))] = float(node["leaf_value"])
                continue
            if node["decision_type"] != "<=" or node["missing_type"] not in ("None", "NaN"):
                raise ValueError(f"a split of another kind: {node['decision_type']}, {node['missing_type']}")
            splits[int(node["split_index"])] = node
            waiting += [node["left_child"], node["right_child"]]
        for place in range(len(splits)):
            node = splits[place]
            self.feature.append(int(node["split_feature"]))
            self.threshold.append(float(node["threshold"]))
            self.left.append(_child(node["left_child"]))
            self.right.append(_child(node["right_child"]))
        self.splits.append(len(splits))
        self.leaf += [leaves[place] / models for place in range(len(leaves))]


def _child(node: dict[str, Any]) -> int:
    return int(node["split_index"]) if "split_index" in node else -1 - int(node.get("leaf_index", 0))
