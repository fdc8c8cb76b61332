"""An invented day: when a person eats, how well they dose, how sensitive to insulin they are. Not published: ours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.grid import STEPS_A_DAY

_SITTING_STEPS = 3  # a meal is eaten over 15 minutes
_HOURS = np.arange(STEPS_A_DAY) / 12.0


class Day(NamedTuple):
    """What happens in each of the 288 five-minute steps of a day; arrays (288,)."""

    carbs_mg_per_minute: NDArray[np.float64]
    meal_mg: NDArray[np.float64]  # carbohydrate of a meal that begins in this step
    bolus_grams: NDArray[np.float64]  # carbohydrate that is dosed for in this step
    basal_factor: NDArray[np.float64]
    sensitivity: NDArray[np.float64]


class _Meal(NamedTuple):
    hour: float
    hour_spread: float
    grams: float
    grams_spread: float
    eaten: float  # probability
    dosed: float  # probability


_MEALS = (
    _Meal(7.5, 0.7, 45.0, 15.0, 0.92, 0.95),
    _Meal(10.5, 0.6, 18.0, 6.0, 0.40, 0.55),
    _Meal(12.8, 0.7, 65.0, 20.0, 0.96, 0.95),
    _Meal(16.2, 0.8, 22.0, 8.0, 0.50, 0.55),
    _Meal(19.2, 0.9, 75.0, 25.0, 0.98, 0.94),
    _Meal(22.0, 0.7, 18.0, 8.0, 0.35, 0.45),
)


def draw_day(rng: np.random.Generator, weight_kg: float) -> Day:
    """A new day of a person of this weight: meals, doses with mistakes, a morning rise, perhaps an active hour."""
    carbs, meal, bolus = np.zeros(STEPS_A_DAY), np.zeros(STEPS_A_DAY), np.zeros(STEPS_A_DAY)
    appetite = float(np.clip(np.sqrt(weight_kg / 70.0), 0.5, 1.3))
    for kind in _MEALS:
        hour, grams = rng.normal(kind.hour, kind.hour_spread), rng.normal(kind.grams, kind.grams_spread)
        estimate, delay = rng.lognormal(-0.12, 0.32), int(rng.integers(-2, 4))
        eaten, dosed = rng.random() < kind.eaten, rng.random() < kind.dosed
        if not eaten:
            continue
        grams = max(grams, 8.0) * appetite
        step = int(np.clip(hour * 12.0, 3, STEPS_A_DAY - 4))
        carbs[step : step + _SITTING_STEPS] += grams * 1000.0 / (5.0 * _SITTING_STEPS)
        meal[step] += grams * 1000.0
        if dosed:
            bolus[step + delay] += grams * estimate
    dawn = 1.0 - rng.uniform(0.0, 0.25) * np.exp(-0.5 * ((_HOURS - 6.5) / 1.8) ** 2)
    active_from, active_gain = rng.normal(17.5, 2.0), rng.uniform(0.2, 0.9) * (rng.random() < 0.4)
    since = _HOURS - active_from
    active = 1.0 + active_gain * np.where(since > 0.0, np.exp(-since / 1.5) * (1.0 - np.exp(-since / 0.3)), 0.0)
    sensitivity = rng.lognormal(0.0, 0.15) * dawn * active
    return Day(carbs, meal, bolus, np.full(STEPS_A_DAY, rng.lognormal(0.0, 0.1)), sensitivity)
