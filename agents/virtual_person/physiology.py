"""The UVA/Padova model of glucose and insulin in type 1 diabetes: parameters, equations, Runge-Kutta steps.

Equations: Dalla Man, Rizza, Cobelli 2007 (meal model), Dalla Man et al. 2014 (type 1 simulator). Parameters:
`patients.csv`, which names its source and licence. Every quantity is a number (one person) or an array (N,) (a cohort):
the same code integrates both.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Quantity: TypeAlias = Any  # a float or an array (N,) of them
State: TypeAlias = tuple[Quantity, ...]

STEP_MINUTES = 5.0
SUBSTEPS = 3  # Runge-Kutta steps of 100 s: some patients' rates exceed 1 a minute, which diverges at 150 s


class Physiology(NamedTuple):
    """Parameters of one person or a cohort, named as published; `carb_ratio` g/U, `correction_factor` mg/dL/U."""

    carb_ratio: Quantity
    correction_factor: Quantity
    fasting: State
    BW: Quantity
    Ib: Quantity
    kabs: Quantity
    kmax: Quantity
    kmin: Quantity
    b: Quantity
    d: Quantity
    Vg: Quantity
    Vi: Quantity
    Vmx: Quantity
    Km0: Quantity
    k2: Quantity
    k1: Quantity
    p2u: Quantity
    m1: Quantity
    m2: Quantity
    m4: Quantity
    m30: Quantity
    ki: Quantity
    kp1: Quantity
    kp2: Quantity
    kp3: Quantity
    f: Quantity
    ke1: Quantity
    ke2: Quantity
    Fsnc: Quantity
    Vm0: Quantity
    kd: Quantity
    ksc: Quantity
    ka1: Quantity
    ka2: Quantity
    u2ss: Quantity

    @property
    def basal_units_per_minute(self) -> Quantity:
        """The insulin rate that holds the fasting state."""
        return self.u2ss * self.BW / 6000.0

    def sensor_site_mgdl(self, state: State) -> Quantity:
        """Glucose under the skin, where a sensor sits."""
        return state[12] / self.Vg


@cache
def _table() -> dict[str, dict[str, float]]:
    text = resources.files(__package__).joinpath("patients.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row.pop("name"): {key: float(value) for key, value in row.items()} for row in rows}


def patient_names() -> list[str]:
    """The 30 virtual patients: adolescent#001 .. 010, adult#001 .. 010, child#001 .. 010."""
    return list(_table())


def physiology(name: str) -> Physiology:
    """Parameters of one patient as numbers. KeyError names the known patients."""
    if name not in _table():
        raise KeyError(f"no virtual patient {name!r}; known: {', '.join(patient_names())}")
    row = _table()[name]
    fasting = tuple(row[f"x{place:02d}"] for place in range(1, 14))
    return Physiology(fasting=fasting, **{key: row[key] for key in Physiology._fields if key != "fasting"})


def cohort(names: Sequence[str]) -> Physiology:
    """Parameters of many patients as arrays (N,); a name may repeat."""
    people = [physiology(name) for name in names]
    stacked = {
        key: np.array([getattr(person, key) for person in people]) for key in Physiology._fields if key != "fasting"
    }
    fasting = tuple(np.array([person.fasting[place] for person in people]) for place in range(13))
    return Physiology(fasting=fasting, **stacked)


def advance(
    person: Physiology,
    state: State,
    carbs_mg_per_minute: Quantity,
    meal_mg: Quantity,
    insulin_units_per_minute: Quantity,
    sensitivity: Quantity,
) -> State:
    """The state five minutes later, inputs held constant.

    `meal_mg` is the stomach's content when the present meal is complete (it sets the emptying rate); `sensitivity`
    multiplies insulin's action, 1 for the published parameters.
    """
    step = STEP_MINUTES / SUBSTEPS
    inputs = (carbs_mg_per_minute, meal_mg, insulin_units_per_minute * 6000.0 / person.BW, sensitivity)
    for _ in range(SUBSTEPS):
        first = _slope(person, state, *inputs)
        second = _slope(person, _along(state, first, step / 2), *inputs)
        third = _slope(person, _along(state, second, step / 2), *inputs)
        fourth = _slope(person, _along(state, third, step), *inputs)
        state = tuple(
            np.maximum(x + step / 6 * (k1 + 2 * (k2 + k3) + k4), 0.0)
            if place not in _SIGNED
            else x + step / 6 * (k1 + 2 * (k2 + k3) + k4)
            for place, (x, k1, k2, k3, k4) in enumerate(zip(state, first, second, third, fourth, strict=True))
        )
    return state


_SIGNED = frozenset({6})  # insulin action is a deviation from its basal value; everything else is a mass


def _along(state: State, slope: State, step: float) -> State:
    return tuple(x + step * dx for x, dx in zip(state, slope, strict=True))


def _slope(
    p: Physiology, state: State, carbs: Quantity, meal_mg: Quantity, insulin: Quantity, sensitivity: Quantity
) -> State:
    (solid, liquid, gut, plasma, tissue, insulin_p, action, delayed_1, delayed_2, liver, skin_1, skin_2, skin) = state
    stomach = solid + liquid
    meal = np.maximum(meal_mg, 1.0)
    emptying = p.kmin + (p.kmax - p.kmin) / 2 * (
        np.tanh(2.5 / (meal * (1.0 - p.b)) * (stomach - p.b * meal))
        - np.tanh(2.5 / (meal * p.d) * (stomach - p.d * meal))
        + 2.0
    )
    appearance = p.f * p.kabs * gut / p.BW
    production = np.maximum(p.kp1 - p.kp2 * plasma - p.kp3 * sensitivity * delayed_2, 0.0)
    excretion = p.ke1 * np.maximum(plasma - p.ke2, 0.0)
    uptake = (p.Vm0 + p.Vmx * sensitivity * action) * tissue / (p.Km0 + tissue)
    level = insulin_p / p.Vi
    return (
        carbs - p.kmax * solid,
        p.kmax * solid - emptying * liquid,
        emptying * liquid - p.kabs * gut,
        production + appearance - p.Fsnc - excretion - p.k1 * plasma + p.k2 * tissue,
        p.k1 * plasma - p.k2 * tissue - uptake,
        p.m1 * liver + p.ka1 * skin_1 + p.ka2 * skin_2 - (p.m2 + p.m4) * insulin_p,
        p.p2u * (level - p.Ib - action),
        p.ki * (level - delayed_1),
        p.ki * (delayed_1 - delayed_2),
        p.m2 * insulin_p - (p.m1 + p.m30) * liver,
        insulin - (p.ka1 + p.kd) * skin_1,
        p.kd * skin_1 - p.ka2 * skin_2,
        p.ksc * (plasma - skin),
    )
