"""The MLP: what it reads, its file, and the same bits whatever the batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.core.calibration import Calibration
from agents.core.forecaster import Windows
from agents.models.choice import Choice
from agents.models.load import load_forecaster
from agents.models.mlp.checkpoint import LinearAnchor, MlpCheckpoint, expected_shapes, load_mlp, save_mlp
from agents.models.mlp.config import MlpConfig
from agents.models.mlp.engine import MlpEngine
from agents.models.mlp.features import (
    DAY_HOURS,
    HISTORY_WIDTH,
    LAGS_WIDTH,
    WIDTH,
    features,
    history_features,
)
from agents.models.mlp.network import Mlp
from agents.models.regression import Regression
from agents.models.sealed_file import sealed
from agents.training.train_mlp import in_half, stacked
from schemas.errors import CheckpointError
from schemas.grid import PAST_HOURS

SMALL = MlpConfig(width=24, blocks=2)
SERVED = MlpConfig()
SEVERAL = MlpConfig(width=24, members=3)


def windows(count: int) -> Windows:
    rng = np.random.default_rng(5)
    ends = np.datetime64("2026-02-28T22:00:00", "s") + np.arange(count) * np.timedelta64(300, "s")
    past = rng.uniform(60.0, 250.0, (count, 96)).astype(np.float32)
    hours = rng.uniform(60.0, 250.0, (count, PAST_HOURS)).astype(np.float32)
    known = rng.integers(PAST_HOURS + 1, size=count)
    hours[np.arange(PAST_HOURS) < PAST_HOURS - known[:, None]] = np.nan
    return Windows(past, ends, hours)


def part(whole: Windows, *rows: int) -> Windows:
    return whole.rows(np.array(rows))


def seeds(count: int) -> list[bytes]:
    return [place.to_bytes(32, "little") for place in range(1, count + 1)]


def networks(config: MlpConfig) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    each = [{name: value.numpy() for name, value in Mlp(config).state_dict().items()} for _ in range(config.members)]
    return each[0] if config.members == 1 else stacked(each)


def checkpoint(config: MlpConfig = SMALL, **changes: Any) -> MlpCheckpoint:
    whole = windows(50)
    read = features(whole)
    anchor = LinearAnchor(
        Regression(np.eye(12, 96, 84, dtype=np.float32), np.zeros(12, np.float32)), np.linspace(1, 12, 12, dtype="f4")
    )
    fields: dict[str, Any] = {
        "network": networks(config),
        "feature_centre": read.mean(axis=0),
        "feature_scale": np.maximum(read.std(axis=0), 1.0),
        "step_scale_mgdl": np.linspace(3.0, 30.0, 12, dtype=np.float32),
        "anchor": anchor,
        "calibration": Calibration.identity(),
        "provenance": {"studies": ["a"]},
        "licence": "CC-BY-4.0",
        "fingerprint": "f" * 64,
    }
    return MlpCheckpoint(config, **(fields | changes))


def engine(made: MlpCheckpoint, **options: Any) -> MlpEngine:
    return MlpEngine(made, **({"device": "cpu"} | options))


def test_features_are_of_the_row_alone_and_see_the_clock() -> None:
    whole = windows(9)
    read = features(whole)
    assert read.shape == (9, WIDTH)
    assert read.dtype == np.float32
    one = part(whole, 4)
    alone = features(one)
    assert np.array_equal(read[4], alone[0])
    later = features(replace(one, end_times=one.end_times + np.timedelta64(6, "h")))
    assert np.flatnonzero(later[0] != alone[0]).tolist() == list(range(LAGS_WIDTH - 4, LAGS_WIDTH))
    raised = features(replace(one, past_mgdl=one.past_mgdl + np.float32(32)))
    np.testing.assert_allclose(raised[0, :95], alone[0, :95], atol=1e-3)
    assert raised[0, 95] == alone[0, 95] + 32


def test_features_of_the_week_before_say_what_is_known() -> None:
    last = np.array([150.0], np.float32)
    nothing = history_features(last, np.full((1, PAST_HOURS), np.nan, np.float32))
    assert nothing.tolist() == [[0.0] * HISTORY_WIDTH]
    assert np.array_equal(features(replace(windows(3), hours_mgdl=None))[0, LAGS_WIDTH:], nothing[0])
    hours = np.full((1, PAST_HOURS), 100.0, np.float32)
    hours[0, -DAY_HOURS::-24] = 190.0  # the hour that comes next, on each day
    hours[0, 0] = np.nan
    found = history_features(last, hours)[0]
    assert found[:DAY_HOURS].tolist() == [40.0] + [-50.0] * (DAY_HOURS - 1)
    assert found[DAY_HOURS + 8 :].tolist() == pytest.approx([0.0, 7 / 167, 40.0, 90.0, 1.0, 167 / 168])
    assert found[DAY_HOURS + 2 : DAY_HOURS + 4].tolist() == [-50.0, 40.0]


def test_the_week_before_changes_the_forecast_and_its_absence_does_not_stop_it() -> None:
    model = engine(checkpoint())
    whole = windows(3)
    known = model.sample(whole, seeds(3), 5).samples_mgdl
    unknown = model.sample(replace(whole, hours_mgdl=None), seeds(3), 5).samples_mgdl
    assert np.isfinite(unknown).all()
    assert not np.array_equal(known, unknown)


@pytest.mark.parametrize(
    "config", [SMALL, SERVED, SEVERAL, MlpConfig(members=5)], ids=["small", "served", "several", "five"]
)
def test_bits_do_not_depend_on_batch_mates(config: MlpConfig) -> None:
    model = engine(checkpoint(config))
    whole, keys = windows(64), seeds(64)
    alone = model.sample(part(whole, 2), keys[2:3], 10)
    assert np.isfinite(alone.samples_mgdl).all()
    for count in (7, 64):
        together = model.sample(part(whole, *range(count)), keys[:count], 10)
        assert np.array_equal(together.samples_mgdl[2], alone.samples_mgdl[0])
        assert np.array_equal(together.residual_sd_mgdl[2], alone.residual_sd_mgdl[0])
    backwards = model.sample(part(whole, 2, 1, 0), [keys[2], keys[1], keys[0]], 10)
    assert np.array_equal(backwards.samples_mgdl[0], alone.samples_mgdl[0])


def test_chunks_of_several_windows_keep_rows_independent_and_agree_with_the_served_ones() -> None:
    whole, keys = windows(11), seeds(11)
    bulk = engine(checkpoint(), windows_a_product=4)
    together = bulk.sample(whole, keys, 5).samples_mgdl
    alone = [bulk.sample(part(whole, row), keys[row : row + 1], 5).samples_mgdl[0] for row in range(11)]
    assert np.array_equal(together, np.stack(alone))
    np.testing.assert_allclose(together, engine(checkpoint()).sample(whole, keys, 5).samples_mgdl, atol=1e-2)


def test_another_seed_other_draws_and_all_draws_differ_beyond_one_pass() -> None:
    model = engine(checkpoint())
    first = model.sample(windows(1), seeds(1), 20).samples_mgdl[0]
    other = model.sample(windows(1), seeds(2)[1:], 20).samples_mgdl[0]
    assert len({row.tobytes() for row in np.concatenate([first, other])}) == 40


def test_draws_are_dropout_around_the_network_and_the_spread_is_the_laplace_noise() -> None:
    made = checkpoint()
    network = Mlp(SMALL).eval()
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in made.network.items()})
    whole = windows(1)
    read = np.clip((features(whole) - made.feature_centre) / made.feature_scale, -8, 8)
    torch.manual_seed(1)
    with torch.inference_mode():
        rows = torch.from_numpy(read).expand(4000, -1)
        change, log_scale = network(rows, lambda x: torch.nn.functional.dropout(x, SMALL.dropout))
    wanted = whole.past_mgdl[0, -1] + made.step_scale_mgdl * change.numpy()
    found = engine(made).sample(whole, seeds(1), 4000)
    error = np.sqrt((wanted.var(axis=0) + found.samples_mgdl[0].var(axis=0)) / 4000)
    assert np.all(np.abs(found.samples_mgdl[0].mean(axis=0) - wanted.mean(axis=0)) <= 5.0 * error)
    np.testing.assert_allclose(found.samples_mgdl[0].std(axis=0), wanted.std(axis=0), rtol=0.1)
    laplace_sd = np.sqrt(2.0 * np.mean(np.exp(2.0 * log_scale.numpy()), axis=0)) * made.step_scale_mgdl
    np.testing.assert_allclose(found.residual_sd_mgdl[0], laplace_sd, rtol=0.02)


def test_draws_come_from_the_members_in_turn() -> None:
    """Without dropout a draw is its member's own forecast, and the spread the root of the mean square of all."""
    config = replace(SEVERAL, dropout=0.0)
    made, whole = checkpoint(config), windows(4)
    own = [
        checkpoint(replace(config, members=1), network={name: value[member] for name, value in made.network.items()})
        for member in range(3)
    ]
    for options in ({}, {"windows_a_product": 4}):
        found = engine(made, **options).sample(whole, seeds(4), 20)
        each = [engine(one, **options).sample(whole, seeds(4), 1) for one in own]
        wanted = np.stack([each[draw % 3].samples_mgdl[:, 0] for draw in range(20)], axis=1)
        np.testing.assert_allclose(found.samples_mgdl, wanted, rtol=1e-6)
        squares = [np.square(each[draw % 3].residual_sd_mgdl) for draw in range(20)]
        np.testing.assert_allclose(found.residual_sd_mgdl, np.sqrt(np.mean(squares, axis=0)), rtol=1e-5)
    assert np.abs(np.diff(wanted[:, :3], axis=1)).min(axis=-1).max() > 1e-3


