"""Virtual people: the published steady state, conservation, determinism, believable days."""

from datetime import datetime
from itertools import islice

import numpy as np
import pytest

from agents.virtual_person import physiology as body
from agents.virtual_person.person import VirtualPerson, simulate_cohort

START = datetime(2026, 1, 5, 6, 0)


def test_without_meals_basal_insulin_holds_the_fasting_glucose():
    people = body.cohort(body.patient_names())
    state = people.fasting
    fasting = people.sensor_site_mgdl(state)
    for _ in range(288):
        state = body.advance(people, state, 0.0, 0.0, people.basal_units_per_minute, 1.0)
    np.testing.assert_allclose(people.sensor_site_mgdl(state), fasting, rtol=0.02)


def test_masses_stay_positive_under_a_feast_and_a_heavy_overdose():
    people = body.cohort(body.patient_names())
    state = people.fasting
    for step in range(576):
        carbs = 20_000.0 if step % 96 < 6 else 0.0
        state = body.advance(people, state, carbs, 600_000.0, 10.0 * people.basal_units_per_minute, 1.3)
        masses = [values for place, values in enumerate(state) if place != 6]
        assert all(np.all(np.isfinite(values)) and np.all(values >= 0.0) for values in masses)


def test_eaten_carbohydrate_leaves_the_gut_completely():
    person = body.physiology("adult#001")
    state, appeared = person.fasting, 0.0
    for step in range(288):
        state = body.advance(person, state, 4000.0 if step < 3 else 0.0, 60_000.0, person.basal_units_per_minute, 1.0)
        appeared += 5.0 * person.kabs * state[2]
    assert appeared == pytest.approx(60_000.0, rel=0.05)
    assert state[0] + state[1] + state[2] < 300.0


def test_the_integration_step_is_fine_enough(monkeypatch):
    def day(substeps):
        monkeypatch.setattr(body, "SUBSTEPS", substeps)
        return simulate_cohort(body.patient_names(), days=1, seeds=range(30))

    assert np.abs(day(3) - day(12)).mean() < 0.2


def test_insulin_lowers_and_carbohydrate_raises_glucose():
    person = body.physiology("adult#004")

    def after_two_hours(carbs, insulin):
        state = person.fasting
        for _ in range(24):
            state = body.advance(person, state, carbs, 120_000.0, insulin, 1.0)
        return person.sensor_site_mgdl(state)

    basal = person.basal_units_per_minute
    assert after_two_hours(0.0, 3.0 * basal) < after_two_hours(0.0, basal) - 5.0
    assert after_two_hours(500.0, basal) > after_two_hours(0.0, basal) + 20.0


def test_the_same_seed_lives_the_same_days_and_another_seed_does_not():
    def readings(seed):
        return list(islice(VirtualPerson("child#003", seed=seed, start=START).readings(), 400))

    assert readings(7) == readings(7)
    assert readings(7) != readings(8)
    assert readings(7)[12][0] == datetime(2026, 1, 5, 7, 0)


def test_a_cohort_is_its_people():
    alone = [
        glucose for _, glucose in islice(VirtualPerson("adult#002", seed=5, start=datetime(2026, 1, 5)).readings(), 288)
    ]
    together = simulate_cohort(["child#001", "adult#002"], days=1, seeds=[4, 5])
    np.testing.assert_allclose(together[1], alone, atol=1.0)


def test_days_look_like_a_sensor_of_a_person_with_diabetes():
    glucose = simulate_cohort(body.patient_names(), days=4, seeds=range(30))
    assert glucose.min() >= 40.0
    assert glucose.max() <= 400.0
    assert np.array_equal(glucose, np.round(glucose))
    assert 110.0 < glucose.mean() < 190.0
    assert 0.005 < (glucose < 70.0).mean() < 0.12
    assert 0.08 < (glucose > 180.0).mean() < 0.45


def test_an_unknown_patient_is_refused_by_name():
    with pytest.raises(KeyError, match="adult#001"):
        VirtualPerson("adult#099", start=START)
