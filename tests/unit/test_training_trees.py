"""Training with trees beside the network, in miniature: the same file again, a run that goes on, what they learn."""

import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from agents.models.mlp.checkpoint import load_mlp
from agents.models.mlp.config import MlpConfig
from agents.models.mlp.tree_features import tree_features
from agents.training.fit_mlp import MlpSchedule
from agents.training.fit_trees import TreesSchedule
from agents.training.table import Pool, read_people
from agents.training.train_mlp import train_mlp
from schemas.errors import ConfigurationError

FEW = TreesSchedule(trees=5, leaves=4, windows=1500, windows_a_leaf=20, learning_rate=0.3, share=0.5)
SIZES: dict[str, Any] = {
    "config": MlpConfig(width=16, blocks=1), "schedule": MlpSchedule(steps=20, batch_size=64), "trees": FEW,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies of four people, two days each: a wave and noise."""
    rng = np.random.default_rng(0)
    start = datetime.datetime(2026, 1, 5)
    rows = []
    for study in ("A", "B"):
        for subject in range(4):
            level = 150 + 50 * np.sin(np.arange(500) / rng.uniform(15, 30)) + np.cumsum(rng.normal(0, 1, 500))
            times = [start + datetime.timedelta(minutes=5 * slot) for slot in range(500)]
            columns = {"dataset": study, "subject": f"{subject}", "diabetes": "T1D", "step_min": 5, "time": times}
            rows.append(pl.DataFrame(columns | {"mg_dl": level.clip(40, 400)}))
    path = tmp_path_factory.mktemp("table") / "open.parquet"
    pl.concat(rows).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def work(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lightgbm", reason="LightGBM is not installed: pip install 'glucast[train]'")
    home = tmp_path_factory.mktemp("run")
    train_mlp(out=home / "a.safetensors", data=data, work=home, **SIZES)
    return home


def test_a_run_that_was_stopped_among_the_trees_ends_in_the_same_file(data: Path, work: Path, tmp_path: Path) -> None:
    for name in ("settings.json", "mlp-0.pt", *(f"trees-0-{step}.txt" for step in range(12)), "trees-1-0.txt"):
        (tmp_path / name).write_bytes((work / name).read_bytes())
    (tmp_path / "trees-1-1.part").write_text("tree\nversion=v4\n")
    train_mlp(out=tmp_path / "b.safetensors", data=data, work=tmp_path, **SIZES)
    assert (tmp_path / "b.safetensors").read_bytes() == (work / "a.safetensors").read_bytes()
    train_mlp(out=tmp_path / "c.safetensors", data=data, work=tmp_path / "c", seed=1, **SIZES)
    assert (tmp_path / "c.safetensors").read_bytes() != (work / "a.safetensors").read_bytes()
    with pytest.raises(ConfigurationError, match="other settings"):
        train_mlp(out=tmp_path / "d.safetensors", data=data, work=tmp_path, **SIZES | {"trees": None})


def test_they_learn_the_change_and_the_fan_is_calibrated_with_them(data: Path, work: Path, tmp_path: Path) -> None:
    made = load_mlp(work / "a.safetensors")
    assert made.beside is not None
    assert (made.beside.share, made.beside.trees.a_step) == (0.5, 10)
    assert dict(made.provenance or {})["settings"]["trees"]["leaves"] == 4
    pool = Pool.of(read_people(data))
    rows = np.arange(0, len(pool), 7)
    windows = pool.windows(rows)
    change = pool.future(rows) - windows.past_mgdl[:, -1:]
    error = np.abs(made.beside.trees.change(tree_features(windows)) - change)
    assert np.all(np.nanmean(error, axis=0)[5:] < 0.8 * np.nanmean(np.abs(change), axis=0)[5:])
    train_mlp(out=tmp_path / "alone.safetensors", data=data, work=tmp_path, **SIZES | {"trees": None})
    alone = load_mlp(tmp_path / "alone.safetensors")
    assert alone.beside is None
    assert all(np.array_equal(alone.network[name], value) for name, value in made.network.items())
    assert made.calibration is not None
    assert made.calibration != alone.calibration


def test_without_lightgbm_nothing_is_trained_before_it_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'glucast\[train\]', or train without --trees"):
        train_mlp(out=tmp_path / "a.safetensors", data=data, work=tmp_path / "w", **SIZES)
    assert not (tmp_path / "w").exists()
