"""The members of an MLP at once: each layer is one batched product, so five networks cost a draw little more than one.

Draw j is a pass of member j mod M with a mask of its own, so S draws come from all members evenly: what the members
disagree on is part of what the model does not know (Lakshminarayanan et al. 2017, deep ensembles).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from agents.models.mlp.config import MlpConfig
from agents.models.mlp.network import LOG_SCALE_BOUNDS


class MlpEnsemble:
    """`tensors`: names of network.Mlp, with a first axis of members where there are several; see checkpoint.py."""

    def __init__(self, config: MlpConfig, tensors: Mapping[str, NDArray[np.float32]], device: torch.device) -> None:
        self.members = config.members
        self._width = config.width

        def of(name: str) -> Tensor:
            value = torch.from_numpy(np.ascontiguousarray(tensors[name])).to(device)
            return value if config.members > 1 else value[None]

        def layer(name: str) -> tuple[Tensor, Tensor]:
            """Bias (M, 1, out) and weight (M, in, out)."""
            return of(f"{name}.bias")[:, None], of(f"{name}.weight").transpose(1, 2).contiguous()

        self._first, self._head = layer("first"), layer("head")
        self._blocks = [layer(f"blocks.{place}") for place in range(config.blocks)]
        self._norms = [
            (of(f"norms.{place}.bias")[:, None], of(f"norms.{place}.weight")[:, None]) for place in range(config.blocks)
        ]

    def stem(self, features: Tensor) -> Tensor:
        """Standardised features (W, F) to (M, W, width): what no draw changes."""
        bias, weight = self._first
        return gelu(torch.baddbmm(bias, features.expand(self.members, *features.shape), weight))

    def draws(self, stem: Tensor, rounds: int, drop: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Changes and log-scales (W, rounds * M, 12) each, draw j of member j mod M.

        `drop` is given rows (W * rounds * M, width), those of a window together, and may change them in place.
        """
        windows = stem.shape[1]

        def dropped(x: Tensor) -> Tensor:
            rows = x.view(self.members, windows, rounds, -1).permute(1, 2, 0, 3).reshape(-1, self._width)
            shape = (windows, rounds, self.members, self._width)
            return drop(rows).view(shape).permute(2, 0, 1, 3).reshape(x.shape)

        x = dropped(stem[:, :, None].repeat(1, 1, rounds, 1).view(self.members, windows * rounds, -1))
        for (shift, scale), (bias, weight) in zip(self._norms, self._blocks, strict=True):
            read = torch.addcmul(shift, layer_norm(x, (self._width,)), scale)
            x = x + dropped(gelu(torch.baddbmm(bias, read, weight)))
        bias, weight = self._head
        out = torch.baddbmm(bias, x, weight).view(self.members, windows, rounds, -1).permute(1, 2, 0, 3)
        change, log_scale = out.reshape(windows, rounds * self.members, -1).chunk(2, dim=-1)
        return change, log_scale.clamp(*LOG_SCALE_BOUNDS)
