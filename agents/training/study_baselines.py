"""The baselines of a study that is held out: each is trained once, and what it forecast is kept.

A network of another recipe is then judged beside the same numbers, and a run that was stopped goes on behind the last
baseline that was done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.training.baselines import PointForecast, persistence
from agents.training.darts_pool import DARTS, fit_darts
from agents.training.lags import fit_boosted, fit_lag_ridge
from agents.training.splits import Examples
from agents.training.studies import Cut
from agents.training.table import Pool

LIGHTGBM = "LightGBM"
LAGS = (24, 96)

_STRIDE = 3  # of the windows that they learn from
_LAYOUT = 2

Array = NDArray[np.float32]
Progress = Callable[[str], None]


class Forecast(NamedTuple):
    """What a baseline says, mg/dL: of the people kept back to calibrate (C, 12) and of those held out (N, 12)."""

    name: str
    calibrate: Array
    held_out: Array


@dataclass(frozen=True)
class Baselines:
    """`boosted`: with LightGBM; `darts`: with N-HiTS and TiDE of Darts."""

    seed: int
    threads: int
    boosted: bool
    darts: bool

    def forecasts(
        self, parts: Cut, calibrate: Examples, held_out: Examples, work: Path, progress: Progress
    ) -> Iterator[Forecast]:
        """Of each baseline, in the order of the report; `work`: a directory of this study alone."""
        work.mkdir(parents=True, exist_ok=True)
        digest = self._digest(parts, calibrate, held_out)
        for name, make in self._makers(parts, progress).items():
            file = work / f"{name}.npz"
            if (kept := _kept(file, digest)) is None:
                progress(name)
                forecast = make()
                kept = [np.asarray(forecast(part), dtype=np.float32) for part in (calibrate, held_out)]
                _keep(file, digest, *kept)
            yield Forecast(name, *kept)

    def _makers(self, parts: Cut, progress: Progress) -> dict[str, Callable[[], PointForecast]]:
        """Name -> what trains it."""
        train, select = (cache(partial(Pool.of, people, _STRIDE)) for people in (parts.train, parts.calibrate))
        found: dict[str, Callable[[], PointForecast]] = {"persistence": lambda: persistence}
        for lags in LAGS:
            found[f"ridge, {lags} lags"] = lambda lags=lags: fit_lag_ridge(train(), select(), lags)  # type: ignore[misc]
        if self.boosted:
            found[LIGHTGBM] = lambda: fit_boosted(
                train(), self.seed, self.threads, lambda step: progress(f"{LIGHTGBM}, step {step + 1} of 12")
            )
        if self.darts:
            found |= {name: partial(fit_darts, name, parts.train, self.seed) for name in DARTS}
        return found

    def _digest(self, parts: Cut, calibrate: Examples, held_out: Examples) -> str:
        """Of all that a forecast depends on, which beside what others it was asked for is not."""
        hashed = hashlib.sha256(f"{_LAYOUT} {_STRIDE} {self.seed} {self.threads}".encode())
        for person in (*parts.train, *parts.calibrate):
            hashed.update(f"{person.name} {person.first}".encode() + person.mgdl.tobytes() + person.measured.tobytes())
        for part in (calibrate, held_out):
            hashed.update(part.windows.past_mgdl.tobytes() + part.windows.end_times.tobytes())
        return hashed.hexdigest()


def _kept(file: Path, digest: str) -> list[Array] | None:
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as found:
        return [found["calibrate"], found["held_out"]] if str(found["digest"]) == digest else None


def _keep(file: Path, digest: str, calibrate: Array, held_out: Array) -> None:
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(stream, digest=np.array(digest), calibrate=calibrate, held_out=held_out)
    part.replace(file)
