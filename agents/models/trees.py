"""Boosted regression trees of the next hour as flat arrays, walked together: what is served of them needs numpy alone.

Every one of the 12 steps has as many trees, and its change from the last point is the sum of the leaf that a window
falls to in each of them,

    change_h = UNIT_MGDL * sum over the trees of step h of leaf(window)                                       mg/dL

Leaves are whole multiples of UNIT_MGDL and are summed as integers, so the order of a sum, and with it the size of a
batch, cannot change a bit. At a split what is at most the threshold goes left; a feature is a finite single-precision
number, and so is a threshold.

Arrays of a file, T trees in the order of their steps, N splits and N + T leaves in the order of their trees:

    splits     int16 (T,)     of each tree; a tree of n splits has n + 1 leaves, one without splits is a leaf alone
    feature    int16 (N,)     column that a split looks at
    threshold  float32 (N,)
    left       int16 (N,)     what follows in the same tree: split c where c >= 0, leaf -1 - c else; a split's
    right      int16 (N,)     place is higher than that of the split it follows, so that no walk is endless
    leaf       int16 (N + T,) in UNIT_MGDL

Source: gradient boosting, Friedman 2001; leaves as of LightGBM, Ke et al. 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.grid import HORIZON_STEPS

UNIT_MGDL = 2.0**-9
MOST_TREES = 12 * 2000
MOST_SPLITS = 4_000_000
DEEPEST = 64
KINDS: dict[str, type[np.signedinteger[Any]]] = {
    "splits": np.int16,
    "feature": np.int16,
    "left": np.int16,
    "right": np.int16,
    "leaf": np.int16,
}
"""Of the arrays of whole numbers."""
NAMES = (*KINDS, "threshold")
_LOOK_EVERY = 3  # splits: ways that have come to a leaf are left out then; most end at a third of the deepest
_ROWS = 16  # walked at once: what they look up stays in the processor's cache

Array = NDArray[np.float32]
Whole = NDArray[np.int16]


class _Walk(NamedTuple):
    """Splits and leaves of all trees in one row of places; a leaf leads to itself, whatever the window."""

    roots: NDArray[np.int32]
    places: NDArray[np.int32]
    """(places, 4): feature, threshold (its bits), left, right: what is looked up together lies together."""
    leaf: NDArray[np.int16]
    is_leaf: NDArray[np.bool_]
    depth: int


_FEATURE, _THRESHOLD, _LEFT, _RIGHT = range(4)


@dataclass(frozen=True)
class Trees:
    """The arrays of the module's text, and how many columns the features have. ValueError says what is wrong."""

    width: int
    splits: Whole
    feature: Whole
    threshold: Array
    left: Whole
    right: Whole
    leaf: Whole

    def __post_init__(self) -> None:
        for name in NAMES:
            if getattr(self, name).dtype != KINDS.get(name, np.float32):
                raise ValueError(f"trees.{name} must be {np.dtype(KINDS.get(name, np.float32)).name}")
        count = int(self.splits.size)
        if self.splits.ndim != 1 or not 0 < count <= MOST_TREES or count % HORIZON_STEPS:
            raise ValueError(f"trees must be a multiple of {HORIZON_STEPS}, at most {MOST_TREES}, not {count}")
        if np.any(self.splits < 0) or (total := int(self.splits.sum(dtype=np.int64))) > MOST_SPLITS:
            raise ValueError(f"splits of trees must not be negative, nor more than {MOST_SPLITS:,} in all")
        for name, value in (("feature", self.feature), ("threshold", self.threshold), *self._children):
            if value.shape != (total,):
                raise ValueError(f"trees.{name} must be ({total},), not {value.shape}")
        if self.leaf.shape != (total + count,):
            raise ValueError(f"trees.leaf must be ({total + count},), not {self.leaf.shape}")
        if total and not (self.feature.min() >= 0 and self.feature.max() < self.width):
            raise ValueError(f"trees.feature must lie within 0..{self.width - 1}")
        if not np.all(np.isfinite(self.threshold)):
            raise ValueError("trees.threshold must be finite")
        self._check_order()
        if self._walk.depth > DEEPEST:
            raise ValueError(f"a tree is {self._walk.depth} splits deep; {DEEPEST} are the most")

    @property
    def a_step(self) -> int:
        """Trees of each step."""
        return int(self.splits.size) // HORIZON_STEPS

    @property
    def _children(self) -> tuple[tuple[str, Whole], tuple[str, Whole]]:
        return ("left", self.left), ("right", self.right)

    def _check_order(self) -> None:
        """Each child lies in its own tree and behind its parent, and is the child of one split alone."""
        size = self.splits.astype(np.int64)
        owner = np.repeat(np.arange(size.size), size)
        first = np.concatenate([[0], np.cumsum(size)])[:-1]
        place = np.arange(owner.size) - first[owner]
        met = []
        for name, value in self._children:
            child = value.astype(np.int64)
            inside = np.where(child >= 0, (child > place) & (child < size[owner]), -1 - child <= size[owner])
            if not inside.all():
                raise ValueError(f"trees.{name} leads out of its tree, or back in it, at split {int(inside.argmin())}")
            met.append(np.where(child >= 0, first[owner] + child, owner.size + first[owner] + owner - 1 - child))
        if np.bincount(np.concatenate(met)).max(initial=0) > 1:
            raise ValueError("trees.left and trees.right lead to one split or leaf from two")

    @cached_property
    def _walk(self) -> _Walk:
        size = self.splits.astype(np.int64)
        owner = np.repeat(np.arange(size.size), size)
        start = np.concatenate([[0], np.cumsum(2 * size + 1)])  # of a tree's places: its splits, then its leaves
        place = np.arange(owner.size) - np.concatenate([[0], np.cumsum(size)])[owner] + start[owner]
        places = int(start[-1])
        is_leaf = np.ones(places, dtype=bool)
        is_leaf[place] = False
        leaf = np.zeros(places, np.int16)
        leaf[is_leaf] = self.leaf
        looked_up = np.zeros((places, 4), np.int32)
        looked_up[:, _LEFT] = looked_up[:, _RIGHT] = np.arange(places)
        looked_up[place, _FEATURE] = self.feature
        looked_up[place, _THRESHOLD] = self.threshold.view(np.int32)
        for side, (_, value) in zip((_LEFT, _RIGHT), self._children, strict=True):
            child = value.astype(np.int64)
            looked_up[place, side] = start[owner] + np.where(child >= 0, child, size[owner] - 1 - child)
        walk = _Walk(start[:-1].astype(np.int32), looked_up, leaf, is_leaf, 0)
        return walk._replace(depth=_depth(walk))

    def change(self, read: Array) -> Array:
        """Features (B, width), finite, to changes from the last point (B, 12) in mg/dL.

        A row's bits depend on its own features alone. ValueError for another width.
        """
        if read.ndim != 2 or read.shape[1] != self.width:
            raise ValueError(f"features must be (B, {self.width}), not {read.shape}")
        found = np.empty((read.shape[0], HORIZON_STEPS), dtype=np.float32)
        for begin in range(0, read.shape[0], _ROWS):
            rows = slice(begin, begin + _ROWS)
            found[rows] = self._sums(np.ascontiguousarray(read[rows], dtype=np.float32)) * UNIT_MGDL
        return found

    def _sums(self, read: Array) -> NDArray[np.int64]:
        walk, rows = self._walk, read.shape[0]
        flat, place = read.reshape(-1), np.tile(walk.roots, rows)
        offset = np.repeat(np.arange(rows, dtype=np.int32) * self.width, walk.roots.size)
        end, going = np.empty_like(place), np.arange(place.size)
        for depth in range(walk.depth):
            here = walk.places.take(place, axis=0)
            right = flat.take(here[:, _FEATURE] + offset) > here[:, _THRESHOLD].view(np.float32)
            place = np.where(right, here[:, _RIGHT], here[:, _LEFT])
            if depth % _LOOK_EVERY == _LOOK_EVERY - 1:
                further = np.flatnonzero(~walk.is_leaf.take(place))
                end[going] = place
                going, place, offset = going.take(further), place.take(further), offset.take(further)
        end[going] = place
        return np.asarray(walk.leaf.take(end).reshape(rows, HORIZON_STEPS, self.a_step).sum(axis=2, dtype=np.int64))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Name -> array, as a file holds them."""
        return {name: getattr(self, name) for name in NAMES}


def _depth(walk: _Walk) -> int:
    """Splits on the longest way down; one more than DEEPEST where it is longer. No place is met on two ways."""
    reached = walk.roots
    for depth in range(DEEPEST + 1):
        reached = reached[~walk.is_leaf[reached]]
        if not reached.size:
            return depth
        reached = walk.places[reached, _LEFT:].reshape(-1)
    return DEEPEST + 1
