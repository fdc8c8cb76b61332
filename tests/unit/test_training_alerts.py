"""What the evaluation of alerts counts, on streams whose answer is known; the fit keeps a fan's own chances."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from agents.core.path_events import FILE, STEPS, copula, ordered, path_events, ranks_of
from agents.training.alert_evaluation import markdown, reliability, score, streams_of, warned
from agents.training.alert_fit import Fans, fit_path_events, save
from schemas.grid import STEPS_A_DAY


def fans(count: int, seed: int = 0) -> Fans:
    """A person on a slow wave through the low, forecast with a normal around the truth of the next hour."""
    from scipy.special import ndtr

    rng = np.random.default_rng(seed)
    glucose = 110 + 55 * np.sin(np.arange(count + 60) / 20) + rng.normal(0, 1, count + 60)
    rows = np.arange(count)
    past = glucose[rows[:, None] + np.arange(36)]
    future = glucose[rows[:, None] + 36 + np.arange(12)]
    spread = np.broadcast_to(np.linspace(3, 12, 12), (count, 12))
    mean = future + rng.normal(0, 1, (count, 1)) * spread
    below = np.stack([ndtr((limit - mean) / spread) for limit in (54, 70, 180, 250)], axis=1)
    below[:, 2:] = 1 - below[:, 2:]
    return Fans(past, below, mean, spread, future, 1000 + rows, np.zeros(count, int))


def test_lead_recall_and_false_alarms_are_counted_as_stated() -> None:
    glucose = np.full(400, 120.0)
    glucose[200:210] = 60.0
    glucose[300:302] = 60.0  # ten minutes are no low
    rows = np.arange(380)
    made = fans(380)
    stream = streams_of(
        Fans(np.repeat(glucose[:380, None], 36, axis=1), made.beyond, made.mean_mgdl, made.spread_mgdl,
             glucose[rows[:, None] + 1 + np.arange(12)], 5000 + rows, made.owner)
    )  # fmt: skip
    found = warned([np.array([50, 197, 295])], stream, 70.0)
    assert found.false_a_day == pytest.approx(2 * STEPS_A_DAY / 380)
    assert found.recall == (1.0, 1.0, 1.0, 0.0)
    assert found.median_lead == 15
    assert warned([np.array([], int)], stream, 70.0).recall == (0.0,) * 4


def test_reliability_is_0_where_what_is_said_happens_as_often() -> None:
    said = np.array([0.25] * 4 + [0.75] * 4)
    happened = np.array([1.0, 0, 0, 0, 1, 1, 1, 0])
    assert reliability(said, happened) == (0.0, pytest.approx(0.1875))
    assert reliability(said, 1 - happened)[0] == pytest.approx(0.5)


def test_the_copula_keeps_the_chance_of_a_single_step_and_never_says_less() -> None:
    bank = path_events().bank
    beyond = np.random.default_rng(1).uniform(0, 1, (20, 4, 12))
    found = copula(beyond, ranks_of(bank))
    for column, steps in enumerate(STEPS):
        assert (found[:, :, column] >= beyond[:, :, :steps].max(axis=2) - 1 / len(bank)).all()
        assert (found[:, :, column] <= beyond[:, :, :steps].sum(axis=2) + steps / len(bank)).all()


def test_the_bundled_file_is_small_and_its_columns_are_evenly_spread() -> None:
    assert FILE.stat().st_size < 64 << 10
    bank = np.sort(path_events().bank, axis=0)
    assert np.allclose(bank, (np.arange(len(bank))[:, None] + 0.5) / len(bank), atol=1e-6)


def test_farther_thresholds_are_never_likelier() -> None:
    found = ordered(np.random.default_rng(0).uniform(size=(50, 4, 4)))
    assert (np.diff(found, axis=2) >= 0).all()
    assert (found[:, 0] <= found[:, 1]).all()
    assert (found[:, 3] <= found[:, 2]).all()


def test_fit_and_score_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.training.alert_fit.STEPS_OF_FIT", 200)
    events = fit_path_events(fans(700), [fans(700, 1)])
    save(events, tmp_path / "events.safetensors", "CC-BY-4.0")
    with safe_open(tmp_path / "events.safetensors", "numpy") as written:
        assert written.metadata() == {"licence": "CC-BY-4.0"}
    found = {"study": "wave", "people": 1, **score(fans(1500, 2), events)}
    json.dumps(found)
    assert max(each["ece"] for each in found["reliability"] if each["minutes"] == 15) < 0.2
    at_one = {name: one["at"]["1"] for name, one in found["curves"]["low"].items()}
    assert set(at_one) == {"glucast", "fixed level", "line, 20 min", "median within 30 min"}
    assert "| balanced | low |" in markdown(found)
