"""The network: features in, location and scale of a Laplace distribution at each of the 12 steps out.

x = D(gelu(W0 f))          f: standardised features, D: dropout
x = x + D(gelu(Wi norm(x)))    for each block
location = last + s_h * a_h,  scale = s_h * exp(b_h)    a, b: the two halves of the head, s_h: a fixed unit a step
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from agents.models.mlp.config import MlpConfig
from agents.models.mlp.features import WIDTH
from schemas.grid import HORIZON_STEPS

LOG_SCALE_BOUNDS = (-5.0, 3.0)


class Mlp(nn.Module):
    """Standardised features (R, WIDTH) to changes and log-scales (R, 12) each, in units of each step."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, config.width)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.blocks))
        self.blocks = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.blocks))
        self.head = nn.Linear(config.width, 2 * HORIZON_STEPS)

    def forward(self, features: Tensor, drop: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Changes and log-scales (R, 12) each. `drop` is applied to what each layer adds: dropout, or a caller's masks.

        What is served of it, all members at once, is ensemble.py.
        """
        x = drop(nn.functional.gelu(self.first(features)))
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + drop(nn.functional.gelu(block(norm(x))))
        change, log_scale = self.head(x).chunk(2, dim=-1)
        return change, log_scale.clamp(*LOG_SCALE_BOUNDS)
