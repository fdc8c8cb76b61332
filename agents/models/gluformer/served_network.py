"""The arithmetic of network.Gluformer, rearranged for serving; the same numbers up to rounding.

* BatchNorm in eval mode is folded into the convolution before it; 1 / (1 - p) of every dropout and 1 / sqrt(head size)
  into the weights after or before it.
* The embedding is computed once a window and shared by its samples; q, k and v are one matrix product, k and v of every
  decoder layer another; the last decoder layer computes its last `len_pred` tokens only, the ones that are read.
* ELU rises, so pooling first and activating half as many values gives the same.
* The log-variance head runs without dropout, in float32: one value a window, free of sampling noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from agents.models.dropout import Masks, threshold_of
from agents.models.gluformer.config import GluformerConfig

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Linear:
    """x @ weight.T + bias."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class Norm:
    """LayerNorm over the last axis."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias)


@dataclass(frozen=True)
class Embedding:
    """Three neighbouring values and the marks of a step in one product, over positions; `token` goes first."""

    steps: Linear
    positions: Tensor
    token: Tensor

    def __call__(self, glucose: Tensor, marks: Tensor) -> Tensor:
        around = torch.stack([glucose.roll(1, 1), glucose, glucose.roll(-1, 1)], dim=-1)
        steps = self.steps(torch.cat([around, marks], dim=-1)) + self.positions[: glucose.shape[1]]
        return torch.cat([self.token.expand(glucose.shape[0], 1, -1), steps], dim=1)


@dataclass(frozen=True)
class FeedForward:
    first: Linear
    second: Linear
    relu: bool

    def __call__(self, x: Tensor, masks: Masks) -> Tensor:
        hidden = self.first(x)
        hidden = hidden.relu_() if self.relu else functional.gelu(hidden)
        return masks.apply(self.second(masks.apply(hidden)))


@dataclass(frozen=True)
class EncoderLayer:
    qkv: Linear
    out: Linear
    feed_forward: FeedForward
    norms: tuple[Norm, ...]


@dataclass(frozen=True)
class DecoderLayer:
    qkv: Linear
    out: Linear
    cross_q: Linear
    cross_out: Linear
    feed_forward: FeedForward
    norms: tuple[Norm, ...]


class ServedNetwork:
    """One member's folded weights on one device in one precision."""

    def __init__(
        self,
        config: GluformerConfig,
        arrays: Mapping[str, NDArray[np.float32]],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        state = {name: torch.from_numpy(np.asarray(value, dtype=np.float32)) for name, value in arrays.items()}
        self._gain = 65536.0 / (65536 - threshold_of(config.r_drop))
        self._heads = (config.n_heads, config.head_size)
        self._past_embedding = self._embedding(state, "enc_embedding")
        self._future_embedding = self._embedding(state, "dec_embedding")
        self._encoder = [self._encoder_layer(state, place) for place in range(config.num_enc_layers)]
        between = config.num_enc_layers - 1 if config.distil else 0
        self._distil = [self._distil_layer(state, place) for place in range(between)]
        self._decoder = [self._decoder_layer(state, place) for place in range(config.num_dec_layers)]
        self._cross_kv = self._cat(
            *(
                self._linear(state, f"decoder.layers.{n}.cross_att.proj_{p}")
                for n in range(config.num_dec_layers)
                for p in "kv"
            )
        )
        self._encoder_norm, self._decoder_norm = self._norm(state, "encoder.norm"), self._norm(state, "decoder.norm")
        self._projection = self._linear(state, "projection", dtype=torch.float32)
        self._variance = tuple(self._linear(state, f"var.proj{n}", dtype=torch.float32) for n in (1, 2))
        tokens = config.label_len + config.len_pred + 1
        future = torch.full((tokens, tokens), -math.inf).triu(1)
        self._causal = future.to(device=device, dtype=dtype)

    def __call__(self, past: Tensor, marks: Tensor, masks: Masks, samples: int) -> tuple[Tensor, Tensor]:
        """Scaled past (W, len_seq), marks (W, len_seq + len_pred, features) -> means (W, samples, len_pred), float32,
        and log-variances (W,), float32.
        """
        config = self.config
        first = config.len_seq - config.label_len
        embedded = self._past_embedding(past, marks[:, : config.len_seq])
        log_variance = self._log_variance(embedded)
        known = functional.pad(past[:, first:], (0, config.len_pred))
        encoded = self._encode(self._repeated(embedded, samples, masks), masks)
        started = self._repeated(self._future_embedding(known, marks[:, first:]), samples, masks)
        mean = self._decode(started, encoded, masks)
        return mean.view(past.shape[0], samples, config.len_pred), log_variance

    def _repeated(self, embedded: Tensor, samples: int, masks: Masks) -> Tensor:
        scaled = (embedded * self._gain).to(self.dtype)
        return masks.apply(scaled.repeat_interleave(samples, dim=0))

    def _log_variance(self, embedded: Tensor) -> Tensor:
        by_step, over_steps = self._variance
        return 10.0 * torch.tanh(over_steps(torch.relu(by_step(embedded)).squeeze(-1))).squeeze(-1)

    def _encode(self, x: Tensor, masks: Masks) -> Tensor:
        for place, layer in enumerate(self._encoder):
            q, k, v = self._split(layer.qkv(x), 3)
            x = layer.norms[0](masks.apply(layer.out(self._attend(q, k, v, masks))).add_(x))
            x = layer.norms[1](layer.feed_forward(x, masks).add_(x))
            if place < len(self._distil):
                x = _halved(self._distil[place](_neighbours(x)))
        return self._encoder_norm(x)

    def _decode(self, x: Tensor, encoded: Tensor, masks: Masks) -> Tensor:
        sources = self._split(self._cross_kv(encoded), 2 * len(self._decoder))
        for place, layer in enumerate(self._decoder):
            q, k, v = self._split(layer.qkv(x), 3)
            causal = self._causal
            if place == len(self._decoder) - 1:
                read = self.config.len_pred
                x, q, causal = x[:, -read:], q[:, :, -read:], causal[-read:]
            x = layer.norms[0](layer.out(self._attend(q, k, v, masks, causal)).add_(x))
            (q,) = self._split(layer.cross_q(x), 1)
            k, v = sources[2 * place : 2 * place + 2]
            x = layer.norms[1](layer.cross_out(self._attend(q, k, v, masks)).add_(x))
            x = layer.norms[2](layer.feed_forward(x, masks).add_(x))
        return self._projection(self._decoder_norm(x).float()).squeeze(-1)

    def _split(self, flat: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(R, L, parts * heads * size) -> `parts` of (R, heads, L, size)."""
        return flat.view(*flat.shape[:-1], parts, *self._heads).permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, masks: Masks, causal: Tensor | None = None) -> Tensor:
        scores = q @ k.transpose(-1, -2)
        if causal is not None:
            scores += causal
        return (masks.apply(torch.softmax(scores, dim=-1)) @ v).transpose(1, 2).flatten(2)

    def _linear(
        self, state: State, name: str, *, gain: float = 1.0, shift: float = 1.0, dtype: torch.dtype | None = None
    ) -> Linear:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        weight = weight.squeeze(-1) if weight.dim() == 3 else weight
        return self._placed(weight * gain, bias * shift, dtype or self.dtype)

    def _placed(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Linear:
        return Linear(
            weight.to(device=self.device, dtype=dtype).contiguous(),
            bias.to(device=self.device, dtype=dtype).contiguous(),
        )

    def _cat(self, *layers: Linear) -> Linear:
        return Linear(torch.cat([one.weight for one in layers]), torch.cat([one.bias for one in layers]))

    def _norm(self, state: State, name: str) -> Norm:
        return Norm(*(state[f"{name}.{part}"].to(device=self.device, dtype=self.dtype) for part in ("weight", "bias")))

    def _embedding(self, state: State, name: str) -> Embedding:
        d = self.config.d_model
        conv, time = f"{name}.value_embedding.conv", f"{name}.time_embedding.embed"
        weight = torch.cat([state[f"{conv}.weight"].squeeze(1), state[f"{time}.weight"]], dim=1)
        bias = state[f"{conv}.bias"] + state[f"{time}.bias"]
        length = self.config.len_seq + self.config.len_pred
        positions = state.get(f"{name}.positional_embedding.pos_emb")
        table = position_table(length, d) if positions is None else positions[0, :length]
        token = state[f"{name}.subject_embedding.id_embedding.bias"].view(1, 1, d)
        steps = self._placed(weight, bias, torch.float32)
        return Embedding(steps, table.to(self.device), token.to(self.device))

    def _qkv(self, state: State, name: str) -> Linear:
        root = 1.0 / math.sqrt(self.config.head_size)
        q = self._linear(state, f"{name}.proj_q", gain=root, shift=root)
        return self._cat(q, *(self._linear(state, f"{name}.proj_{part}") for part in "kv"))

    def _feed_forward(self, state: State, name: str) -> FeedForward:
        second = self._linear(state, f"{name}.conv2", gain=self._gain**2, shift=self._gain)
        return FeedForward(self._linear(state, f"{name}.conv1"), second, self.config.activ == "relu")

    def _norms(self, state: State, name: str, count: int) -> tuple[Norm, ...]:
        return tuple(self._norm(state, f"{name}.norm{place + 1}") for place in range(count))

    def _encoder_layer(self, state: State, place: int) -> EncoderLayer:
        name = f"encoder.enc_layers.{place}"
        out = self._linear(state, f"{name}.att.proj_out", gain=self._gain**2, shift=self._gain)
        return EncoderLayer(
            self._qkv(state, f"{name}.att"), out, self._feed_forward(state, name), self._norms(state, name, 2)
        )

    def _distil_layer(self, state: State, place: int) -> Linear:
        conv, norm = f"encoder.conv_layers.{place}.downConv", f"encoder.conv_layers.{place}.norm"
        factor = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + 1e-5)
        weight = state[f"{conv}.weight"].permute(0, 2, 1).flatten(1) * factor.unsqueeze(1)
        bias = (state[f"{conv}.bias"] - state[f"{norm}.running_mean"]) * factor + state[f"{norm}.bias"]
        return self._placed(weight, bias, self.dtype)

    def _decoder_layer(self, state: State, place: int) -> DecoderLayer:
        name = f"decoder.layers.{place}"
        root = 1.0 / math.sqrt(self.config.head_size)
        return DecoderLayer(
            self._qkv(state, f"{name}.self_att"),
            self._linear(state, f"{name}.self_att.proj_out", gain=self._gain),
            self._linear(state, f"{name}.cross_att.proj_q", gain=root, shift=root),
            self._linear(state, f"{name}.cross_att.proj_out", gain=self._gain),
            self._feed_forward(state, name),
            self._norms(state, name, 3),
        )


def position_table(length: int, d_model: int) -> Tensor:
    """Sines and cosines of the first `length` positions, (length, d_model)."""
    rate = torch.exp(torch.arange(0, d_model, 2) * -(math.log(10000.0) / d_model))
    angle = torch.arange(length).unsqueeze(1) * rate
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1).flatten(1)


def _neighbours(x: Tensor) -> Tensor:
    """(R, L, d) -> (R, L, 3 d): each token between its neighbours, the ends being neighbours of each other."""
    return torch.cat([x.roll(1, 1), x, x.roll(-1, 1)], dim=-1)


def _halved(x: Tensor) -> Tensor:
    """ELU of the max pool with kernel 3, stride 2, padding 1 over the tokens."""
    even, odd = x[:, 0::2].contiguous(), x[:, 1::2]
    left, right = even[:, : odd.shape[1]], even[:, 1:]
    torch.maximum(left, odd, out=left)
    torch.maximum(right, odd[:, : right.shape[1]], out=right)
    return functional.elu(even, inplace=True)
