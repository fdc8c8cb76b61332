"""The other forecasters, and how one is chosen."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from agents.core.forecaster import Forecaster, Windows
from agents.models.checkpoint_file import checkpoint_fingerprint
from agents.models.choice import Choice
from agents.models.gluformer.checkpoint import Scaler, save_checkpoint
from agents.models.gluformer.config import GluformerConfig
from agents.models.load import choice_of, load_forecaster
from agents.models.persistence import Persistence
from agents.models.regression import Regression, regressors
from schemas.errors import CheckpointError, ConfigurationError
from streams.settings import Settings
from tests.kit.processes import printed

ENDS = np.array(["2026-01-01T12:00:00", "2026-01-01T12:05:00"], dtype="datetime64[s]")
PAST = np.stack([np.linspace(100, 150, 96), np.linspace(200, 90, 96)]).astype(np.float32)
WINDOWS = Windows(PAST, ENDS)
SEEDS = [bytes(32), b"\x01" * 32]


def ridge(path: Path) -> Path:
    weight = np.zeros((12, 96), dtype=np.float32)
    weight[:, -1], weight[:, -2] = 2.0, -1.0
    save_checkpoint(
        path,
        config=GluformerConfig(),
        members=[],
        scaler=Scaler("fixed", 120.0, 40.0),
        residual_sd=np.linspace(0.1, 1.2, 12),
        regression=Regression(weight, np.full(12, 5.0, dtype=np.float32)),
        provenance={},
        licence="MIT",
    )
    return path


def test_persistence_repeats_the_last_value() -> None:
    draws = load_forecaster("persistence").sample(WINDOWS, SEEDS, 3)
    assert draws.samples_mgdl.shape == (2, 3, 12)
    assert np.array_equal(np.unique(draws.samples_mgdl[0]), [150.0])
    assert not draws.residual_sd_mgdl.any()
    wide = Persistence(np.arange(12.0))
    assert np.array_equal(wide.sample(WINDOWS, SEEDS, 1).residual_sd_mgdl[1], np.arange(12.0))
    assert wide.fingerprint != load_forecaster("persistence").fingerprint


def test_ridge_is_the_linear_skip_of_a_checkpoint(tmp_path: Path) -> None:
    forecaster = load_forecaster("ridge", Choice(checkpoint=ridge(tmp_path / "r.safetensors")))
    draws = forecaster.sample(WINDOWS, SEEDS, 2)
    np.testing.assert_allclose(draws.samples_mgdl[:, 0, 0], 2 * PAST[:, -1] - PAST[:, -2] + 5.0, rtol=1e-5)
    np.testing.assert_allclose(draws.residual_sd_mgdl[0], 40.0 * np.linspace(0.1, 1.2, 12), rtol=1e-5)
    assert forecaster.name == "ridge"


def test_bends_are_what_lies_above_levels_and_earlier_values_and_the_extremes() -> None:
    past = np.full((2, 96), 100.0, dtype=np.float32)
    past[0, -1], past[0, -2], past[0, -20], past[0, 0] = 150.0, 160.0, 60.0, 300.0
    rows = regressors(past, 106)
    assert np.array_equal(rows[:, :96], past)
    assert rows[0, 96:].tolist() == [10, 0, 0, 50, 50, 50, 160, 160, 100, 60]
    assert rows[1, 96:].tolist() == [0, 0, 0, 0, 0, 0, 100, 100, 100, 100]
    assert regressors(past, 96) is past


def test_every_forecaster_checks_its_seeds(tmp_path: Path) -> None:
    for forecaster in (Persistence(), load_forecaster("ridge", Choice(checkpoint=ridge(tmp_path / "r.safetensors")))):
        with pytest.raises(ValueError, match="2 windows need as many seeds, not 1"):
            forecaster.sample(WINDOWS, SEEDS[:1], 2)


def test_windows_check_their_shapes() -> None:
    with pytest.raises(ValueError, match="past_mgdl must be"):
        Windows(PAST[:, 1:], ENDS)
    with pytest.raises(ValueError, match="2 windows but end_times"):
        Windows(PAST, ENDS[:1])


def test_choices_that_cannot_work() -> None:
    with pytest.raises(ConfigurationError, match="'oracle' is unknown"):
        load_forecaster("oracle")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="needs a repository"):
        load_forecaster(choice=Choice(checkpoint="huggingface"))


def test_settings_say_which_forecaster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUCAST_FORECASTER", "ridge")
    monkeypatch.setenv("GLUCAST_CHECKPOINT", str(ridge(tmp_path / "r.safetensors")))
    assert load_forecaster(Settings().model.forecaster, choice_of(Settings().model)).name == "ridge"
    monkeypatch.setenv("GLUCAST_CHECKPOINT", "huggingface")
    monkeypatch.setenv("GLUCAST_HUGGINGFACE_REVISION", "0" * 40)
    monkeypatch.setenv("GLUCAST_HUGGINGFACE_SHA256", "1" * 64)
    assert choice_of(Settings().model).published.revision == "0" * 40


def test_telling_models_apart_needs_neither_torch_nor_darts(tmp_path: Path) -> None:
    program = (
        "import sys; from agents.models.choice import Choice; from agents.models.load import load_forecaster; "
        "from agents.models.checkpoint_file import checkpoint_fingerprint; "
        "checkpoint_fingerprint(sys.argv[1]); load_forecaster('persistence'); "
        "load_forecaster('ridge', Choice(checkpoint=sys.argv[1])); "
        "print(' '.join({'torch', 'darts', 'pandas', 'huggingface_hub', 'polars'} & set(sys.modules)))"
    )
    path = ridge(tmp_path / "r.safetensors")
    assert printed(program, str(path)) == "\n"
    assert len(checkpoint_fingerprint(path)) == 64


@pytest.mark.skipif(find_spec("darts") is None, reason="Darts is not installed: pip install 'glucast[train]'")
@pytest.mark.filterwarnings("ignore")
def test_a_saved_darts_model_draws_with_its_dropout(tmp_path: Path) -> None:
    from darts import TimeSeries
    from darts.models import NHiTSModel

    quiet = {"enable_progress_bar": False, "logger": False, "accelerator": "cpu", "enable_model_summary": False}
    model = NHiTSModel(
        96, 12, num_layers=1, layer_widths=8, dropout=0.2, n_epochs=1, random_state=0, pl_trainer_kwargs=quiet
    )
    values = 120 + 30 * np.sin(np.arange(150) / 12)
    model.fit(TimeSeries.from_values(values.astype(np.float32)), verbose=False)
    path = tmp_path / "nhits.pt"
    model.save(str(path))
    forecaster: Forecaster = load_forecaster("darts", Choice(checkpoint=path))
    forecaster.warm_up()
    draws = forecaster.sample(WINDOWS, SEEDS, 5)
    assert draws.samples_mgdl.shape == (2, 5, 12)
    assert draws.samples_mgdl.std(axis=1).min() > 0.0
    alone = forecaster.sample(Windows(PAST[1:], ENDS[1:]), SEEDS[1:], 5)
    assert np.array_equal(alone.samples_mgdl[0], draws.samples_mgdl[1])
    path.write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="no Torch model"):
        load_forecaster("darts", Choice(checkpoint=path))
