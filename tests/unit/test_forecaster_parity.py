"""The network, and the engine's rearrangement of it, against the published implementation with the same weights."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from agents.models.dropout import HostMasks, NoDropout, threshold_of
from agents.models.gluformer.checkpoint import expected_shapes
from agents.models.gluformer.config import GluformerConfig
from agents.models.gluformer.network import Gluformer
from agents.models.gluformer.served_network import ServedNetwork
from deploy.bench.inference import reference_available, reference_network

needs_reference = pytest.mark.skipif(
    not reference_available(), reason="pip install --no-deps glucosedao-glucobench==0.4.1 to compare with the reference"
)

SMALL = GluformerConfig(d_model=32, n_heads=4, d_fcn=64)
CONFIGS = [
    GluformerConfig(),
    GluformerConfig(d_model=128, n_heads=4, d_fcn=256),
    GluformerConfig(d_model=50, n_heads=4, d_fcn=36, num_enc_layers=3, num_dec_layers=1, activ="relu"),
    GluformerConfig(d_model=48, n_heads=3, d_fcn=40, num_enc_layers=2, num_dec_layers=3, distil=False, r_drop=0.1),
]


def inputs(windows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(windows, 96, generator=generator), torch.rand(windows, 108, 6, generator=generator)


def with_statistics(network: Any) -> Any:
    """Batch statistics as training leaves them; fresh ones, 0 and 1, would hide a wrong folding."""
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0.0, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return network


def reference(config: GluformerConfig) -> Any:
    torch.manual_seed(1)
    return with_statistics(reference_network()(**asdict(config)))


def reference_forecast(network: Any, past: torch.Tensor, marks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    decoder_past = torch.nn.functional.pad(past[:, 64:], (0, 12)).unsqueeze(-1)
    mean, log_variance = network(
        torch.zeros(past.shape[0], 1), past.unsqueeze(-1), marks[:, :96], decoder_past, marks[:, 64:]
    )
    return mean.squeeze(-1), log_variance.flatten()


def served(network: Any, config: GluformerConfig) -> ServedNetwork:
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    return ServedNetwork(config, arrays, torch.device("cpu"), torch.float32)


@needs_reference
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"d{config.d_model}-{config.activ}")
@torch.inference_mode()
def test_eval_output_equals_the_reference(config: GluformerConfig) -> None:
    theirs = reference(config).eval()
    assert {name: tuple(value.shape) for name, value in theirs.state_dict().items()} == expected_shapes(config)
    ours = Gluformer(config).eval()
    ours.load_state_dict(theirs.state_dict())
    past, marks = inputs(3)
    wanted, wanted_variance = reference_forecast(theirs, past, marks)
    mean, log_variance = ours.forecast(past, marks)
    torch.testing.assert_close(mean, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_variance.squeeze(1), wanted_variance, rtol=0, atol=1e-5)
    fast, fast_variance = served(theirs, config)(past, marks, NoDropout(threshold_of(config.r_drop)), 1)
    torch.testing.assert_close(fast[:, 0], wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(fast_variance, wanted_variance, rtol=0, atol=1e-5)


def test_the_published_sizes() -> None:
    shapes = expected_shapes(GluformerConfig())
    assert len(shapes) == 115
    with torch.device("meta"):
        network = Gluformer(GluformerConfig())
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == shapes
    assert sum(value.numel() for value in network.parameters()) == 11_294_272


@torch.inference_mode()
def test_served_arithmetic_equals_the_trained_network() -> None:
    torch.manual_seed(2)
    network = with_statistics(Gluformer(SMALL)).eval()
    past, marks = inputs(2)
    wanted, _ = network.forecast(past, marks)
    mean, _ = served(network, SMALL)(past, marks, NoDropout(threshold_of(SMALL.r_drop)), 3)
    torch.testing.assert_close(mean, wanted[:, None].expand(-1, 3, -1), rtol=0, atol=1e-5)


@needs_reference
@pytest.mark.parametrize(("config", "count"), [(SMALL, 2000), (CONFIGS[2], 600)], ids=["gelu", "relu"])
@torch.inference_mode()
def test_dropout_draws_are_distributed_as_the_references(config: GluformerConfig, count: int) -> None:
    """Mean and spread per step over `count` draws, within what two samples of one distribution differ by."""
    theirs = reference(config).train()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    past, marks = inputs(1)
    torch.manual_seed(3)
    a_pass = 100
    repeated = past.expand(a_pass, -1), marks.expand(a_pass, -1, -1)
    wanted = torch.cat([reference_forecast(theirs, *repeated)[0] for _ in range(count // a_pass)]).double().numpy()
    masks = HostMasks([bytes(32)], 0, threshold_of(config.r_drop))
    network = served(theirs, config)
    found = torch.cat([network(past, marks, masks, a_pass)[0][0] for _ in range(count // a_pass)]).double().numpy()
    standard_error = np.sqrt((wanted.var(axis=0) + found.var(axis=0)) / count)
    assert np.all(np.abs(wanted.mean(axis=0) - found.mean(axis=0)) < 4.5 * standard_error)
    assert np.all(np.abs(np.log(found.std(axis=0) / wanted.std(axis=0))) < 4.5 / np.sqrt(count))
    assert found.std(axis=0).min() > 0.01
    # The steps of one draw hang together through shared masks: so must ours.
    assert np.abs(np.corrcoef(wanted.T) - np.corrcoef(found.T)).max() < 6.0 / np.sqrt(count)
