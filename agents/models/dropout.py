"""Seeded dropout masks that cost a tenth of the framework's.

A mask element is kept when its 16 random bits reach the threshold round(65536 p), 13107 for p = 0.2. Masks hold 0
and 1; the factor 1 / (1 - p) is folded into weights (served_network.py). Every window and member has a generator of
its own, so the masks of a window never depend on what else is in the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

SAMPLING_VERSION = "sfc64-u16-v1"  # part of every fingerprint: a change here changes every sample
_LEVELS = 65536


def threshold_of(probability: float) -> int:
    """How many of the 65536 values of an element drop it."""
    return round(probability * _LEVELS)


def kept_share(threshold: int) -> float:
    """Of the elements, on average: what a kept one is divided by."""
    return 1.0 - threshold / _LEVELS


class Masks(Protocol):
    """Where the network takes its masks from, layer after layer."""

    def apply(self, x: Tensor) -> Tensor:
        """x (windows * samples, ...) with dropped elements set to 0, in place."""


class NoDropout:
    """Every element at the share of the time it is kept, which undoes the folded factor: the network in eval mode."""

    def __init__(self, threshold: int) -> None:
        self._share = kept_share(threshold)

    def apply(self, x: Tensor) -> Tensor:
        return x.mul_(self._share)


class HostMasks:
    """numpy's SFC64 (Doty-Humphrey 2010), four elements a 64-bit word: for tensors in main memory."""

    def __init__(self, seeds: Sequence[bytes], member: int, threshold: int) -> None:
        self._raw = [np.random.SFC64(_entropy(seed, member)) for seed in seeds]
        self._limit = threshold - _LEVELS // 2  # of the same bits read as a signed number, which torch can compare

    def apply(self, x: Tensor) -> Tensor:
        keep = torch.empty_like(x)
        for source, part, mask in zip(self._raw, x.chunk(len(self._raw)), keep.chunk(len(self._raw)), strict=True):
            words = source.random_raw(-(-part.numel() // 4))
            bits = torch.from_numpy(words.view(np.int16)[: part.numel()]).view(part.shape)
            torch.ge(bits, self._limit, out=mask)
        return x.mul_(keep)


class DeviceMasks:
    """The device's own counter-based generator: for tensors on an accelerator, where bits are not worth sending."""

    def __init__(self, seeds: Sequence[bytes], member: int, threshold: int, device: torch.device) -> None:
        self._limit = threshold - _LEVELS // 2
        self._generators = []
        for seed in seeds:
            word = int.from_bytes(hashlib.sha256(seed + member.to_bytes(4, "little")).digest()[:8], "little")
            self._generators.append(torch.Generator(device).manual_seed(word >> 1))

    def apply(self, x: Tensor) -> Tensor:
        for generator, part in zip(self._generators, x.chunk(len(self._generators)), strict=True):
            bits = torch.empty(part.shape, dtype=torch.int16, device=x.device)
            bits.random_(-_LEVELS // 2, _LEVELS // 2, generator=generator)
            part.mul_(bits >= self._limit)
        return x


def _entropy(seed: bytes, member: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(int.from_bytes(seed, "little"), spawn_key=(member,))
