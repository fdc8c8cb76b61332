"""A table of recordings of any number of studies, put on the grid by the stream's own rules.

One Parquet file, one row a reading:

    dataset   text     the study
    subject   text     the person, unique inside a study
    diabetes  text     what is known of the person: T1D, T2D, Prediabetes, No diabetes
    step_min  integer  minutes between readings of this person's sensor
    time      datetime without zone, the person's local time
    mg_dl     number   20 to 600

A reading holds its nearest 5-minute slot and gaps to 15 minutes are interpolated, as `agents.core.rolling_window` does;
here a gap is counted in slots, three at most, there by the readings' own times.
A window ends at a real reading, as each forecast of the stream does: behind a reading every interpolated point lies
between two that were known by then, so no straight line tells the future, whatever the sensor's step. A target that
would be interpolated is missing: it is neither trained on nor scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agents.core.forecaster import Windows
from agents.core.past_hours import SLOTS_AN_HOUR
from agents.core.plausibility import FASTEST_MGDL_PER_MINUTE, LAST_STEPS
from agents.core.slot_windows import FURTHEST_STEP
from agents.training.splits import Examples
from schemas.errors import ConfigurationError
from schemas.grid import (
    CENTI,
    HIGHEST_MGDL,
    HORIZON_STEPS,
    LOWEST_MGDL,
    PAST_HOURS,
    PAST_POINTS,
    STEP_MINUTES,
    STEP_SECONDS,
)

COLUMNS = ("dataset", "subject", "diabetes", "step_min", "time", "mg_dl")
_STEP_MS = STEP_SECONDS * 1000


@dataclass(frozen=True)
class Person:
    """One person of a study on the 5-minute grid: slot `first + i` of the local clock, counted from 1970.

    `mgdl` (n,) float32 is NaN where nothing is known, `measured` (n,) tells readings from interpolated points.
    """

    study: str
    subject: str
    diabetes: str
    step_minutes: int
    first: int
    mgdl: NDArray[np.float32]
    measured: NDArray[np.bool_]

    @property
    def name(self) -> str:
        return f"{self.study}/{self.subject}"

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Places of the points that a window of the past ends at and that have a measured point in their next hour."""
        known = np.isfinite(self.mgdl)
        place = np.arange(known.size)
        run = place - np.maximum.accumulate(np.where(known, -1, place))
        unbroken = (run >= PAST_POINTS) | (known & (np.cumsum(~known) == 0) & (place >= PAST_POINTS - 1))
        jump = np.abs(np.diff(self.mgdl, prepend=np.nan)) > FASTEST_MGDL_PER_MINUTE * STEP_MINUTES
        jumps = np.cumsum(jump)
        steady = jumps - np.concatenate([np.zeros(min(LAST_STEPS, jumps.size), int), jumps[:-LAST_STEPS]]) == 0
        ahead = np.concatenate([np.cumsum(self.measured), np.full(HORIZON_STEPS, self.measured.sum())])
        followed = ahead[HORIZON_STEPS:] > ahead[:-HORIZON_STEPS]
        return np.flatnonzero(unbroken & self.measured & steady & followed)


