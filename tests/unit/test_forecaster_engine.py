"""The engine: the same bits whatever the batch, spreads, ensembles, chunks, copies, devices."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from agents.core.forecaster import Windows
from agents.models.engine import chosen_devices
from agents.models.gluformer.checkpoint import Checkpoint, Scaler
from agents.models.gluformer.config import GluformerConfig
from agents.models.gluformer.engine import GluformerEngine
from agents.models.gluformer.network import Gluformer
from agents.models.regression import Regression
from schemas.errors import ConfigurationError

TINY = GluformerConfig(d_model=16, n_heads=2, d_fcn=24)
BUNDLED_SIZE = GluformerConfig(d_model=64, n_heads=4, d_fcn=128)


def windows(count: int) -> Windows:
    rng = np.random.default_rng(5)
    ends = np.datetime64("2026-02-28T22:00:00", "s") + np.arange(count) * np.timedelta64(300, "s")
    return Windows(rng.uniform(60.0, 250.0, (count, 96)).astype(np.float32), ends)


def part(whole: Windows, *rows: int) -> Windows:
    return Windows(whole.past_mgdl[list(rows)], whole.end_times[list(rows)])


def seeds(count: int) -> list[bytes]:
    return [place.to_bytes(32, "little") for place in range(1, count + 1)]


def checkpoint(config: GluformerConfig = TINY, members: int = 1, **changes: Any) -> Checkpoint:
    torch.manual_seed(0)
    states = tuple(
        {name: value.numpy() for name, value in Gluformer(config).state_dict().items()} for _ in range(members)
    )
    fields: dict[str, Any] = {
        "scaler": Scaler("fixed", 120.0, 40.0),
        "residual_sd": np.full((members, 12), 0.5, dtype=np.float32),
        "fingerprint": "f" * 64,
    }
    return Checkpoint(config, states, **(fields | changes))


def engine(made: Checkpoint, **options: Any) -> GluformerEngine:
    return GluformerEngine(made, **({"device": "cpu"} | options))


@pytest.mark.parametrize(
    ("config", "precision"),
    [(BUNDLED_SIZE, "fp32"), (BUNDLED_SIZE, "bf16"), (GluformerConfig(), "fp32"), (GluformerConfig(), "bf16")],
    ids=["bundled-fp32", "bundled-bf16", "published-fp32", "published-bf16"],
)
def test_bits_do_not_depend_on_batch_mates(config: GluformerConfig, precision: str) -> None:
    model = engine(checkpoint(config), precision=precision)
    whole, keys = windows(64), seeds(64)
    alone = model.sample(part(whole, 2), keys[2:3], 2)
    assert np.isfinite(alone.samples_mgdl).all()
    for count in (7, 64):
        together = model.sample(part(whole, *range(count)), keys[:count], 2)
        assert np.array_equal(together.samples_mgdl[2], alone.samples_mgdl[0])
        assert np.array_equal(together.residual_sd_mgdl[2], alone.residual_sd_mgdl[0])
    backwards = model.sample(part(whole, 2, 1, 0), [keys[2], keys[1], keys[0]], 2)
    assert np.array_equal(backwards.samples_mgdl[0], alone.samples_mgdl[0])


def test_chunks_of_several_windows_as_on_a_gpu_keep_rows_independent() -> None:
    model = engine(checkpoint())
    model.copies[0].windows_a_chunk = 4
    whole, keys = windows(11), seeds(11)
    together = model.sample(whole, keys, 5)
    alone = [model.sample(part(whole, row), keys[row : row + 1], 5).samples_mgdl[0] for row in range(11)]
    assert np.array_equal(together.samples_mgdl, np.stack(alone))


def test_another_seed_other_draws_and_draws_differ() -> None:
    model = engine(checkpoint())
    first = model.sample(windows(1), seeds(1), 20).samples_mgdl[0]
    other = model.sample(windows(1), seeds(2)[1:], 20).samples_mgdl[0]
    assert len({row.tobytes() for row in np.concatenate([first, other])}) == 40


def test_precisions_agree() -> None:
    made = checkpoint(BUNDLED_SIZE)
    exact = engine(made, precision="fp32").sample(windows(3), seeds(3), 10).samples_mgdl
    rounded = engine(made, precision="bf16").sample(windows(3), seeds(3), 10).samples_mgdl
    assert np.abs(exact - rounded).max() < 0.2 * exact.std()
    assert not np.array_equal(exact, rounded)


def test_many_draws_run_in_bounded_passes_and_are_all_different() -> None:
    samples = engine(checkpoint()).sample(windows(1), seeds(1), 37).samples_mgdl
    assert samples.shape == (1, 37, 12)
    assert len({row.tobytes() for row in samples[0]}) == 37


def test_level_is_skip_plus_scaled_network() -> None:
    regression = Regression(np.eye(12, 96, 84, dtype=np.float32), np.full(12, 3.0, dtype=np.float32))
    made = checkpoint(regression=regression, residual=True)
    whole = windows(2)
    level = engine(made).mean(whole)[:, 0]
    plain = engine(checkpoint()).mean(whole)[:, 0]
    np.testing.assert_allclose(level - (whole.past_mgdl[:, 84:] + 3.0), plain - 120.0, atol=1e-3)


def test_window_scaling_follows_the_past_alone() -> None:
    made = checkpoint(scaler=Scaler("window"))
    whole = windows(1)
    moved = Windows(whole.past_mgdl * 2.0 + 10.0, whole.end_times)
    np.testing.assert_allclose(engine(made).mean(moved), engine(made).mean(whole) * 2.0 + 10.0, rtol=1e-4)
    draws = engine(made).sample(whole, seeds(1), 3)
    span = whole.past_mgdl.max() - whole.past_mgdl.min()
    np.testing.assert_allclose(draws.residual_sd_mgdl[0], 0.5 * span, rtol=1e-5)


def test_residual_spread_with_the_learned_log_variance() -> None:
    made = checkpoint(log_variance=True)
    network = Gluformer(TINY).eval()
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in made.members[0].items()})
    from agents.models.gluformer.marks import marks_of

    whole = windows(2)
    past = torch.from_numpy((whole.past_mgdl - 120.0) / 40.0)
    with torch.inference_mode():
        _, log_variance = network.forecast(past, torch.from_numpy(marks_of(whole.end_times)))
    wanted = 40.0 * 0.5 * np.exp(0.5 * log_variance.numpy())
    found = engine(made).sample(whole, seeds(2), 3).residual_sd_mgdl
    np.testing.assert_allclose(found, np.repeat(wanted, 12, axis=1), rtol=1e-4)


def test_members_share_the_draws_in_turn() -> None:
    made = checkpoint(members=3, residual_sd=np.array([[0.1] * 12, [0.2] * 12, [0.4] * 12], dtype=np.float32))
    both = engine(made).sample(windows(1), seeds(1), 7)
    first = checkpoint(members=3)
    alone = Checkpoint(TINY, first.members[:1], first.scaler, residual_sd=np.ones((1, 12), np.float32), fingerprint="a")
    assert np.array_equal(both.samples_mgdl[:, 0::3], engine(alone).sample(windows(1), seeds(1), 3).samples_mgdl)
    share = np.sqrt((3 * 0.1**2 + 2 * 0.2**2 + 2 * 0.4**2) / 7)
    np.testing.assert_allclose(both.residual_sd_mgdl, 40.0 * share, rtol=1e-5)


def test_stopping_between_chunks_leaves_the_rest_undone() -> None:
    model = engine(checkpoint())
    chunks = list(islice(model.stream(windows(5), seeds(5), 2), 2))
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 1), (1, 2)]
    assert model.stats()["windows_total"] == 2


def test_copies_take_turns_and_agree_with_one() -> None:
    made = checkpoint()
    several = engine(made, copies_per_device=3)
    assert np.array_equal(
        several.sample(windows(10), seeds(10), 3).samples_mgdl,
        engine(made).sample(windows(10), seeds(10), 3).samples_mgdl,
    )
    assert several.stats()["copies"] == 3


def test_cost_is_measured_before_the_first_batch() -> None:
    model = engine(checkpoint())
    assert model.stats()["seconds_per_sample"] == 0.0
    model.warm_up()
    assert 0.0 < model.stats()["seconds_per_sample"] < 6.0
    assert model.stats()["windows_total"] == 0
    model.sample(windows(3), seeds(3), 2)
    stats = model.stats()
    assert (stats["windows_total"], stats["samples_total"]) == (3, 6)
    assert stats["windows_per_busy_second"] > 0
    assert all(isinstance(value, float) for value in stats.values())


def test_nothing_in_nothing_out() -> None:
    draws = engine(checkpoint()).sample(windows(0), [], 4)
    assert draws.samples_mgdl.shape == (0, 4, 12)
    assert draws.residual_sd_mgdl.shape == (0, 12)


@pytest.mark.parametrize(("keys", "draws"), [(1, 3), (3, 3), (2, 0)])
def test_seeds_and_draws_are_checked(keys: int, draws: int) -> None:
    with pytest.raises(ValueError, match="2 windows need as many seeds"):
        engine(checkpoint()).sample(windows(2), seeds(keys), draws)


def test_fingerprint_tells_model_and_path_apart() -> None:
    made = checkpoint(BUNDLED_SIZE)
    prints = {
        engine(made, precision="fp32").fingerprint,
        engine(made, precision="bf16").fingerprint,
        engine(checkpoint(BUNDLED_SIZE, fingerprint="e" * 64), precision="fp32").fingerprint,
    }
    assert len(prints) == 3
    assert engine(made, precision="fp32").fingerprint in prints


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "tpu", "cuda:x"])
def test_a_missing_device_is_named(device: str) -> None:
    with pytest.raises(ConfigurationError, match="is not available: 0 GPUs"):
        chosen_devices(device)
    assert chosen_devices("auto") == [torch.device("cpu")]


def on_device(device: str, make: Callable[[], Checkpoint]) -> None:
    """What must hold on every device, run for the CPU always and for a GPU where there is one."""
    model = GluformerEngine(make(), device=device, precision="fp32", copies_per_device=2)
    model.warm_up(4)
    whole, keys = windows(19), seeds(19)
    together = model.sample(whole, keys, 4)
    alone = np.stack([model.sample(part(whole, row), keys[row : row + 1], 4).samples_mgdl[0] for row in range(19)])
    assert np.array_equal(together.samples_mgdl, alone)
    exact = engine(make(), precision="fp32")
    np.testing.assert_allclose(model.mean(whole), exact.mean(whole), rtol=1e-3)
    many = model.sample(part(whole, 0), keys[:1], 400).samples_mgdl[0]
    wanted = exact.sample(part(whole, 0), keys[:1], 400).samples_mgdl[0]
    error = np.sqrt((many.var(axis=0) + wanted.var(axis=0)) / 400)
    assert np.all(np.abs(many.mean(axis=0) - wanted.mean(axis=0)) <= 5.0 * error)


def test_the_cpu_does_what_every_device_must() -> None:
    on_device("cpu", checkpoint)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_does_what_every_device_must() -> None:
    on_device("cuda:0", checkpoint)
    stats = GluformerEngine(checkpoint(), device="cuda:0").stats()
    assert stats["vram_allocated_bytes"] > 0
