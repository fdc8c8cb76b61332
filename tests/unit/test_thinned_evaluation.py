"""`glucast evaluate thinned`: the same hours as measured, and with readings left out, judged by the same truth."""

import datetime
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from agents.training.cli import app
from agents.training.studies import GLUCOBENCH_HALL
from agents.training.table import Person, read_people
from agents.training.thinned_evaluation import PATTERNS, evaluate_thinned, thinned
from schemas.errors import ConfigurationError
from schemas.grid import PAST_POINTS, STEPS_A_DAY


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two and a half days of one person whom the bundled network has not seen, who swings within the hour."""
    steps = np.arange(int(2.5 * STEPS_A_DAY))
    glucose = 130 + 45 * np.sin(steps / 4) + np.random.default_rng(1).normal(0, 3, steps.size)
    start = datetime.datetime(2026, 1, 1)
    study, _, subject = min(GLUCOBENCH_HALL).partition("/")
    rows = pl.DataFrame(
        {
            "dataset": study, "subject": subject, "diabetes": "T1D", "step_min": 5,
            "time": [start + datetime.timedelta(minutes=5 * int(step)) for step in steps],
            "mg_dl": np.clip(np.round(glucose), 60, 300),
        }
    )  # fmt: skip
    path = tmp_path_factory.mktemp("table") / "open.parquet"
    rows.write_parquet(path)
    return path


@pytest.mark.parametrize("count", PATTERNS)
def test_so_many_points_of_every_window_lie_on_the_line_between_readings(table: Path, count: int) -> None:
    (person,) = read_people(table)
    slow = thinned(person, PATTERNS[count])
    assert slow.ends.size > 100
    for end in slow.ends[:20]:
        assert (~slow.measured[end - PAST_POINTS + 1 : end + 1]).sum() == count
    known = np.flatnonzero(slow.measured)
    straight = np.interp(np.arange(known[0], known[-1] + 1), known, person.mgdl[known])
    np.testing.assert_allclose(slow.mgdl[known[0] : known[-1] + 1], straight, atol=0.006)


def test_the_same_windows_are_judged_both_ways(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PATTERNS, 0, (True,))  # nothing is left out
    out = tmp_path / "thinned.json"
    done = CliRunner().invoke(app, ["evaluate", "thinned", "--data", str(table), "--windows", "60", "--out", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())["thinned"]
    assert [*found] == ["32", "48", "64", "0"]
    for count, one in found.items():
        assert (one["windows"], one["people"]) == (60, 1)
        assert f"| {count} of 96 | 60 | 15 | " in done.output
        assert 0 <= one["in_90_fitted"]["30"]["published"] <= 1
        assert (one["interpolated"] == one["measured"]) == (count == "0")


def test_a_table_of_nobody_unseen_is_told(tmp_path: Path, table: Path) -> None:
    path = tmp_path / "seen.parquet"
    pl.read_parquet(table).with_columns(subject=pl.lit("seen")).write_parquet(path)
    with pytest.raises(ConfigurationError, match="eight unbroken hours"):
        evaluate_thinned(data=path, windows=10)


def test_of_a_person_without_such_readings_nothing_is_left() -> None:
    never = Person("study", "one", "T1D", 5, 1, np.full(5, 100, np.float32), np.zeros(5, bool))
    assert thinned(never, (True, False)).ends.size == 0