def test_each_draw_of_each_member_has_a_mask_of_its_own() -> None:
    draws = engine(checkpoint(SEVERAL)).sample(windows(1), seeds(1), 40).samples_mgdl[0]
    assert len({row.tobytes() for row in draws}) == 40


def test_without_dropout_every_draw_is_the_network() -> None:
    draws = engine(checkpoint(MlpConfig(width=24, dropout=0.0))).sample(windows(2), seeds(2), 3).samples_mgdl
    assert np.array_equal(draws[:, 0], draws[:, 2])


@pytest.mark.parametrize("config", [SMALL, SEVERAL], ids=["one", "several"])
def test_round_trip_and_what_is_served_of_it(config: MlpConfig, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    made = checkpoint(config)
    fingerprint = save_mlp(path, made)
    loaded = load_mlp(path)
    assert loaded.fingerprint == fingerprint
    assert (loaded.config, loaded.calibration, loaded.licence) == (config, Calibration.identity(), "CC-BY-4.0")
    forecaster = load_forecaster(choice=Choice(checkpoint=path, device="cpu"))
    assert forecaster.name == "mlp"
    assert forecaster.calibration == Calibration.identity()
    wanted = engine(made).sample(windows(2), seeds(2), 4)
    found = forecaster.sample(windows(2), seeds(2), 4)
    assert np.array_equal(found.samples_mgdl, wanted.samples_mgdl)
    again = tmp_path / "again.safetensors"
    assert save_mlp(again, made) == fingerprint


def test_networks_that_half_precision_holds_take_half_the_room_and_come_back_alike(tmp_path: Path) -> None:
    path, short = tmp_path / "m.safetensors", tmp_path / "short.safetensors"
    rounded = checkpoint(SERVED, network=in_half(networks(SERVED)))
    save_mlp(path, checkpoint(SERVED))
    save_mlp(short, rounded)
    assert path.stat().st_size - short.stat().st_size > 2 * 180_000 * 0.95
    loaded = load_mlp(short)
    assert all(
        value.dtype == np.float32 and np.array_equal(value, rounded.network[name])
        for name, value in loaded.network.items()
    )
    assert np.array_equal(
        engine(loaded).sample(windows(2), seeds(2), 4).samples_mgdl,
        engine(rounded).sample(windows(2), seeds(2), 4).samples_mgdl,
    )


def test_the_ridge_beside_it_can_be_served_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_mlp(path, checkpoint())
    ridge = load_forecaster("ridge", Choice(checkpoint=path))
    draws = ridge.sample(windows(2), seeds(2), 2)
    np.testing.assert_allclose(draws.samples_mgdl[:, 1], windows(2).past_mgdl[:, 84:], rtol=1e-5)
    np.testing.assert_allclose(draws.residual_sd_mgdl[0], np.linspace(1, 12, 12), rtol=1e-5)
    assert ridge.fingerprint != load_forecaster(choice=Choice(checkpoint=path, device="cpu")).fingerprint
    save_mlp(path, checkpoint(anchor=None))
    with pytest.raises(CheckpointError, match="holds no ridge regression"):
        load_forecaster("ridge", Choice(checkpoint=path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {}}, "missing, unknown or of another shape"),
        ({"feature_scale": np.zeros(WIDTH, np.float32)}, "must be positive"),
        ({"feature_centre": np.zeros(3, np.float32)}, "feature.centre must be"),
        ({"step_scale_mgdl": np.ones(11, np.float32)}, "step.scale must be"),
        ({"calibration": Calibration.identity(6)}, "calibration is for 6 steps"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checkpoint(**changes)


@pytest.mark.parametrize(
    "numbers", [{"width": 0}, {"blocks": 99}, {"dropout": 1.0}, {"features_version": 1}, {"members": 11}]
)
def test_configurations_that_cannot_be(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|features of version"):
        MlpConfig(**numbers)


def test_a_kind_that_is_not_known_and_a_file_of_the_other_kind(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(sealed({"network": "oracle"}, {"a": np.zeros(1, np.float32)}))
    with pytest.raises(CheckpointError, match="kind 'oracle'; this version knows gluformer and mlp"):
        load_forecaster(choice=Choice(checkpoint=path))
    path.write_bytes(sealed({}, {"a": np.zeros(1, np.float32)}))
    with pytest.raises(CheckpointError, match="holds a network of kind 'gluformer', not 'mlp'"):
        load_mlp(path)
    path.write_bytes(b"\x00" * 4)
    with pytest.raises(CheckpointError, match=r"truncated or not a \.safetensors"):
        load_forecaster(choice=Choice(checkpoint=path))


def test_the_shapes_that_are_checked_are_those_of_the_network() -> None:
    for config in (SMALL, SERVED, SEVERAL, MlpConfig(width=8, blocks=0)):
        state = {name: value.shape for name, value in networks(config).items()}
        assert expected_shapes(config) == state
