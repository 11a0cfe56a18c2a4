"""The decoder of `models.decoders.recurrent` as a user of PyTorch would write it.

It needs PyTorch and NumPy alone and takes the weights of ours, so that both say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# Keras orders the gates of a GRU as update, reset, candidate; PyTorch as reset, update, candidate.
_GRU_ORDER = (1, 0, 2)


class EncodedImages(NamedTuple):
    """Initial state, each [N, units], and keys and values of the grid, [N, positions, units]."""

    state: tuple[Tensor, ...]
    keys_values: tuple[Tensor, ...]

    def select(self, rows: Tensor) -> EncodedImages:
        """Selects images by their rows."""
        return EncodedImages(*(tuple(part[rows] for part in parts) for parts in self))


class Decoder(nn.Module):
    """LSTM or GRU with nothing, additive or multi-head dot-product attention over a grid.

    Args:
      settings: `cell`, `units`, `embedding_dim`, `attention`, `attention_heads`, `dropout`,
        `tie_embeddings`, `vocabulary_size` and `channels`.
    """

    def __init__(self, settings: Mapping):
        super().__init__()
        self.kind, self.heads = settings["attention"], settings["attention_heads"]
        units, width = settings["units"], settings["embedding_dim"]
        self.units = units
        self.features = nn.Linear(settings["channels"], units)
        self.embedding = nn.Embedding(settings["vocabulary_size"], width)
        self.is_lstm = settings["cell"] == "lstm"
        recurrent, cell = (nn.LSTM, nn.LSTMCell) if self.is_lstm else (nn.GRU, nn.GRUCell)
        self.recurrent = recurrent(width, units, batch_first=True)
        self.initial = nn.ModuleList(nn.Linear(units, units) for _ in range(1 + self.is_lstm))
        looks = self.kind != "none"
        if looks:
            self.key, self.value, self.query = (nn.Linear(units, units) for _ in range(3))
        if self.kind == "additive":
            self.score = nn.Parameter(torch.randn(units) / math.sqrt(units))
        self.project = nn.Linear(units * (1 + looks), width)
        self.output = nn.Linear(width, settings["vocabulary_size"])
        if settings["tie_embeddings"]:
            self.output.weight = self.embedding.weight
        self.dropout = nn.Dropout(settings["dropout"])
        # One step at a time, with the weights of the layer.
        self.cell = cell(width, units)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(self.cell, name, getattr(self.recurrent, f"{name}_l0"))

    def encode_features(self, features: Tensor) -> EncodedImages:
        """Projects the features of images, [N, positions, channels]."""
        if self.kind == "none":
            features = features.mean(1, keepdim=True)
        normal = functional.layer_norm(features, features.shape[-1:], eps=1e-3)
        grid = self.dropout(torch.relu(self.features(normal)))
        mean = grid.mean(1)
        state = tuple(torch.tanh(layer(mean)) for layer in self.initial)
        if self.kind == "none":
            return EncodedImages(state, ())
        return EncodedImages(state, (self.key(grid), self.value(grid)))

    def forward(self, token_ids: Tensor, lengths: Tensor, encoded: EncodedImages) -> Tensor:
        """Hidden states of whole captions, [R, T, units (* 2)], for `logits`."""
        words = self.dropout(self._embed(token_ids))
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        state = tuple(part[None] for part in encoded.state)
        outputs, _ = self.recurrent(packed, state if self.is_lstm else state[0])
        return self._look(pad_packed_sequence(outputs, batch_first=True)[0], encoded.keys_values)

    def step(
        self, last: Tensor, state: tuple[Tensor, ...], grid: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits of the next word of K hypotheses of each of N images.

        Args:
          last: int64 [N, K].
          state: Each [N, K, units].
          grid: Keys and values, each [N, positions, units].
        """
        flat = tuple(part.flatten(0, 1) for part in state)
        new = self.cell(self._embed(last).flatten(0, 1), flat if self.is_lstm else flat[0])
        new = tuple(part.view(*last.shape, -1) for part in (new if self.is_lstm else (new,)))
        return self.logits(self._look(new[0], grid)), new

    def logits(self, hidden: Tensor) -> Tensor:
        return self.output(self.dropout(torch.tanh(self.project(hidden))))

    def _embed(self, token_ids: Tensor) -> Tensor:
        return self.embedding(token_ids) * math.sqrt(self.embedding.embedding_dim)

    def _look(self, outputs: Tensor, grid: tuple[Tensor, ...]) -> Tensor:
        if self.kind == "none":
            return outputs
        query, (keys, values) = self.query(outputs), grid
        if self.kind == "additive":
            joint = torch.tanh(query[:, :, None] + keys[:, None])
            context = torch.softmax(joint @ self.score, -1) @ values
        else:
            heads = (self.heads, -1)
            parts = (x.unflatten(-1, heads).transpose(1, 2) for x in (query, keys, values))
            context = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        return torch.cat([outputs, context], -1)

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Takes the weights of a `RecurrentDecoder`, by their paths without its name."""
        given = {name: torch.from_numpy(weights[name]) for name in weights}
        linear = {
            "features": self.features,
            "output_projection": self.project,
            **{f"state_{index}": layer for index, layer in enumerate(self.initial)},
        }
        if self.kind != "none":
            names = ("key", "value", "query")
            linear |= {f"attention/{name}": getattr(self, name) for name in names}
        if self.output.weight is not self.embedding.weight:
            linear["output"] = self.output
        with torch.no_grad():
            for name, layer in linear.items():
                layer.weight.copy_(given[f"{name}/kernel"].T)
                layer.bias.copy_(given[f"{name}/bias"])
            self.embedding.weight.copy_(given["embedding/embeddings"])
            if "output_bias" in given:
                self.output.bias.copy_(given["output_bias"])
            if self.kind == "additive":
                self.score.copy_(given["attention/score"])
            prefix = "lstm/lstm_cell" if self.is_lstm else "gru/gru_cell"
            bias = given[f"{prefix}/bias"]
            two = (torch.zeros_like(bias), bias) if self.is_lstm else bias.unbind()
            kernels = (given[f"{prefix}/kernel"].T, given[f"{prefix}/recurrent_kernel"].T)
            for name, value in zip(("ih", "hh"), zip(kernels, two, strict=True), strict=True):
                for part, matrix in zip(("weight", "bias"), value, strict=True):
                    getattr(self.recurrent, f"{part}_{name}_l0").copy_(self._gates(matrix))

    def _gates(self, matrix: Tensor) -> Tensor:
        if self.is_lstm:
            return matrix
        parts = matrix.chunk(3)
        return torch.cat([parts[index] for index in _GRU_ORDER])
