"""`glucast evaluate recalibration`: people of a study, through the scorekeeping of the stream."""

import datetime
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from agents.training.cli import app
from agents.training.recalibration_evaluation import evaluate_recalibration
from schemas.errors import ConfigurationError
from schemas.grid import STEPS_A_DAY

STUDY = "AZT1D"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two and a half days of one person who swings slowly and noisily."""
    steps = np.arange(int(2.5 * STEPS_A_DAY))
    glucose = 130 + 40 * np.sin(steps / 25) + np.random.default_rng(1).normal(0, 8, steps.size).cumsum() * 0.2
    start = datetime.datetime(2026, 1, 1)
    rows = pl.DataFrame(
        {
            "dataset": STUDY, "subject": "one", "diabetes": "T1D", "step_min": 5,
            "time": [start + datetime.timedelta(minutes=5 * int(step)) for step in steps],
            "mg_dl": np.clip(np.round(glucose), 60, 300),
        }
    )  # fmt: skip
    path = tmp_path_factory.mktemp("table") / "open.parquet"
    rows.write_parquet(path)
    return path


def test_a_person_is_judged_before_and_after(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    arguments = ["evaluate", "recalibration", "--data", str(table), "--study", STUDY, "--checkpoint", "bundled"]
    done = CliRunner().invoke(app, [*arguments, "--days", "3", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "1 people, " in done.output
    assert "published fan" in done.output
    figures = json.loads(out.read_text())["fans"]
    base, published = (figures[name]["people"][f"{STUDY}/one"] for name in ("base", "published"))
    assert base != published
    off = [abs(fan["in_90_at_60"] - 0.9) for fan in (published, base)]
    assert off[0] <= off[1], "a fan that is fitted to the person is no further from what it claims"
    assert figures["published"]["ages"]["6-24 h"]["width_90_at_60"] > 0


def test_a_study_without_anybody_is_told(table: Path) -> None:
    with pytest.raises(ConfigurationError, match="nobody of T1D-UOM"):
        evaluate_recalibration(data=table, study="T1D-UOM", checkpoint="bundled", days=3)
