"""Leave one study out, in miniature: a run that resumes, what a held-out study must not touch, the report."""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from agents.core.calibration import Calibration
from agents.core.forecaster import Windows
from agents.models.mlp.checkpoint import load_mlp
from agents.models.mlp.config import MlpConfig
from agents.training.adaptation import adapted_error
from agents.training.calibrate import fit_calibration
from agents.training.darts_pool import DARTS, fit_darts, unbroken
from agents.training.fit_mlp import MlpFit, MlpSchedule, forgotten
from agents.training.lags import fit_boosted, fit_lag_ridge
from agents.training.metrics import Predictive
from agents.training.splits import Examples
from agents.training.studies import cut, judged_by
from agents.training.study_baselines import Baselines
from agents.training.study_evaluation import evaluate_studies
from agents.training.study_metrics import adaptation, bootstrap, figures, lows_seen, regimes, scored
from agents.training.table import Person, Pool, read_people
from agents.training.train_mlp import at_risk, train_mlp
from schemas.errors import ConfigurationError
from schemas.grid import PAST_HOURS

TINY = MlpConfig(width=16, blocks=1)
SHORT = MlpSchedule(steps=40, batch_size=64)
SIZES: dict[str, Any] = {"config": TINY, "schedule": SHORT, "trees": None}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies of four people, two days each: a slow wave and noise, some readings missing."""
    rng = np.random.default_rng(0)
    rows = []
    for study in ("A", "B", "C"):
        for subject in range(4):
            count = 500
            level = 150 + 50 * np.sin(np.arange(count) / rng.uniform(15, 30)) + np.cumsum(rng.normal(0, 1, count))
            kept = rng.random(count) > 0.02
            times = [
                datetime.datetime(2026, 1, 5) + datetime.timedelta(minutes=5 * int(slot))
                for slot in np.flatnonzero(kept)
            ]
            rows.append(
                pl.DataFrame(
                    {
                        "dataset": study,
                        "subject": f"{subject}",
                        "diabetes": "T1D",
                        "step_min": 5,
                        "time": times,
                        "mg_dl": level[kept].clip(40, 400),
                    }
                )
            )
    path = tmp_path_factory.mktemp("table") / "open.parquet"
    pl.concat(rows).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("run")
    train_mlp(out=home / "a.safetensors", data=data, work=home / "a", held_out="A", **SIZES)
    return home / "a.safetensors"


def test_the_same_seed_gives_the_same_file_and_another_another(data: Path, run: Path, tmp_path: Path) -> None:
    train_mlp(out=tmp_path / "b.safetensors", data=data, work=tmp_path / "b", held_out="A", **SIZES)
    assert (tmp_path / "b.safetensors").read_bytes() == run.read_bytes()
    train_mlp(out=tmp_path / "c.safetensors", data=data, work=tmp_path / "c", held_out="A", seed=1, **SIZES)
    assert (tmp_path / "c.safetensors").read_bytes() != run.read_bytes()
    with pytest.raises(ConfigurationError, match="other settings"):
        train_mlp(out=tmp_path / "d.safetensors", data=data, work=tmp_path / "b", **SIZES)


def test_a_stopped_run_goes_on_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    pool = Pool.of(read_people(data))
    schedule = MlpSchedule(steps=21, batch_size=8)
    whole, stopped = (
        MlpFit(pool, TINY, schedule, 3),
        MlpFit(pool, TINY, schedule, 3, tmp_path / "fit.pt", saved_every=20),
    )
    for _ in whole.run():
        pass
    assert next(stopped.run())[0] == 20
    again = MlpFit(pool, TINY, schedule, 3, tmp_path / "fit.pt")
    assert again.step == 20
    for _ in again.run():
        pass
    assert all(np.array_equal(again.weights()[name], value) for name, value in whole.weights().items())


def test_some_windows_of_each_step_are_of_people_who_came_later() -> None:
    past = np.full((4000, 96), 120.0, np.float32)
    whole = Windows(past, np.zeros(4000, "datetime64[s]"), np.full((4000, PAST_HOURS), 100.0, np.float32))
    known = np.isfinite(forgotten(whole, np.random.default_rng(0)).hours)
    assert np.mean(~known.any(axis=1)) == pytest.approx(0.125, abs=0.02)
    assert np.mean(known.all(axis=1)) == pytest.approx(0.625, abs=0.03)
    assert (np.diff(known.astype(int), axis=1) >= 0).all()  # the newest are known longest


def test_the_file_says_where_it_comes_from_and_holds_nothing_of_the_held_out_study(run: Path) -> None:
    made = load_mlp(run)
    assert made.calibration is not None
    assert made.calibration.lows is not None
    assert made.anchor is not None
    assert made.anchor.calibration.lows is None
    provenance = dict(made.provenance or {})
    assert provenance["studies"] == ["B", "C"]
    people = {*provenance["people"], *provenance["kept_back"]}
    assert len(people) == 8
    assert not any(name.startswith("A/") for name in people)


def test_lows_are_fitted_on_people_who_have_them(data: Path) -> None:
    people = read_people(data)[:3]
    sure = [dataclasses.replace(people[0], diabetes="T2D"), dataclasses.replace(people[1], step_minutes=15)]
    assert at_risk(sure) is None
    found = at_risk([*sure, people[2]])
    assert found is not None
    assert set(found.person) == {people[2].name}


def test_readings_of_the_held_out_study_change_nothing(data: Path, run: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(data)
    shifted = table.with_columns(
        mg_dl=pl.when(pl.col("dataset") == "A").then(pl.col("mg_dl") + 50).otherwise(pl.col("mg_dl"))
    )
    shifted.write_parquet(tmp_path / "other.parquet")
    train_mlp(
        out=tmp_path / "a.safetensors", data=tmp_path / "other.parquet", work=tmp_path / "a", held_out="A", **SIZES
    )
    assert (tmp_path / "a.safetensors").read_bytes() == run.read_bytes()


def test_one_call_trains_scores_and_writes_report_and_figures(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "data": data, "out": tmp_path / "report", "work": tmp_path / "work", "stride": 2, "boosted": False,
        "darts": False, "studies": ("A", "B"), **SIZES,
    }  # fmt: skip
    said: list[str] = []
    summary = evaluate_studies(**options, progress=said.append)
    text = (tmp_path / "report" / "studies.md").read_text(encoding="utf-8")
    for words in (
        "persistence",
        "ridge, 24 lags",
        "glucast",
        "Not a medical device",
        "A/0",
        "| mean |",
        "| corrected |",
    ):
        assert words in text
    written = json.loads((tmp_path / "report" / "studies.json").read_text())
    assert json.dumps(written) == json.dumps(summary)  # as text: what never happened is NaN
    for name in ("rmse", "reliability", "regimes"):
        assert (tmp_path / "report" / f"studies_{name}.png").stat().st_size > 5000
    found = summary["studies"]["A"]["forecasters"]
    assert found["glucast"]["people"] == 4
    assert found["ridge, 96 lags"]["all"]["rmse_mgdl"] < found["persistence"]["all"]["rmse_mgdl"]
    assert any("scoring glucast" in one for one in said)
    said.clear()
    assert json.dumps(evaluate_studies(**options, progress=said.append)) == json.dumps(summary)
    assert not any("scoring" in one for one in said)
    with pytest.raises(ConfigurationError, match="nobody of D"):
        evaluate_studies(**{**options, "studies": ("D",)}, progress=said.append)


def examples_of(last: np.ndarray, future: np.ndarray, person: list[str] | None = None) -> Examples:
    past = np.repeat(last[:, None], 96, axis=1).astype(np.float32)
    ends = np.full(last.size, np.datetime64("2026-01-05T02:00:00", "s"))
    names = np.array(person or ["A/0"] * last.size)
    return Examples(Windows(past, ends), future.astype(np.float32), names, np.zeros(last.size, dtype=np.int64))


def certain(mean: np.ndarray) -> Predictive:
    return Predictive(mean[:, None].astype(np.float32), np.full(mean.shape, 5.0, np.float32), Calibration.identity())


def test_what_was_not_measured_counts_nowhere() -> None:
    future = np.full((300, 12), 100.0)
    future[:, :11] = np.nan
    future[:150] = np.nan
    data = examples_of(np.full(300, 100.0), future)
    figure = figures(data, scored(data, certain(np.full((300, 12), 110.0))))
    assert figure["all"]["rmse_mgdl"] == pytest.approx(10.0, abs=1e-3)
    assert figure["at"]["60"]["mae_mgdl"] == pytest.approx(10.0, abs=1e-3)
    assert np.isnan(figure["at"]["30"]["mae_mgdl"])
    assert figure["all"]["in_90"] == 0.0
    assert sum(one["windows"] for one in figure["reliability"]["60"]["<70"]) == 150
    assert figure["reliability"]["30"]["<70"] == []


def test_squared_errors_are_of_the_mean_of_a_fan_and_absolute_ones_of_its_median() -> None:
    """Of many truths that are skewed the same way: no other number does better, in either."""
    rng = np.random.default_rng(0)
    truth = (120.0 + rng.gamma(1.0, 20.0, (1500, 12))).astype(np.float32)
    part = examples_of(np.full(1500, 120.0), truth)
    samples = np.full((1500, 2, 12), 120.0, np.float32)
    spread = np.full((1500, 12), 20.0, np.float32)
    found = figures(part, scored(part, Predictive(samples, spread, fit_calibration(samples, spread, truth))))
    assert found["at"]["60"]["mae_mgdl"] == pytest.approx(np.abs(truth[:, 11] - 120 - 20 * np.log(2)).mean(), rel=0.02)
    assert found["at"]["60"]["rmse_mgdl"] == pytest.approx(truth[:, 11].std(), rel=0.03)
    mean, median = found["numbers"]["60"].values()
    assert mean["rmse_mgdl"] == found["at"]["60"]["rmse_mgdl"] < median["rmse_mgdl"]
    assert median["mae_mgdl"] == found["at"]["60"]["mae_mgdl"] < mean["mae_mgdl"]
    one = scored(part, Predictive(samples[:, :1], spread, fit_calibration(samples[:, :1], spread, truth)))
    assert np.array_equal(one.error, one.mean_error)
    assert one.error[0, 0] == pytest.approx(120.0 - truth[0, 0])


def test_a_persons_correction_is_judged_by_the_same_numbers_as_all_else() -> None:
    """RMSE is of the mean and MAE of the median, as served and corrected: else the report has two of each."""
    data, _ = by_day(0.0, 3, "A/0")
    rng = np.random.default_rng(0)
    truth = (150.0 + rng.gamma(1.0, 20.0, data.future_mgdl.shape)).astype(np.float32)
    data = dataclasses.replace(data, future_mgdl=truth)
    samples, spread = np.full((len(truth), 2, 12), 150.0, np.float32), np.full((len(truth), 12), 20.0, np.float32)
    found = scored(data, Predictive(samples, spread, fit_calibration(samples, spread, truth)))
    own, one = figures(data, found), adaptation(data, found)
    for part, served in (("all", own["all"]), ("60", own["at"]["60"])):
        assert one[f"{part}, served"] == {key: served[key] for key in ("rmse_mgdl", "mae_mgdl")}
    mean, median = (adapted_error(data, error)[:, 11] for error in (found.mean_error, found.error))
    assert one["60, corrected"]["rmse_mgdl"] == pytest.approx(np.sqrt(np.mean(mean**2)))
    assert one["60, corrected"]["mae_mgdl"] == pytest.approx(np.abs(median).mean())


def test_a_baseline_is_trained_once_and_again_where_a_reading_differs(data: Path, tmp_path: Path) -> None:
    def said_of(people: list[Person]) -> tuple[list[str], list[np.ndarray]]:
        parts = cut(people, "A")
        calibrate, held_out = Pool.of(parts.calibrate).examples(), Pool.of(judged_by(people, "A")).examples()
        said: list[str] = []
        found = list(
            Baselines(0, 1, False, False).forecasts(parts, calibrate, held_out, tmp_path / "kept", said.append)
        )
        return said, [one.held_out for one in found]

    people = read_people(data)
    first, ahead = said_of(people)
    assert first == ["persistence", "ridge, 24 lags", "ridge, 96 lags"]
    (tmp_path / "kept" / "ridge, 24 lags.npz").unlink()
    again, as_kept = said_of(people)
    assert again == ["ridge, 24 lags"]
    assert all(np.array_equal(one, other) for one, other in zip(ahead, as_kept, strict=True))
    changed = [one if one.study == "A" else dataclasses.replace(one, mgdl=one.mgdl + 1) for one in people]
    other, elsewhere = said_of(changed)
    assert other == first
    assert not np.array_equal(elsewhere[2], ahead[2])


def test_reliability_compares_what_was_said_with_what_came() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(180.0, 5.0, (4000, 12))
    data = examples_of(np.full(4000, 170.0), truth)
    (middle,) = figures(data, scored(data, certain(np.full((4000, 12), 180.0))))["reliability"]["60"][">180"]
    assert middle["forecast"] == pytest.approx(0.5)
    assert middle["observed"] == pytest.approx(0.5, abs=0.03)


def test_lows_that_are_seen_at_one_half_and_at_a_given_precision() -> None:
    last = np.array([90.0] * 8 + [60.0] * 2)  # the last two are low already: no question
    truth = np.where(np.arange(10)[:, None] < 4, 60.0, 90.0) + np.zeros((1, 12))
    said = np.array([60, 60, 72, 72, 60, 74, 90, 90, 60, 60.0])
    data = examples_of(last, truth)
    found = scored(data, certain(said[:, None] + np.zeros((1, 12))))
    one = lows_seen(data, found)
    assert (one["lows"], one["warnings"], one["seen"]) == (4, 3, 0.5)
    assert one["precision"] == pytest.approx(2 / 3)
    more = lows_seen(data, found, at_precision=0.8)
    assert (more["seen"], more["precision"]) == (1.0, 0.8)
    assert lows_seen(data, found, at_precision=1.1)["seen"] == 0.0


def test_regimes_are_of_the_moment_of_the_forecast() -> None:
    data = examples_of(np.array([100.0, 75.0, 260.0, 100.0]), np.full((4, 12), 100.0))
    data.windows.past_mgdl[3, :-1] = 80.0
    found = {name: rows.tolist() for name, rows in regimes(data).items()}
    assert found["below 80"] == [False, True, False, False]
    assert found["above 250"] == [False, False, True, False]
    assert found["rising"] == [False, False, False, True]
    assert found["falling"] == [False] * 4
    assert found["night"] == [True] * 4


def test_intervals_are_over_people_and_paired() -> None:
    error = np.repeat([10.0, 20.0, 30.0], 50)
    data = examples_of(np.full(150, 100.0), np.full((150, 12), 100.0), [f"A/{n // 50}" for n in range(150)])
    base = scored(data, certain(100.0 + error[:, None] + np.zeros((1, 12))))
    half = scored(data, certain(100.0 + error[:, None] / 2 + np.zeros((1, 12))))
    found = bootstrap(data, {"base": base, "half": half}, "base", seed=0)
    low, high = found["base"]["mae_mgdl"]
    assert 9.9 < low < 20.0 < high < 30.1
    assert found["half"]["mae_change_percent"] == pytest.approx([-50.0, -50.0], abs=0.01)


def test_ridge_learns_from_the_targets_that_are_there(data: Path) -> None:
    pool = Pool.of(read_people(data))
    exact = np.full(pool.flat.size, np.nan, np.float32)
    exact[13:] = pool.flat[:-13]  # the target of step h is what was known 13 - h steps before the end
    exact[::7] = np.nan
    lawful = dataclasses.replace(pool, targets=exact)
    ridge = fit_lag_ridge(lawful, lawful)
    rows = np.arange(len(lawful))
    error = np.abs(ridge.predict(lawful.past(rows)) - lawful.future(rows))
    assert np.nanmean(error) < 0.5
    short = fit_lag_ridge(lawful, lawful, lags=24)
    assert not short.weight[:, :72].any()
    with pytest.raises(ValueError, match="too few"):
        fit_calibration(np.zeros((300, 1, 12)), np.ones((300, 12)), np.full((300, 12), np.nan))


def test_boosted_trees_beat_persistence(data: Path) -> None:
    pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install 'glucast[train]'")
    pool = Pool.of(read_people(data))
    part = pool.examples()
    error = np.abs(fit_boosted(pool, seed=0, threads=1)(part) - part.future_mgdl)
    still = np.abs(part.windows.past_mgdl[:, -1:] - part.future_mgdl)
    assert np.nanmean(error) < 0.8 * np.nanmean(still)


@pytest.mark.filterwarnings("ignore")
def test_darts_models_learn_from_the_pool(data: Path) -> None:
    pytest.importorskip("darts", reason="Darts is not installed: pip install 'glucast[train]'")
    people = read_people(data)[:4]
    part = Pool.of(people, stride=5).examples()
    still = np.nanmean(np.abs(part.windows.past_mgdl[:, -1:] - part.future_mgdl))
    for name in DARTS:
        forecast = fit_darts(name, people, seed=0, epochs=25)
        assert np.nanmean(np.abs(forecast(part) - part.future_mgdl)) < still


def test_a_run_ends_where_nothing_is_known() -> None:
    mgdl = np.full(400, 120.0, np.float32)
    mgdl[[0, 150, 200]] = np.nan
    assert [run.size for run in unbroken(mgdl)] == [149, 199]


def by_day(error: float, days: int, person: str) -> tuple[Examples, np.ndarray]:
    """A forecast that is always as wrong, every quarter of an hour."""
    count = 96 * days
    data = examples_of(np.full(count, 150.0), np.full((count, 12), 150.0), [person] * count)
    ends = np.datetime64("2026-01-05T00:00:00", "s") + np.arange(count) * np.timedelta64(900, "s")
    windows = Windows(data.windows.past_mgdl, ends)
    return dataclasses.replace(data, windows=windows), np.full((count, 12), error)


def test_a_persons_correction_learns_what_is_always_wrong_and_from_the_past_alone() -> None:
    data, error = by_day(20.0, 3, "A/0")
    corrected = adapted_error(data, error)
    assert (corrected[:4] == 20.0).all()  # no hour is over yet
    assert (np.diff(corrected[:, 0]) <= 0.0).all()
    assert np.abs(corrected[-1]).max() < 5.0
    later = error.copy()
    later[100:] = np.nan
    np.testing.assert_array_equal(adapted_error(data, later)[:100], corrected[:100])
    assert np.isnan(adapted_error(data, later)[100:]).all()
    other, wrong = by_day(-20.0, 3, "A/1")
    both = dataclasses.replace(
        data,
        windows=Windows(
            *(
                np.concatenate(pair)
                for pair in (
                    (data.windows.past_mgdl, other.windows.past_mgdl),
                    (data.windows.end_times, other.windows.end_times),
                )
            )
        ),
        future_mgdl=np.concatenate([data.future_mgdl, other.future_mgdl]),
        person=np.concatenate([data.person, other.person]),
        series=np.concatenate([data.series, other.series]),
    )
    np.testing.assert_array_equal(adapted_error(both, np.concatenate([error, wrong]))[: len(data)], corrected)
