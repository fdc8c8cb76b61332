"""The shape of a Gluformer network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class GluformerConfig:
    """Sizes of the network; the defaults are those of the published weights (11,294,272 parameters).

    ValueError for a shape that no network can have or that this machine should not try to hold.
    """

    d_model: int = 512
    n_heads: int = 10
    d_fcn: int = 1024
    num_enc_layers: int = 2
    num_dec_layers: int = 2
    r_drop: float = 0.2
    activ: str = "gelu"
    distil: bool = True
    len_seq: int = 96
    label_len: int = 32
    len_pred: int = 12
    num_dynamic_features: int = 6
    num_static_features: int = 1

    def __post_init__(self) -> None:
        limits = {
            "d_model": 4096,
            "n_heads": 64,
            "d_fcn": 16384,
            "num_enc_layers": 24,
            "num_dec_layers": 24,
            "len_seq": 2000,
            "label_len": 2000,
            "len_pred": 2000,
            "num_dynamic_features": 64,
            "num_static_features": 64,
        }
        for name, most in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name} must be a whole number within 1..{most}, not {value!r}")
        if self.d_model % 2 or self.d_model < self.n_heads:
            raise ValueError(f"d_model {self.d_model} must be even and at least n_heads {self.n_heads}")
        if self.label_len > self.len_seq:
            raise ValueError(f"label_len {self.label_len} is longer than len_seq {self.len_seq}")
        if not 0.0 <= self.r_drop < 1.0:
            raise ValueError(f"r_drop must lie within 0..1, not {self.r_drop!r}")
        if self.activ not in ("gelu", "relu"):
            raise ValueError(f"activ must be gelu or relu, not {self.activ!r}")

    @property
    def head_size(self) -> int:
        return self.d_model // self.n_heads

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> GluformerConfig:
        """Inverse of `to_dict`; missing fields take their defaults. ValueError for unknown fields or bad values."""
        unknown = set(document) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown configuration fields: {', '.join(sorted(unknown))}")
        return cls(**document)
