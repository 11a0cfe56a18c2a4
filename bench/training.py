"""Decoder training: captions per second against the common notebook way.

The baseline is what captioning notebooks do: every prefix of every caption is a sample of its own,
padded to the longest caption, with the next word as a one-hot label; an LSTM reads the prefix, its
last output is merged with the image's feature vector. It is given its samples ready made, so that
no time goes into the Python generator such notebooks have. Same cell, same sizes of embedding,
recurrent state and vocabulary, same machine, one run. CPU time is given beside wall time: other
load on the machine changes it far less.

usage: python -m bench.training [--cell gru] [--units 512] [--vocabulary-size 3000]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from models.captioner import Captioner
from models.config import DecoderConfig, TrainerConfig
from models.data import CaptionData
from models.data_config import TextConfig
from models.decoders.recurrent import RecurrentDecoder
from models.training import make_optimizer, make_train_step

POSITIONS, CHANNELS = 49, 2048
CAPTIONS_PER_IMAGE = 5
# Captions per step of the baseline: about 400 prefixes, of which more at once gain nothing.
NOTEBOOK_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Captions:
    """Made-up captions with the lengths of Flickr8k's: 12 tokens on the average, 37 at the most."""

    token_ids: np.ndarray
    features: np.ndarray

    @property
    def count(self) -> int:
        return len(self.token_ids)


def make_captions(images: int, vocabulary_size: int) -> Captions:
    """Draws captions and features.

    Args:
      images: Number of images; each has five captions.
      vocabulary_size: Number of token ids.
    """
    rng = np.random.default_rng(0)
    count = images * CAPTIONS_PER_IMAGE
    # Log-normal, fitted to the train split: words without start and end.
    words = np.clip(np.round(rng.lognormal(2.32, 0.34, count)), 2, 35).astype(int)
    words[0] = 35
    token_ids = np.zeros([count, 37], np.int32)
    for row, length in zip(token_ids, words, strict=True):
        row[: length + 2] = [1, *rng.integers(4, vocabulary_size, length), 2]
    features = rng.normal(size=(images, POSITIONS, CHANNELS)).astype(np.float16)
    return Captions(token_ids, features)


def notebook_way(
    captions: Captions, rows: np.ndarray, config: DecoderConfig, vocabulary_size: int
) -> Callable[[], None]:
    """One training step on all prefixes of some captions; their arrays are made here, untimed."""
    feature_input = keras.Input((CHANNELS,))
    image = layers.Dense(config.units, activation="relu")(layers.Dropout(0.5)(feature_input))
    prefix_input = keras.Input((captions.token_ids.shape[1],))
    words = layers.Embedding(vocabulary_size, config.embedding_dim, mask_zero=True)(prefix_input)
    cell = {"lstm": layers.LSTM, "gru": layers.GRU}[config.cell]
    text = cell(config.units)(layers.Dropout(0.5)(words))
    merged = layers.Dense(config.units, activation="relu")(layers.add([image, text]))
    outputs = layers.Dense(vocabulary_size, activation="softmax")(merged)
    model = keras.Model([feature_input, prefix_input], outputs)
    model.compile(loss="categorical_crossentropy", optimizer="adam")

    pooled = captions.features.astype(np.float32).mean(axis=1)
    images, prefixes, targets = [], [], []
    for row in rows:
        token_ids = captions.token_ids[row]
        for end in range(1, np.count_nonzero(token_ids)):
            prefix = np.zeros_like(token_ids)
            prefix[-end:] = token_ids[:end]  # padded in front, as `pad_sequences` does
            images.append(pooled[row // CAPTIONS_PER_IMAGE])
            prefixes.append(prefix)
            targets.append(token_ids[end])
    inputs = [np.stack(images), np.stack(prefixes)]
    labels = keras.utils.to_categorical(targets, vocabulary_size)
    return lambda: model.train_on_batch(inputs, labels)


def our_way(
    captions: Captions, config: DecoderConfig, vocabulary_size: int, matmul_dtype: str
) -> Callable:
    """One training step on a batch of `CaptionData`, as the Trainer takes it."""
    decoder = RecurrentDecoder.from_settings(config, vocabulary_size)
    decoder.training_dtype = matmul_dtype
    decoder.build((None, None), (None, POSITIONS, CHANNELS))
    captioner = Captioner(decoder)
    optimizer = make_optimizer(TrainerConfig(), steps_per_epoch=100)
    optimizer.build(captioner.trainable_variables)
    return make_train_step(captioner, optimizer, 0.0, caption_data(captions).batch_spec)


def caption_data(captions: Captions) -> CaptionData:
    """The captions as the Trainer reads them: the few that are longer are cut."""
    splits = np.arange(len(captions.features) + 1) * CAPTIONS_PER_IMAGE
    token_ids = captions.token_ids[:, : TextConfig().max_caption_length]
    return CaptionData(captions.features, token_ids, splits)


def main() -> None:
    """Prints captions per second and their ratio to the baseline."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=["lstm", "gru"], default="lstm")
    parser.add_argument("--units", type=int, default=DecoderConfig().units)
    parser.add_argument("--embedding-dim", type=int, default=DecoderConfig().embedding_dim)
    parser.add_argument("--vocabulary-size", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=TrainerConfig().batch_size)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    vocabulary_size, batch_size = arguments.vocabulary_size, arguments.batch_size
    captions = make_captions(images=batch_size, vocabulary_size=vocabulary_size)
    configs = {
        attention: DecoderConfig(
            cell=arguments.cell,
            units=arguments.units,
            embedding_dim=arguments.embedding_dim,
            attention=attention,
            tie_embeddings=False,
        )
        for attention in ("none", "dot_product", "additive")
    }
    rows = np.random.default_rng(1).permutation(captions.count)[:NOTEBOOK_BATCH]
    baseline = notebook_way(captions, rows, configs["none"], vocabulary_size)
    steps = {
        f"{name}, {dtype}": our_way(captions, config, vocabulary_size, dtype)
        for name, config in configs.items()
        for dtype in ("float32", "bfloat16")
    }

    def epoch(step: Callable, seed: int) -> None:
        for batch in caption_data(captions).epoch(batch_size, shuffle=(seed, 0)):
            step(batch)

    baseline()
    for step in steps.values():
        epoch(step, seed=0)  # compiled before the first clock
    spent: dict[str, list[np.ndarray]] = {"notebook": [], **{name: [] for name in steps}}
    for round_ in range(arguments.rounds):
        # In turns, so that other load on the machine meets all of them.
        spent["notebook"].append(_seconds(baseline) / len(rows))
        for name, step in steps.items():
            seconds = _seconds(lambda step=step, seed=round_: epoch(step, seed))
            spent[name].append(seconds / captions.count)

    print(f"{arguments.cell}, {arguments.units} units, vocabulary of {vocabulary_size}:")
    print(f"{'':50}{'captions/s':>12}{'ratio':>8}{'captions/CPU s':>16}{'ratio':>8}")
    labels = {"notebook": "every prefix a sample"}
    labels |= {name: f"whole captions, attention: {name}" for name in steps}
    rates = {name: 1 / np.median(rounds, axis=0) for name, rounds in spent.items()}
    for name, label in labels.items():
        (wall, cpu), (wall_ratio, cpu_ratio) = rates[name], rates[name] / rates["notebook"]
        print(f"{label:50}{wall:12.1f}{wall_ratio:8.1f}{cpu:16.1f}{cpu_ratio:8.1f}")


def _seconds(work: Callable[[], None]) -> np.ndarray:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - wall, time.process_time() - cpu])


if __name__ == "__main__":
    main()
