"""Training of the decoder in PyTorch: the same captions, batches, optimizer and average.

Started by `bench.training`; answers each epoch with its seconds and losses.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time

import numpy as np
import torch
from torch.nn import functional, utils
from torch.optim import swa_utils

from bench.pytorch.decoder import Decoder
from bench.pytorch.process import serve


def main() -> None:
    """Answers `{"attention": ..., "dtype": ..., "images": [[...], ...]}`, a list per step."""
    data, settings = np.load(sys.argv[1]), json.loads(sys.argv[2])
    features = torch.from_numpy(data["features"])
    token_ids = torch.from_numpy(data["token_ids"]).long()
    per_image = len(token_ids) // len(features)
    trainers = {
        attention: _Trainer({**settings, "attention": attention})
        for attention in settings["attentions"]
    }

    def epoch(attention: str, dtype: str, images: list[list[int]]) -> dict:
        trainer = trainers[attention]
        start, cpu = time.perf_counter(), time.process_time()
        losses = []
        for chosen in images:
            index = torch.tensor(chosen)
            rows = (index[:, None] * per_image + torch.arange(per_image)).flatten()
            of_row = torch.arange(len(chosen)).repeat_interleave(per_image)
            losses.append(trainer.step(features[index], token_ids[rows], of_row, dtype))
        seconds = [time.perf_counter() - start, time.process_time() - cpu]
        return {"seconds": seconds, "losses": losses}

    serve(epoch)


class _Trainer:
    """A decoder with its optimizer and the moving average of its weights."""

    def __init__(self, settings: dict):
        self.decoder = Decoder(settings).train()
        self.smoothing = settings["label_smoothing"]
        self.clip_norm = settings["gradient_clip_norm"]
        self.optimizer = torch.optim.AdamW(
            self.decoder.parameters(),
            lr=settings["learning_rate"],
            weight_decay=settings["weight_decay"],
        )
        self.average = swa_utils.AveragedModel(
            self.decoder, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(settings["ema_momentum"])
        )

    def step(
        self, features: torch.Tensor, token_ids: torch.Tensor, of_row: torch.Tensor, dtype: str
    ) -> float:
        lengths = (token_ids != 0).sum(1) - 1
        token_ids = token_ids[:, : int(lengths.max()) + 1]
        targets = token_ids[:, 1:]
        low = torch.autocast("cpu", torch.bfloat16) if dtype == "bfloat16" else None
        with low or contextlib.nullcontext():
            encoded = self.decoder.encode_features(features.float()).select(of_row)
            hidden = self.decoder(token_ids[:, :-1], lengths, encoded)
            is_token = targets != 0
            logits = self.decoder.logits(hidden[is_token])
        loss = functional.cross_entropy(
            logits.float(), targets[is_token], label_smoothing=self.smoothing
        )
        self.optimizer.zero_grad()
        loss.backward()
        utils.clip_grad_norm_(self.decoder.parameters(), self.clip_norm)
        self.optimizer.step()
        self.average.update_parameters(self.decoder)
        return float(loss.detach())


if __name__ == "__main__":
    main()
