"""Virtual people through whole days: one at a time as a device would report them, or a cohort at once for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from agents.virtual_person.day import Day, draw_day
from agents.virtual_person.physiology import Physiology, Quantity, State, advance, cohort, physiology
from agents.virtual_person.sensor import READABLE_MGDL, sensor_errors_mgdl
from schemas.grid import STEP, STEPS_A_DAY

SENSOR_SCALE = 0.45
RESCUE_BELOW_MGDL, RESCUE_GRAMS, RESCUE_PAUSE_STEPS = 62.0, 16.0, 4
CORRECT_ABOVE_MGDL, CORRECT_TO_MGDL, CORRECT_SHARE = 160.0, 125.0, 0.7


class VirtualPerson:
    """One virtual patient, the same readings for the same (name, seed, start); KeyError for an unknown name."""

    def __init__(self, name: str = "adult#001", *, seed: int = 0, start: datetime) -> None:
        self.name = name
        self.start = start
        self._seed = seed
        self._physiology = physiology(name)

    def readings(self) -> Iterator[tuple[datetime, float]]:
        """Endless (time, sensor glucose in mg/dL): every five minutes from `start`, whole numbers within 40..400."""
        life = _Life(self._physiology, [self._seed], float(self._physiology.BW), clock_step(self.start))
        for step, shown in enumerate(life):
            yield self.start + step * STEP, float(shown)


def simulate_cohort(
    names: Sequence[str], *, days: int, seeds: Sequence[int], start_step: int = 0
) -> NDArray[np.float64]:
    """Sensor glucose of many people at once: (len(names), days * 288) mg/dL. As `VirtualPerson`, each."""
    people = cohort(names)
    life = iter(_Life(people, seeds, people.BW, start_step))
    return np.stack([next(life) for _ in range(days * STEPS_A_DAY)], axis=1)


def clock_step(time: datetime) -> int:
    """Five-minute step of the day at a time."""
    return (time.hour * 60 + time.minute) // 5


class _Life:
    """Days strung together: a schedule drawn a day ahead; rescue carbohydrate and corrections answer the sensor."""

    def __init__(self, people: Physiology, seeds: Sequence[int], weights: Quantity, start_step: int) -> None:
        self._people = people
        self._single = isinstance(people.BW, float)
        self._weights = np.atleast_1d(np.asarray(weights, dtype=np.float64))
        self._rngs = [np.random.default_rng([seed, 1]) for seed in seeds]
        self._errors = [sensor_errors_mgdl(np.random.default_rng([seed, 2]), SENSOR_SCALE) for seed in seeds]
        self._start_step = start_step

    def __iter__(self) -> Iterator[Quantity]:
        people, state = self._people, self._people.fasting
        meal_mg: Quantity = 0.0 * people.BW
        since_rescue: Quantity = 0.0 * people.BW + RESCUE_PAUSE_STEPS
        rescue_mg: Quantity = 0.0
        day, step = self._draw_day(), self._start_step
        while True:
            shown = self._shown(state)
            yield shown
            carbs, begun, dosed = day.carbs_mg_per_minute[step], day.meal_mg[step], day.bolus_grams[step]
            rescued = (shown < RESCUE_BELOW_MGDL) & (since_rescue >= RESCUE_PAUSE_STEPS)
            since_rescue = (since_rescue + 1.0) * ~rescued
            rescue_mg = rescued * RESCUE_GRAMS * 1000.0
            eating = begun + rescue_mg
            meal_mg = np.where(eating > 0.0, state[0] + state[1] + eating, meal_mg)
            correction = (dosed > 0.0) * (shown > CORRECT_ABOVE_MGDL) * (shown - CORRECT_TO_MGDL)
            bolus = dosed / people.carb_ratio + CORRECT_SHARE * correction / people.correction_factor
            insulin = people.basal_units_per_minute * day.basal_factor[step] + bolus / 5.0
            state = advance(people, state, carbs + rescue_mg / 5.0, meal_mg, insulin, day.sensitivity[step])
            step += 1
            if step == STEPS_A_DAY:
                day, step = self._draw_day(), 0

    def _draw_day(self) -> Day:
        """Arrays (288,) for one person, (288, N) for a cohort."""
        days = [draw_day(rng, weight) for rng, weight in zip(self._rngs, self._weights, strict=True)]
        return days[0] if self._single else Day(*(np.stack(column, axis=1) for column in zip(*days, strict=True)))

    def _shown(self, state: State) -> Quantity:
        errors = [next(error) for error in self._errors]
        error: Quantity = errors[0] if self._single else np.array(errors)
        return np.clip(np.round(self._people.sensor_site_mgdl(state) + error), *READABLE_MGDL)
