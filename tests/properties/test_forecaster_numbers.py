"""Properties of the engine's numbers and files: calendar marks, dropout masks, scaling, damaged checkpoints."""

import hashlib
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models.dropout import SAMPLING_VERSION, HostMasks, threshold_of
from agents.models.gluformer.checkpoint import Scaler, load_checkpoint, save_checkpoint
from agents.models.gluformer.config import GluformerConfig
from agents.models.gluformer.marks import calendar_marks, marks_of
from agents.models.regression import Regression
from schemas.errors import CheckpointError

TIMES = st.datetimes(datetime(1970, 1, 3), datetime(2200, 1, 1)).map(lambda at: at.replace(microsecond=0))


@given(TIMES)
def test_marks_are_the_calendar_of_every_step(end: datetime) -> None:
    marks = calendar_marks(np.array([end], dtype="datetime64[s]"))[0]
    for step in (0, 50, 95, 96, 107):
        at = end + timedelta(minutes=5 * (step - 95))
        assert marks[step].tolist() == [at.day, at.month, at.year, at.hour, at.minute, at.second]
    scaled = marks_of(np.array([end], dtype="datetime64[s]"))
    assert scaled.dtype == np.float32
    assert scaled.min() >= 0.0
    assert scaled.max() <= 1.0


@given(st.floats(0.02, 0.9), st.binary(min_size=32, max_size=32), st.integers(0, 63))
@settings(max_examples=30, deadline=None)
def test_masks_drop_the_asked_share_and_repeat(share: float, seed: bytes, member: int) -> None:
    threshold = threshold_of(share)
    ones = torch.ones(40_001)
    mask = HostMasks([seed], member, threshold).apply(ones.clone())
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    wanted, error = 1.0 - threshold / 65536, np.sqrt(share * (1 - share) / ones.numel())
    assert abs(float(mask.mean()) - wanted) < 6.0 * error
    assert torch.equal(mask, HostMasks([seed], member, threshold).apply(ones.clone()))
    assert not torch.equal(mask, HostMasks([seed], member + 1, threshold).apply(ones.clone()))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_a_windows_masks_do_not_depend_on_its_batch_mates(one: bytes, other: bytes, layers: int) -> None:
    together, alone = HostMasks([other, one], 0, 13107), HostMasks([one], 0, 13107)
    for layer in range(layers):
        ones = torch.ones(6, 3 + layer)
        assert torch.equal(together.apply(ones.clone())[3:], alone.apply(ones[3:].clone()))


@given(st.lists(st.floats(20, 600, width=32), min_size=96, max_size=96))
def test_window_scaling_puts_the_past_between_0_and_1(past: list[float]) -> None:
    row = np.array([past], dtype=np.float32)
    offset, scale = Scaler("window").fitted(row)
    scaled = (row - offset) / scale
    assert scaled.min() == 0.0
    assert scaled.max() <= 1.0
    np.testing.assert_allclose(scaled * scale + offset, row, rtol=1e-4)


def test_the_masks_of_this_sampling_version_are_pinned() -> None:
    """A changed mask changes every draw: it needs a new SAMPLING_VERSION, so that fingerprints move with it."""
    masks = HostMasks([bytes(range(32))], 1, 13107)
    drawn = torch.cat([masks.apply(torch.ones(1, size)).flatten() for size in (5, 4096)]).bool().numpy()
    digest = hashlib.sha256(drawn.tobytes()).hexdigest()
    assert (SAMPLING_VERSION, digest[:16]) == ("sfc64-u16-v1", "1caca87c381935b7")


def checkpoint_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        regression = Regression(np.ones((12, 96), dtype=np.float32), np.zeros(12, dtype=np.float32))
        save_checkpoint(
            path,
            config=GluformerConfig(),
            members=[],
            scaler=Scaler("fixed", 120.0, 40.0),
            residual_sd=np.ones(12),
            regression=regression,
            provenance={"note": "text"},
            licence="MIT",
        )
        return path.read_bytes()


WHOLE = checkpoint_bytes()


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_damage_gets_through_and_none_raises_anything_else(place: int, flip: int, cut: bool) -> None:
    damaged = WHOLE[:place] if cut else WHOLE[:place] + bytes([WHOLE[place] ^ flip]) + WHOLE[place + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
