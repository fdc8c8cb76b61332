"""The comparison of inference: what it imports, what it counts, what it prints. It times nothing here."""

import sys

import pytest
import torch

from deploy.bench import inference
from deploy.bench.inference import Comparison, Timing
from schemas.errors import ConfigurationError

FOUND = Comparison(32, 10, Timing(10.0, 8.0, 4 << 30), Timing(1.0, 1.0, 1 << 30, "bf16"), Timing(0.9, 0.75, 1 << 30))


def test_ratios() -> None:
    assert (FOUND.speed_up, FOUND.cpu_speed_up, FOUND.rss_share, FOUND.floor_share) == (10.0, 8.0, 0.25, 0.75)
    text = inference.describe([FOUND])
    assert "bf16: 10.0x faster (CPU time 8.0x), 0.25 of the memory, 75% of its time" in text


def test_without_the_reference_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "reference_available", lambda: False)
    with pytest.raises(ConfigurationError, match="pip install --no-deps glucosedao-glucobench"):
        inference.run()


@pytest.mark.skipif(not inference.reference_available(), reason="the reference package is not installed")
def test_importing_the_reference_leaves_no_stand_ins_behind() -> None:
    before = {name: sys.modules.get(name) for name in ("optuna", "darts", "torch.utils.tensorboard")}
    assert issubclass(inference.reference_network(), torch.nn.Module)
    assert {name: sys.modules.get(name) for name in before} == before


def test_the_floor_repeats_every_matrix_product_of_a_chunk() -> None:
    """Counted by the shapes: about 1.2 GFLOP a draw for the published sizes."""
    from torch.utils.flop_counter import FlopCounterMode

    engine = inference._engine("fp32")
    with torch.inference_mode(False), FlopCounterMode(display=False) as counter:
        inference._products_alone(engine, windows=1, samples=1)()
    alone = counter.get_total_flops()
    assert 1.1e9 < alone / 2 < 1.4e9  # recorded once while drawing, once when repeated


def test_a_checkpoint_is_timed_as_it_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(what: str, windows: int, samples: int, *_: object) -> Timing:
        asked.append((what, windows, samples))
        return Timing(0.064, 0.032, 1 << 28)

    monkeypatch.setattr(inference, "_in_child", measured)
    found = inference.run_checkpoints(["bundled", "other.safetensors"], ((32, 10),))
    assert asked == [("checkpoint bundled", 32, 10), ("checkpoint other.safetensors", 32, 10)]
    assert "1.00 ms    256 MiB  other.safetensors" in inference.describe_checkpoints(found)
    work = inference._checkpoint_work("bundled", 2, 3, "fp32", torch.get_num_threads())
    assert work().samples_mgdl.shape == (2, 3, 12)
