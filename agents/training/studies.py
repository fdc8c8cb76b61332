"""Who of which study serves what: trained on, kept back to calibrate, or held out as a whole study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.training.table import Person

HELD_OUT_STUDIES = ("AZT1D", "Bris-T1D_Open", "T1D-UOM")
"""Each is left out in turn: the three with enough people with type 1 diabetes at five minutes."""

GLUCOBENCH_HALL = frozenset(
    f"Hall_2018/{subject}"
    for subject in (
        *(f"1636-69-{number}" for number in ("001", "026", "032", "090", "091", "114")),
        *("1636-70-1005", "1636-70-1010"),
        *(f"2133-{number}" for number in ("004", "015", "017", "018", "019", "021", "024", "027", "035", "036", "039")),
    )
)
"""The 19 people of GlucoBench's Hall file: never trained on, so that its table stays one of people not seen."""

LICENCES = {
    "AZT1D": "CC-BY-4.0",
    "Bris-T1D_Open": "CC-BY-4.0",
    "T1D-UOM": "CC-BY-4.0",
    "HUPA-UCM": "CC-BY-4.0",
    "DDATSHR": "CC-BY-4.0",
    "Colas_2019": "CC-BY-4.0",
    "Hall_2018": "CC-BY-4.0",
    "BIGIDEAs": "ODC-By-1.0",
}
"""Of the studies whose terms are known; a checkpoint names those of its own."""

KEPT_BACK_SHARE = 0.15


@dataclass(frozen=True)
class Cut:
    """People by purpose; nobody serves two."""

    train: tuple[Person, ...]
    calibrate: tuple[Person, ...]


def cut(people: Sequence[Person], held_out: str | None = None, seed: int = 0) -> Cut:
    """Everyone but the study `held_out` and GLUCOBENCH_HALL; of each study a share, drawn by seed, calibrates.

    A study of fewer than four people is trained on whole.
    """
    train: list[Person] = []
    calibrate: list[Person] = []
    allowed = [one for one in people if one.study != held_out and one.name not in GLUCOBENCH_HALL]
    for study in sorted({one.study for one in allowed}):
        members = sorted((one for one in allowed if one.study == study), key=lambda one: one.name)
        rng = np.random.default_rng([seed, *study.encode()])
        count = math.ceil(len(members) * KEPT_BACK_SHARE) if len(members) >= 4 else 0
        kept = set(rng.choice(len(members), count, replace=False).tolist())
        calibrate += [one for place, one in enumerate(members) if place in kept]
        train += [one for place, one in enumerate(members) if place not in kept]
    return Cut(tuple(train), tuple(calibrate))


def judged_by(people: Sequence[Person], study: str) -> tuple[Person, ...]:
    """The people that a study is judged by when it is held out: those with a reading every five minutes."""
    return tuple(one for one in people if one.study == study and one.step_minutes == 5)


def licence_of(people: Sequence[Person]) -> str:
    """SPDX expression over the studies of these people; "LicenseRef-unknown" for a study that is not known."""
    found = {LICENCES.get(one.study, "LicenseRef-unknown") for one in people}
    return " AND ".join(sorted(found))
