"""Shape of the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agents.models.mlp.features import FEATURES_VERSION

MOST_MEMBERS = 10


@dataclass(frozen=True)
class MlpConfig:
    """`members` networks of `blocks` residual blocks of `width`; `dropout` is drawn in training and serving alike."""

    width: int = 256
    blocks: int = 2
    dropout: float = 0.1
    features_version: int = FEATURES_VERSION
    members: int = 1

    def __post_init__(self) -> None:
        if not (type(self.width) is int and 1 <= self.width <= 4096):
            raise ValueError(f"width must be within 1..4096, not {self.width!r}")
        if not (type(self.blocks) is int and 0 <= self.blocks <= 32):
            raise ValueError(f"blocks must be within 0..32, not {self.blocks!r}")
        if not (type(self.members) is int and 1 <= self.members <= MOST_MEMBERS):
            raise ValueError(f"members must be within 1..{MOST_MEMBERS}, not {self.members!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout!r}")
        if self.features_version != FEATURES_VERSION:
            raise ValueError(f"it reads features of version {self.features_version}, this is {FEATURES_VERSION}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
