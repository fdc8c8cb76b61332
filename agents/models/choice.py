"""What the loader of a forecaster is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from agents.models.published import Published

Precision = Literal["auto", "fp32", "bf16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Which model, and on what it runs.

    `checkpoint`: "bundled", "huggingface" (then `published` says which file) or a path: .safetensors; .pth with the
    JSON configuration `checkpoint_config` beside it; for darts a model saved by Darts.
    """

    checkpoint: str | Path = "bundled"
    checkpoint_config: Path | None = None
    published: Published | None = None
    device: str = "auto"
    precision: Precision = "auto"
    num_copies_per_device: int = 1
    torch_threads: int | None = None
