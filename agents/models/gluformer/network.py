"""The Gluformer network (Sergazinov et al. 2023, "Gluformer: Transformer-Based Personalized Glucose Forecasting").

Attribute names are those of the published weights, so that a state dict loads by name. This module is what is trained
and what the engine is checked against; serving runs the same arithmetic in engine.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.models.gluformer.config import GluformerConfig

POSITIONS = 5000


class TokenEmbedding(nn.Module):
    """(B, L, 1) glucose -> (B, L, d): a convolution over three neighbours; the ends are neighbours of each other."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, d_model, kernel_size=3, padding=1, padding_mode="circular")

    def forward(self, glucose: Tensor) -> Tensor:
        embedded: Tensor = self.conv(glucose.transpose(1, 2))
        return embedded.transpose(1, 2)


class PositionalEmbedding(nn.Module):
    """Fixed sines and cosines of the position (Vaswani et al. 2017)."""

    pos_emb: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        place = torch.arange(POSITIONS).unsqueeze(1)
        rate = torch.exp(torch.arange(0, d_model, 2) * -(math.log(10000.0) / d_model))
        table = torch.zeros(1, POSITIONS, d_model)
        table[0, :, 0::2] = torch.sin(place * rate)
        table[0, :, 1::2] = torch.cos(place * rate)
        self.register_buffer("pos_emb", table)

    def forward(self, length: int) -> Tensor:
        return self.pos_emb[:, :length]


class TemporalEmbedding(nn.Module):
    """(B, L, marks) -> (B, L, d)."""

    def __init__(self, d_model: int, num_features: int) -> None:
        super().__init__()
        self.embed = nn.Linear(num_features, d_model)

    def forward(self, marks: Tensor) -> Tensor:
        embedded: Tensor = self.embed(marks)
        return embedded


class SubjectEmbedding(nn.Module):
    """(B, static) -> (B, d)."""

    def __init__(self, d_model: int, num_features: int) -> None:
        super().__init__()
        self.id_embedding = nn.Linear(num_features, d_model)

    def forward(self, static: Tensor) -> Tensor:
        embedded: Tensor = self.id_embedding(static)
        return embedded


class DataEmbedding(nn.Module):
    """Glucose, position and marks summed, behind one token of the static features: (B, L + 1, d)."""

    def __init__(self, config: GluformerConfig) -> None:
        super().__init__()
        self.value_embedding = TokenEmbedding(config.d_model)
        self.time_embedding = TemporalEmbedding(config.d_model, config.num_dynamic_features)
        self.positional_embedding = PositionalEmbedding(config.d_model)
        self.subject_embedding = SubjectEmbedding(config.d_model, config.num_static_features)
        self.dropout = nn.Dropout(config.r_drop)

    def forward(self, static: Tensor, glucose: Tensor, marks: Tensor) -> Tensor:
        steps = self.value_embedding(glucose) + self.positional_embedding(glucose.shape[1]) + self.time_embedding(marks)
        token = self.subject_embedding(static).unsqueeze(1)
        embedded: Tensor = self.dropout(torch.cat([token, steps], dim=1))
        return embedded


class Attention(nn.Module):
    """Multi-head attention with dropout on the weights; heads of d_model // n_heads, so q, k, v may be narrower."""

    def __init__(self, config: GluformerConfig, *, causal: bool) -> None:
        super().__init__()
        self.n_heads, self.head_size, self.causal = config.n_heads, config.head_size, causal
        inner = self.n_heads * self.head_size
        self.proj_q = nn.Linear(config.d_model, inner)
        self.proj_k = nn.Linear(config.d_model, inner)
        self.proj_v = nn.Linear(config.d_model, inner)
        self.proj_out = nn.Linear(inner, config.d_model)
        self.dropout = nn.Dropout(config.r_drop)

    def forward(self, query: Tensor, source: Tensor) -> Tensor:
        q, k, v = self._heads(self.proj_q(query)), self._heads(self.proj_k(source)), self._heads(self.proj_v(source))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_size)
        if self.causal:
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(future, -math.inf)
        weights = self.dropout(torch.softmax(scores, dim=-1))
        mixed: Tensor = self.proj_out((weights @ v).transpose(1, 2).flatten(2))
        return mixed

    def _heads(self, flat: Tensor) -> Tensor:
        return flat.view(*flat.shape[:-1], self.n_heads, self.head_size).transpose(1, 2)