def read_people(path: Path) -> list[Person]:
    """Everyone in the table, by study and subject.

    FileNotFoundError where there is no file; ConfigurationError says what a table lacks.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: --data takes a Parquet table with {', '.join(COLUMNS)}")
    try:
        table = pl.read_parquet(path, columns=list(COLUMNS))
        table = table.with_columns(
            pl.col("dataset", "subject", "diabetes").cast(pl.String),
            pl.col("step_min").cast(pl.Int64),
            pl.col("time").cast(pl.Datetime("ms")).dt.epoch("ms"),
            pl.col("mg_dl").cast(pl.Float64),
        )
    except pl.exceptions.PolarsError as error:
        raise ConfigurationError(f"{path} is no table with {', '.join(COLUMNS)}: {error}") from error
    _check(table, path)
    slot = (pl.col("time") + _STEP_MS // 2) // _STEP_MS
    table = table.with_columns(slot=slot, shift=pl.col("time") - slot * _STEP_MS)
    table = table.sort("dataset", "subject", "slot", pl.col("shift").abs(), "shift", maintain_order=True)
    table = table.unique(["dataset", "subject", "slot"], keep="first", maintain_order=True)
    return [
        _person(study, subject, rows)
        for (study, subject), rows in table.group_by("dataset", "subject", maintain_order=True)
    ]


def _check(table: pl.DataFrame, path: Path) -> None:
    if table.is_empty() or sum(table.null_count().row(0)):
        raise ConfigurationError(f"{path} must hold readings, and none of {', '.join(COLUMNS)} may be missing in a row")
    if not table["mg_dl"].is_between(LOWEST_MGDL, HIGHEST_MGDL).all():
        raise ConfigurationError(f"{path} holds glucose outside {LOWEST_MGDL:g}..{HIGHEST_MGDL:g} mg/dL in mg_dl")
    mixed = table.group_by("dataset", "subject").agg(pl.col("step_min", "diabetes").n_unique())
    mixed = mixed.filter((pl.col("step_min") > 1) | (pl.col("diabetes") > 1))
    if not mixed.is_empty():
        raise ConfigurationError(f"{path} gives {mixed['subject'][0]} more than one step_min or diabetes")


def _person(study: object, subject: object, rows: pl.DataFrame) -> Person:
    slots = rows["slot"].to_numpy()
    centi = np.floor(rows["mg_dl"].to_numpy() * CENTI + 0.5).astype(np.int64)
    place = slots - slots[0]
    grid = on_grid(place, centi)
    measured = np.zeros(grid.size, dtype=bool)
    measured[place] = True
    return Person(
        study=str(study),
        subject=str(subject),
        diabetes=str(rows["diabetes"][0]),
        step_minutes=int(rows["step_min"][0]),
        first=int(slots[0]),
        mgdl=grid,
        measured=measured,
    )


def on_grid(place: NDArray[np.int64], centi: NDArray[np.int64]) -> NDArray[np.float32]:
    """Readings at rising places from 0 on, as mg/dL at every place: gaps to FURTHEST_STEP interpolated, others NaN."""
    grid = np.full(place[-1] + 1, np.nan)
    grid[place] = centi
    for step in range(2, FURTHEST_STEP + 1):
        older = np.flatnonzero(np.diff(place) == step)
        rise = centi[older + 1] - centi[older]
        for between in range(1, step):
            grid[place[older] + between] = centi[older] + (2 * rise * between + step) // (2 * step)
    return np.asarray((grid / CENTI).astype(np.float32))


@dataclass(frozen=True)
class Pool:
    """Windows of several people, drawn from one flat array, so that a training set costs no more than its readings.

    flat (N,): everyone's points in a row, an hour of NaN between two people; targets (N,): the same, measured points
    alone; slot (N,): of each point; ends (W,): places in `flat` that windows end at; owner (W,): whose they are.
    sums, counts: of what everyone measured in each hour of the clock, in hundredths of mg/dL, a week of nothing before
    each person; hours (P,): where in them the clock's hour 0 would lie for each person.
    """

    people: tuple[Person, ...]
    flat: NDArray[np.float32]
    targets: NDArray[np.float32]
    slot: NDArray[np.int64]
    ends: NDArray[np.int64]
    owner: NDArray[np.int64]
    sums: NDArray[np.int64]
    counts: NDArray[np.int64]
    hours: NDArray[np.int64]

    @classmethod
    def of(cls, people: Sequence[Person], stride: int = 1) -> Pool:
        """Every `stride`-th window of each person. ValueError where there is none."""
        flat, targets, slots, ends, owner = [], [], [], [], []
        sums, counts, hours = [], [], []
        begin = clock = 0
        gap = np.full(HORIZON_STEPS, np.nan, dtype=np.float32)
        for number, person in enumerate(people):
            known = np.concatenate([person.mgdl, gap])
            flat.append(known)
            targets.append(np.where(np.concatenate([person.measured, np.zeros(gap.size, bool)]), known, np.nan))
            slots.append(person.first + np.arange(known.size))
            ends.append(begin + person.ends[::stride])
            owner.append(np.full(ends[-1].size, number))
            begin += known.size
            first = person.first // SLOTS_AN_HOUR - PAST_HOURS - 1
            hour = (person.first + np.flatnonzero(person.measured)) // SLOTS_AN_HOUR - first
            centi = np.round(person.mgdl[person.measured].astype(np.float64) * CENTI)
            length = (person.first + person.mgdl.size - 1) // SLOTS_AN_HOUR - first + 1
            sums.append(np.bincount(hour, weights=centi, minlength=length).astype(np.int64))
            counts.append(np.bincount(hour, minlength=length))
            hours.append(clock - first)
            clock += length
        if not sum(one.size for one in ends):
            raise ValueError(f"nobody has the {PAST_POINTS} unbroken points that one window needs")
        return cls(
            tuple(people),
            np.concatenate(flat).astype(np.float32),
            np.concatenate(targets).astype(np.float32),
            np.concatenate(slots),
            np.concatenate(ends),
            np.concatenate(owner),
            np.concatenate(sums),
            np.concatenate(counts),
            np.array(hours),
        )

    def __len__(self) -> int:
        return int(self.ends.size)

    @property
    def studies(self) -> NDArray[np.str_]:
        """The study of every window (W,)."""
        return np.array([person.study for person in self.people])[self.owner]

    def past(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(R, 96) mg/dL, oldest first."""
        return np.asarray(self.flat[self.ends[rows, None] + np.arange(1 - PAST_POINTS, 1)])

    def future(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(R, 12) mg/dL, NaN where nothing was measured."""
        return np.asarray(self.targets[self.ends[rows, None] + np.arange(1, HORIZON_STEPS + 1)])

    def end_times(self, rows: NDArray[np.int64]) -> NDArray[np.datetime64]:
        return (self.slot[self.ends[rows]] * STEP_SECONDS).astype("datetime64[s]")

    def hours_before(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(R, 168) mg/dL, oldest first, NaN where nothing is known: as agents/core/past_hours.py says."""
        before = self.slot[self.ends[rows]] - PAST_POINTS
        share = (before % SLOTS_AN_HOUR + 1)[:, None]
        place = (self.hours[self.owner[rows]] + before // SLOTS_AN_HOUR)[:, None] + np.arange(1 - PAST_HOURS, 1)
        total, count = (
            share * each[place] + (SLOTS_AN_HOUR - share) * each[place - 1] for each in (self.sums, self.counts)
        )
        centi = (2 * total + count) // np.maximum(2 * count, 1)
        return np.where(count > 0, centi / CENTI, np.nan).astype(np.float32)

    def windows(self, rows: NDArray[np.int64]) -> Windows:
        return Windows(self.past(rows), self.end_times(rows), self.hours_before(rows))

    def examples(self, rows: NDArray[np.int64] | None = None) -> Examples:
        """The windows themselves, of `rows` or all; a missing target is NaN."""
        chosen = np.arange(len(self)) if rows is None else rows
        names = np.array([person.name for person in self.people])
        return Examples(
            self.windows(chosen),
            self.future(chosen),
            names[self.owner[chosen]],
            self.owner[chosen],
        )
