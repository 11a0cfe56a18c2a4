"""Beam search with the decoder in PyTorch, one image at a time and batched.

Started by `bench.decoding`; answers with seconds and captions.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from torch import Tensor

from bench.pytorch.decoder import Decoder
from bench.pytorch.process import serve

START, END = 1, 2
SUPPRESSED_IDS = [0, 1, 3]
NOTHING = -float("inf")


def main() -> None:
    """Answers `{"way": "one by one" | "batched", "number": images}`."""
    data, settings = np.load(sys.argv[1]), json.loads(sys.argv[2])
    features = torch.from_numpy(data["features"])
    decoder = Decoder(settings).eval()
    decoder.load({name: data[name] for name in data if name != "features"})

    def caption(way: str, number: int) -> dict:
        start, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            if way == "one by one":
                captions = [_caption_one(decoder, image, settings) for image in features[:number]]
            else:
                parts = features[:number].split(settings["batch_size"])
                captions = [
                    row for part in parts for row in _caption_batch(decoder, part, settings)
                ]
        seconds = [time.perf_counter() - start, time.process_time() - cpu]
        return {"seconds": seconds, "captions": captions}

    serve(caption)


def _caption_one(decoder: Decoder, features: Tensor, settings: dict) -> list[int]:
    """Beam search as in the common tutorials: finished captions leave the beam, which shrinks."""
    size, longest = settings["beam_size"], settings["max_length"]
    encoded = decoder.encode_features(features[None].float())
    state = tuple(part[:, None].expand(-1, size, -1) for part in encoded.state)
    beam = torch.full([size, 1], START)
    totals = torch.tensor([0.0] + [NOTHING] * (size - 1))
    finished: list[tuple[float, list[int]]] = []
    for step in range(longest + 1):
        logits, state = decoder.step(beam[None, :, -1], state, encoded.keys_values)
        scores = torch.log_softmax(logits[0], -1)
        scores[:, SUPPRESSED_IDS] = NOTHING
        scores[torch.arange(len(beam)), beam[:, -1]] = NOTHING
        if step == 0:
            scores[:, END] = NOTHING
        if step == longest:
            ends = totals + scores[:, END]
            pairs = zip(ends.tolist(), beam.tolist(), strict=True)
            finished += [(_score(end, step, settings), words[1:]) for end, words in pairs]
            break
        best, index = (totals[:, None] + scores).flatten().topk(len(beam))
        parents, words = index // scores.shape[-1], index % scores.shape[-1]
        beam = torch.cat([beam[parents], words[:, None]], 1)
        for at in torch.nonzero(words == END).flatten().tolist():
            score = _score(best[at].item(), step, settings)
            finished.append((score, beam[at, 1:-1].tolist()))
        alive = words != END
        if not alive.any():
            break
        beam, totals = beam[alive], best[alive]
        state = tuple(part[:, parents[alive]] for part in state)
    return max(finished)[1]


def _score(log_prob: float, words: int, settings: dict) -> float:
    return log_prob / (words + 1) ** settings["length_normalization"]


def _caption_batch(decoder: Decoder, features: Tensor, settings: dict) -> list[list[int]]:
    """All images at once; a finished hypothesis can only be followed by its end again."""
    size, longest = settings["beam_size"], settings["max_length"]
    images = len(features)
    encoded = decoder.encode_features(features.float())
    state = tuple(part[:, None].expand(-1, size, -1) for part in encoded.state)
    tokens = torch.full([images, size, 1], START)
    totals = torch.tensor([0.0] + [NOTHING] * (size - 1)).repeat(images, 1)
    lengths = torch.zeros(images, size)
    row = torch.arange(images)[:, None]
    for step in range(longest + 1):
        last = tokens[..., -1]
        logits, state = decoder.step(last, state, encoded.keys_values)
        scores = torch.log_softmax(logits, -1)
        scores[..., SUPPRESSED_IDS] = NOTHING
        scores.scatter_(-1, last[..., None], NOTHING)
        if step == 0:
            scores[..., END] = NOTHING
        ended = last == END
        if step == longest:
            end = scores[..., END].clone()
            scores.fill_(NOTHING)
            scores[..., END] = end
        scores[ended] = NOTHING
        scores[..., END][ended] = 0.0
        lengths = lengths + (~ended).float()
        sums = totals[..., None] + scores
        normal = sums / lengths[..., None] ** settings["length_normalization"]
        _, index = normal.flatten(1).topk(size)
        parents, words = index // scores.shape[-1], index % scores.shape[-1]
        totals = sums.flatten(1).gather(1, index)
        lengths = lengths[row, parents]
        tokens = torch.cat([tokens[row, parents], words[..., None]], -1)
        state = tuple(part[row, parents] for part in state)
        if (words == END).all():
            break
    best = tokens[:, 0, 1:].tolist()
    return [words[: words.index(END)] for words in best]


if __name__ == "__main__":
    main()