class FeedForward(nn.Module):
    """The two position-wise layers that encoder and decoder layers share; 1x1 convolutions by name and shape."""

    def __init__(self, config: GluformerConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(config.d_model, config.d_fcn, kernel_size=1)
        self.conv2 = nn.Conv1d(config.d_fcn, config.d_model, kernel_size=1)
        self.dropout = nn.Dropout(config.r_drop)
        self.activation = functional.gelu if config.activ == "gelu" else functional.relu

    def feed_forward(self, x: Tensor) -> Tensor:
        hidden = functional.linear(x, self.conv1.weight.squeeze(-1), self.conv1.bias)
        hidden = self.dropout(self.activation(hidden))
        out: Tensor = self.dropout(functional.linear(hidden, self.conv2.weight.squeeze(-1), self.conv2.bias))
        return out


class EncoderLayer(FeedForward):
    """Self-attention and feed-forward, each added and normalised."""

    def __init__(self, config: GluformerConfig) -> None:
        super().__init__(config)
        self.att = Attention(config, causal=False)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.att(x, x)))
        out: Tensor = self.norm2(x + self.feed_forward(x))
        return out


class DistilLayer(nn.Module):
    """Halves the number of tokens (Zhou et al. 2021, Informer): convolution, batch norm, ELU, max pooling."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.downConv = nn.Conv1d(d_model, d_model, kernel_size=3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.elu(self.norm(self.downConv(x.transpose(1, 2))))
        return functional.max_pool1d(x, kernel_size=3, stride=2, padding=1).transpose(1, 2)


class Encoder(nn.Module):
    """Encoder layers with a distilling layer between each two of them, where the configuration asks for it."""

    def __init__(self, config: GluformerConfig) -> None:
        super().__init__()
        self.enc_layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_enc_layers))
        between = config.num_enc_layers - 1 if config.distil else 0
        self.conv_layers = nn.ModuleList(DistilLayer(config.d_model) for _ in range(between))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        for place, layer in enumerate(self.enc_layers):
            x = layer(x)
            if place < len(self.conv_layers):
                x = self.conv_layers[place](x)
        out: Tensor = self.norm(x)
        return out


class DecoderLayer(FeedForward):
    """Causal self-attention, attention to the encoder and feed-forward, each added and normalised."""

    def __init__(self, config: GluformerConfig) -> None:
        super().__init__(config)
        self.self_att = Attention(config, causal=True)
        self.cross_att = Attention(config, causal=False)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.norm3 = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, encoded: Tensor) -> Tensor:
        x = self.norm1(x + self.self_att(x, x))
        x = self.norm2(x + self.cross_att(x, encoded))
        out: Tensor = self.norm3(x + self.feed_forward(x))
        return out


class Decoder(nn.Module):
    """Decoder layers and a last norm."""

    def __init__(self, config: GluformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_dec_layers))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, encoded: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, encoded)
        out: Tensor = self.norm(x)
        return out


class Variance(nn.Module):
    """One log-variance a window, within -10..10, from the encoder's embedding: (B, len_seq + 1, d) -> (B, 1, 1)."""

    def __init__(self, config: GluformerConfig) -> None:
        super().__init__()
        self.proj1 = nn.Linear(config.d_model, 1)
        self.dropout = nn.Dropout(config.r_drop)
        self.proj2 = nn.Linear(config.len_seq + 1, 1)

    def forward(self, embedded: Tensor) -> Tensor:
        token = self.dropout(torch.relu(self.proj1(embedded))).transpose(1, 2)
        return 10.0 * torch.tanh(self.proj2(token))


class Gluformer(nn.Module):
    """Past glucose and marks in, mean of the next hour and one log-variance out, in the units of the scaler."""

    def __init__(self, config: GluformerConfig) -> None:
        super().__init__()
        self.config = config
        self.enc_embedding = DataEmbedding(config)
        self.dec_embedding = DataEmbedding(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.projection = nn.Linear(config.d_model, 1)
        self.var = Variance(config)

    def forward(
        self, static: Tensor, past: Tensor, past_marks: Tensor, decoder_past: Tensor, decoder_marks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The published signature.

        static (B, 1), past (B, len_seq, 1), past_marks (B, len_seq, 6), decoder_past (B, label_len + len_pred, 1),
        decoder_marks (B, label_len + len_pred, 6) -> mean (B, len_pred, 1), log-variance (B, 1, 1).
        """
        embedded = self.enc_embedding(static, past, past_marks)
        log_variance = self.var(embedded)
        decoded = self.decoder(self.dec_embedding(static, decoder_past, decoder_marks), self.encoder(embedded))
        return self.projection(decoded)[:, -self.config.len_pred :], log_variance

    def forecast(self, past: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
        """One subject (static 0), unknown future 0: scaled past (B, len_seq), marks (B, len_seq + len_pred, 6)
        -> mean (B, len_pred), log-variance (B, 1).
        """
        config = self.config
        static = past.new_zeros(past.shape[0], config.num_static_features)
        known = past[:, -config.label_len :]
        decoder_past = functional.pad(known, (0, config.len_pred)).unsqueeze(-1)
        decoder_marks = marks[:, config.len_seq - config.label_len :]
        mean, log_variance = self(static, past.unsqueeze(-1), marks[:, : config.len_seq], decoder_past, decoder_marks)
        return mean.squeeze(-1), log_variance.squeeze(-1)
