"""Decoder training: captions per second against the common notebook way, and against PyTorch.

The notebook way: every prefix of every caption is a sample of its own, padded to the longest
caption, with the next word as a one-hot label; an LSTM reads the prefix, its last output is merged
with the image's feature vector. It is measured three times:

- "prefixes ready made": the samples of 32 captions lie in arrays before the clock starts, so that
  no Python is measured;
- "generator, N photos a step": `fit` on the generator such notebooks have, which makes the samples
  of N photographs while training, with `pad_sequences` and `to_categorical`. One photograph a step
  is how the first tutorials have it.

PyTorch: the same decoder, `bench/pytorch/decoder.py`, with packed sequences, on the same batches
with the same optimizer, clipping and average of the weights, in a process of its own.

Same cell, same sizes of embedding, recurrent state and vocabulary, same machine, all in turns. CPU
time is given beside wall time: other load on the machine changes it far less, least of all with
`--threads 1`, where no thread burns time waiting for another that was put off.

usage: python -m bench.training [--cell gru] [--units 512] [--vocabulary-size 3000]
           [--torch-python PYTHON] [--threads 1]
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from bench.pytorch.process import TorchProcess, find_torch
from tfx_captioner.models.captioner import Captioner
from tfx_captioner.models.config import DecoderConfig, TrainerConfig
from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.data_config import TextConfig
from tfx_captioner.models.decoders.recurrent import RecurrentDecoder
from tfx_captioner.models.training import make_optimizer, make_train_step

POSITIONS, CHANNELS = 49, 2048
CAPTIONS_PER_IMAGE = 5
# Captions per step of the baseline: about 400 prefixes, of which more at once gain nothing.
NOTEBOOK_BATCH = 32
# Photographs per step of its generator, and photographs per round.
NOTEBOOK_PHOTOS = (1, 6)
NOTEBOOK_ROUND = 6
ATTENTIONS = ("none", "dot_product", "additive")
DTYPES = ("float32", "bfloat16")
# Does one round, of a number, and gives captions and wall and CPU seconds.
Party = Callable[[int], tuple[int, np.ndarray]]


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


class Notebook:
    """The model of the notebooks, and its samples.

    Args:
      captions: What is learned.
      config: Cell and sizes.
      vocabulary_size: Number of token ids.
    """

    def __init__(self, captions: Captions, config: DecoderConfig, vocabulary_size: int):
        self._captions = captions
        self._vocabulary_size = vocabulary_size
        self._pooled = captions.features.astype(np.float32).mean(axis=1)
        feature_input = keras.Input((CHANNELS,))
        image = layers.Dense(config.units, activation="relu")(layers.Dropout(0.5)(feature_input))
        prefix_input = keras.Input((captions.token_ids.shape[1],))
        words = layers.Embedding(vocabulary_size, config.embedding_dim, mask_zero=True)
        cell = {"lstm": layers.LSTM, "gru": layers.GRU}[config.cell]
        text = cell(config.units)(layers.Dropout(0.5)(words(prefix_input)))
        merged = layers.Dense(config.units, activation="relu")(layers.add([image, text]))
        outputs = layers.Dense(vocabulary_size, activation="softmax")(merged)
        self.model = keras.Model([feature_input, prefix_input], outputs)
        self.model.compile(loss="categorical_crossentropy", optimizer="adam")

    def ready_made(self, rows: np.ndarray) -> Party:
        """A step on all prefixes of some captions, whose arrays are made here, untimed."""
        inputs, labels = self._samples(rows)

        def step(_: int) -> tuple[int, np.ndarray]:
            return len(rows), seconds_of(lambda: self.model.train_on_batch(inputs, labels))

        return step

    def generator(self, photos: int) -> Party:
        """`fit` on a generator that makes the samples of `photos` images at a time."""

        def batches() -> Iterator[tuple]:
            for first in range(0, NOTEBOOK_ROUND, photos):
                rows = np.arange(first, first + photos)[:, None] * CAPTIONS_PER_IMAGE
                inputs, labels = self._samples((rows + np.arange(CAPTIONS_PER_IMAGE)).flatten())
                yield tuple(inputs), labels

        steps = NOTEBOOK_ROUND // photos

        def fit(_: int) -> tuple[int, np.ndarray]:
            return NOTEBOOK_ROUND * CAPTIONS_PER_IMAGE, seconds_of(
                lambda: self.model.fit(batches(), steps_per_epoch=steps, verbose=0)
            )

        return fit

    def _samples(self, rows: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Images and prefixes, and one-hot labels, as the notebooks make them."""
        images, prefixes, targets = [], [], []
        width = self._captions.token_ids.shape[1]
        for row in rows:
            token_ids = self._captions.token_ids[row].tolist()
            for end in range(1, np.count_nonzero(token_ids)):
                prefix = keras.utils.pad_sequences([token_ids[:end]], maxlen=width)[0]
                images.append(self._pooled[row // CAPTIONS_PER_IMAGE])
                prefixes.append(prefix)
                targets.append(
                    keras.utils.to_categorical([token_ids[end]], self._vocabulary_size)[0]
                )
        return [np.array(images), np.array(prefixes)], np.array(targets)


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
    return make_train_step(
        captioner, optimizer, TrainerConfig().label_smoothing, caption_data(captions).batch_spec
    )


def caption_data(captions: Captions) -> CaptionData:
    """The captions as the Trainer reads them: the few that are longer are cut."""
    splits = np.arange(len(captions.features) + 1) * CAPTIONS_PER_IMAGE
    token_ids = captions.token_ids[:, : TextConfig().max_caption_length]
    return CaptionData(captions.features, token_ids, splits)


def torch_way(
    peer: TorchProcess, captions: Captions, batch_size: int, attention: str, dtype: str
) -> Party:
    """An epoch of PyTorch on the batches that ours would have."""

    def epoch(seed: int) -> tuple[int, np.ndarray]:
        data = caption_data(captions).epoch(batch_size, shuffle=(seed, 0))
        images = [batch["images"].tolist() for batch in data.as_numpy_iterator()]
        answer = peer.ask(attention=attention, dtype=dtype, images=images)
        return captions.count, np.array(answer["seconds"])

    return epoch


def start_torch(
    python: str,
    folder: Path,
    captions: Captions,
    config: DecoderConfig,
    vocabulary_size: int,
    threads: int,
) -> TorchProcess:
    """The PyTorch side, with our captions and settings."""
    trainer = TrainerConfig()
    settings = {
        **dataclasses.asdict(config),
        "attentions": ATTENTIONS,
        "vocabulary_size": vocabulary_size,
        "channels": CHANNELS,
        **{
            name: getattr(trainer, name)
            for name in (
                "learning_rate", "weight_decay", "gradient_clip_norm",
                "label_smoothing", "ema_momentum",
            )
        },
    }  # fmt: skip
    token_ids = captions.token_ids[:, : TextConfig().max_caption_length]
    arrays = {"features": captions.features, "token_ids": token_ids}
    return TorchProcess(python, "training", folder, settings, arrays, threads)


def main() -> None:
    """Prints captions per second and their ratios to the baselines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=["lstm", "gru"], default="lstm")
    parser.add_argument("--units", type=int, default=DecoderConfig().units)
    parser.add_argument("--embedding-dim", type=int, default=DecoderConfig().embedding_dim)
    parser.add_argument("--vocabulary-size", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=TrainerConfig().batch_size)
    parser.add_argument("--steps", type=int, default=2, help="of whole captions per round")
    parser.add_argument("--rounds", type=int, default=3)
    add_common_arguments(parser)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)

    vocabulary_size, batch_size = arguments.vocabulary_size, arguments.batch_size
    images = max(NOTEBOOK_ROUND, arguments.steps * batch_size // CAPTIONS_PER_IMAGE)
    captions = make_captions(images=images, vocabulary_size=vocabulary_size)
    configs = {
        attention: DecoderConfig(
            cell=arguments.cell,
            units=arguments.units,
            embedding_dim=arguments.embedding_dim,
            attention=attention,
            tie_embeddings=False,
        )
        for attention in ATTENTIONS
    }
    notebook = Notebook(captions, configs["none"], vocabulary_size)
    rows = np.random.default_rng(1).permutation(captions.count)[:NOTEBOOK_BATCH]
    parties: dict[str, Party] = {"notebook, prefixes ready made": notebook.ready_made(rows)}
    for photos in NOTEBOOK_PHOTOS:
        name = f"notebook, generator, photos a step: {photos}"
        parties[name] = notebook.generator(photos)

    kinds = [(attention, dtype) for attention in ATTENTIONS for dtype in DTYPES]
    for attention, dtype in kinds:
        step = our_way(captions, configs[attention], vocabulary_size, dtype)
        parties[f"ours, attention {attention}, {dtype}"] = _epoch(step, captions, batch_size)
    python, version = find_torch(arguments.torch_python)
    with tempfile.TemporaryDirectory() as folder:
        if python:
            peer = start_torch(
                python, Path(folder), captions, configs["none"], vocabulary_size, arguments.threads
            )
            for attention, dtype in kinds:
                name = f"PyTorch, attention {attention}, {dtype}"
                parties[name] = torch_way(peer, captions, batch_size, attention, dtype)
        spent: dict[str, list[np.ndarray]] = {name: [] for name in parties}
        for round_ in range(arguments.rounds + 1):
            # In turns, so that other load on the machine meets all of them.
            for name, party in parties.items():
                count, seconds = party(round_)
                spent[name].append(seconds / count)
        if python:
            peer.close()

    # Of the first round, compilation is a part.
    rates = {name: 1 / np.median(rounds[1:], axis=0) for name, rounds in spent.items()}
    print(f"{arguments.cell}, {arguments.units} units, vocabulary of {vocabulary_size}, steps of")
    print(f"{batch_size} captions, median of {arguments.rounds} rounds; PyTorch: {version}")
    print("ratios, of wall and of CPU time: to prefixes ready made, to the generator with one")
    print("photograph a step, and to PyTorch with the same attention and type")
    print(f"{'':44}{'captions/s':>11}{'per CPU s':>11}{'ready made':>14}{'generator':>14}", end="")
    print(f"{'PyTorch':>14}")
    baselines = list(rates)[:2]
    for name, rate in rates.items():
        twin = name.replace("ours", "PyTorch")
        compared = [*baselines, twin] if name.startswith("ours") else baselines
        ratios = [rate / rates[other] for other in compared if other in rates]
        cells = [f"{wall:.1f} / {cpu:.1f}" for wall, cpu in ratios]
        print(f"{name:44}{rate[0]:11.1f}{rate[1]:11.1f}" + "".join(f"{cell:>14}" for cell in cells))


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What all benches against PyTorch take."""
    parser.add_argument("--torch-python", help="a Python that has PyTorch")
    parser.add_argument("--threads", type=int, default=0, help="of each side; default: all cores")


def _epoch(step: Callable, captions: Captions, batch_size: int) -> Party:
    data = caption_data(captions)

    def epoch(seed: int) -> tuple[int, np.ndarray]:
        def run() -> None:
            for batch in data.epoch(batch_size, shuffle=(seed, 0)):
                step(batch)

        return captions.count, seconds_of(run)

    return epoch


def seconds_of(work: Callable[[], object]) -> np.ndarray:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - wall, time.process_time() - cpu])


if __name__ == "__main__":
    main()
