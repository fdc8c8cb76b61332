"""Who and what is held out: by time for people seen in training (ID), and whole people (OOD).

As GlucoBench (Sergazinov et al. 2024): a tenth of the people, rounded up, drawn by numpy's legacy generator with seed
0, is never trained on; every other gap-free segment ends in a validation and a test part of fixed length (segments
under three such lengths give no test part, under two no validation part). Here the validation part is halved: the hours
forecast in the first half pick penalties and the epoch, those in the second half calibrate the fan; their past eight
hours may reach into the part before. Test windows lie entirely in their part. So no forecast hour serves two purposes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.core.forecaster import Windows
from agents.training.data import Series
from schemas.grid import HORIZON_STEPS, PAST_POINTS, STEP_SECONDS

OOD_SHARE = 0.1


@dataclass(frozen=True)
class Split:
    """Series by purpose. `test_id`: later time of training's people. `test_ood`: people that training never sees."""

    train: tuple[Series, ...]
    select: tuple[Series, ...]
    calibrate: tuple[Series, ...]
    test_id: tuple[Series, ...]
    test_ood: tuple[Series, ...]


@dataclass(frozen=True)
class Examples:
    """Windows with their future: `windows` of B, `future_mgdl` (B, 12), `person` and `series` (B,) to group by."""

    windows: Windows
    future_mgdl: NDArray[np.float32]
    person: NDArray[np.str_]
    series: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.future_mgdl.shape[0])

    @property
    def data_set(self) -> NDArray[np.str_]:
        """Name of the data set of every window (B,)."""
        return np.array([str(person).partition("/")[0] for person in self.person])

    def take(self, rows: NDArray[np.int64]) -> Examples:
        return Examples(self.windows.rows(rows), self.future_mgdl[rows], self.person[rows], self.series[rows])


def split(series: Sequence[Series], segment_points: int, seed: int = 0) -> Split:
    """Cuts one data set; see the module's text."""
    people = sorted({one.person for one in series})
    unseen = np.random.RandomState(seed).choice(people, math.ceil(len(people) * OOD_SHARE), replace=False)
    train: list[Series] = []
    validation: list[Series] = []
    test: list[Series] = []
    held_out = tuple(one for one in series if one.person in unseen)
    for one in (one for one in series if one.person not in unseen):
        length, tail = len(one), segment_points
        if length >= 3 * tail:
            train.append(one.part(0, length - 2 * tail))
            validation.append(one.part(length - 2 * tail - PAST_POINTS, length - tail))
            test.append(one.part(length - tail, length))
        elif length >= 2 * tail:
            train.append(one.part(0, length - tail))
            validation.append(one.part(length - tail - PAST_POINTS, length))
        elif length >= tail:
            train.append(one)
    half = PAST_POINTS + segment_points // 2
    return Split(
        train=tuple(train),
        select=tuple(one.part(0, half) for one in validation),
        calibrate=tuple(one.part(half - PAST_POINTS, len(one)) for one in validation),
        test_id=tuple(test),
        test_ood=held_out,
    )


def joined(*splits: Split) -> Split:
    """Several data sets as one."""
    names = ("train", "select", "calibrate", "test_id", "test_ood")
    return Split(**{name: sum((getattr(one, name) for one in splits), ()) for name in names})


def examples(series: Sequence[Series], stride: int = 1) -> Examples:
    """Every window of 96 past and 12 future points that lies inside one series, `stride` steps apart."""
    past, future, ends, person, number = [], [], [], [], []
    for place, one in enumerate(series):
        if len(one) < PAST_POINTS + HORIZON_STEPS:
            continue
        cut = np.lib.stride_tricks.sliding_window_view(one.mgdl, PAST_POINTS + HORIZON_STEPS)[::stride]
        past.append(cut[:, :PAST_POINTS])
        future.append(cut[:, PAST_POINTS:])
        steps = np.arange(0, cut.shape[0]) * stride + PAST_POINTS - 1
        ends.append(one.start + (steps * STEP_SECONDS).astype("timedelta64[s]"))
        person.append(np.full(cut.shape[0], one.person))
        number.append(np.full(cut.shape[0], place))
    if not past:
        raise ValueError(f"no series holds the {PAST_POINTS + HORIZON_STEPS} points that one window needs")
    windows = Windows(np.ascontiguousarray(np.concatenate(past), dtype=np.float32), np.concatenate(ends))
    targets = np.ascontiguousarray(np.concatenate(future), dtype=np.float32)
    return Examples(windows, targets, np.concatenate(person), np.concatenate(number).astype(np.int64))
