"""Loads the forecaster that is asked for. Heavy libraries are imported when their model is chosen."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

from agents.core.forecaster import Forecaster
from agents.models.catalogue import LOADERS, Kind
from agents.models.choice import Choice, Precision
from agents.models.published import Published
from schemas.errors import ConfigurationError


class ModelSettings(Protocol):
    """The settings of one model."""

    @property
    def forecaster(self) -> Kind: ...
    @property
    def checkpoint(self) -> str: ...
    @property
    def checkpoint_config(self) -> Path | None: ...
    @property
    def huggingface_repository(self) -> str: ...
    @property
    def huggingface_file(self) -> str: ...
    @property
    def huggingface_revision(self) -> str | None: ...
    @property
    def huggingface_sha256(self) -> str | None: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def num_copies_per_device(self) -> int: ...
    @property
    def torch_threads(self) -> int: ...


def load_forecaster(kind: Kind = "network", choice: Choice | None = None) -> Forecaster:
    """The forecaster `kind`, ready for `warm_up`.

    CheckpointError for a file that cannot be served, ConfigurationError for a choice that cannot work.
    """
    if kind not in LOADERS:
        raise ConfigurationError(f"forecaster {kind!r} is unknown: use {', '.join(LOADERS)}")
    module, _, function = LOADERS[kind].partition(":")
    forecaster: Forecaster = getattr(importlib.import_module(module), function)(choice or Choice())
    return forecaster


def choice_of(settings: ModelSettings) -> Choice:
    """What the settings choose. ConfigurationError where a download is not pinned."""
    published = None
    if settings.checkpoint == "huggingface":
        published = Published(
            repository=settings.huggingface_repository,
            file=settings.huggingface_file,
            revision=settings.huggingface_revision or "",
            sha256=settings.huggingface_sha256 or "",
        )
    return Choice(
        checkpoint=settings.checkpoint,
        checkpoint_config=settings.checkpoint_config,
        published=published,
        device=settings.device,
        precision=settings.precision,
        num_copies_per_device=settings.num_copies_per_device,
        torch_threads=settings.torch_threads,
    )
