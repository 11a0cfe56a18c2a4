"""Captions with beam search: images per second against the notebook way and PyTorch, and one image.

Whole split, from features to token ids:

- the notebook way: one image at a time, `model.predict` for each hypothesis at each word, the beam
  in Python. It reads the prefix again at every word, as `bench.training` says;
- PyTorch one by one: the beam search of the common tutorials, an image at a time, with the same
  decoder and the same weights;
- PyTorch batched: the same in batches as large as ours, which few users write;
- ours, words once: with `decoding.repeatable_words`, which the others do not know.

One image: the exported SavedModel from JPEG bytes to the caption, words once, against its encoder
alone on a picture that is decoded and resized already.

Weights are random and the end is made unlikely, so that all sides say `--words` words and none
gains by ending early. That both sides search alike shows in the share of equal captions.

usage: python -m bench.decoding [--cell gru] [--images 256] [--encoder resnet50]
           [--torch-python PYTHON] [--threads 1]
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from bench.pytorch.process import TorchProcess, find_torch
from bench.serving import noise
from bench.training import (
    ATTENTIONS,
    CHANNELS,
    POSITIONS,
    Notebook,
    add_common_arguments,
    make_captions,
    seconds_of,
)
from tfx_captioner.models.captioner import Captioner, build_captioner
from tfx_captioner.models.config import (
    DecoderConfig,
    DecodingConfig,
    ModelConfig,
    RunConfig,
    TrainerConfig,
)
from tfx_captioner.models.data_config import (
    END_ID,
    SPECIAL_TOKENS,
    START_ID,
    EncoderConfig,
    TextConfig,
)
from tfx_captioner.models.decoders.recurrent import RecurrentDecoder
from tfx_captioner.models.decoding import DecoderSteps, beam_search
from tfx_captioner.models.encoders import build_encoder, encoder_names
from tfx_captioner.models.export import export
from tfx_captioner.models.vocabulary import Vocabulary
from tfx_captioner.models.weights import TrainedModel

# Of the vocabulary, those that may be repeated where others may not: as many as in the presets.
_REPEATABLE = 12
# Gives the images of a round, and its wall and CPU seconds.
Party = Callable[[], tuple[int, np.ndarray]]


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=["lstm", "gru"], default="gru")
    parser.add_argument("--attention", choices=ATTENTIONS, default="dot_product")
    parser.add_argument("--vocabulary-size", type=int, default=3000)
    parser.add_argument("--words", type=int, default=12, help="per caption")
    parser.add_argument("--images", type=int, default=256, help="of the split")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--encoder", default="resnet50", choices=encoder_names())
    parser.add_argument("--rounds", type=int, default=5)
    add_common_arguments(parser)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    config = DecoderConfig(cell=arguments.cell, attention=arguments.attention)
    words = tuple(f"word{index}" for index in range(arguments.vocabulary_size))
    vocabulary = Vocabulary(SPECIAL_TOKENS + words[len(SPECIAL_TOKENS) :])
    decoding = DecodingConfig(max_length=arguments.words)
    repeatable = " ".join(words[len(SPECIAL_TOKENS) :][:_REPEATABLE])
    once = dataclasses.replace(decoding, repeatable_words=repeatable)
    _whole_split(config, decoding, once, vocabulary, arguments)
    _single_image(config, once, vocabulary, arguments)


def _whole_split(
    config: DecoderConfig,
    decoding: DecodingConfig,
    once: DecodingConfig,
    vocabulary: Vocabulary,
    arguments: argparse.Namespace,
) -> None:
    captions = make_captions(arguments.images, arguments.vocabulary_size)
    decoder = RecurrentDecoder.from_settings(config, arguments.vocabulary_size)
    decoder.build((None, None), (None, POSITIONS, CHANNELS))
    _make_talkative(decoder)
    searched = decoder, vocabulary, captions.features, arguments.batch_size
    ours, captions_of_ours = _ours(*searched, decoding)
    ours_once, _ = _ours(*searched, once)
    parties = {
        "notebook": _notebook(config, decoding, arguments),
        "ours": ours,
        "ours, words once": ours_once,
    }
    python, version = find_torch(arguments.torch_python)
    with tempfile.TemporaryDirectory() as folder:
        if python:
            settings = {
                **dataclasses.asdict(config),
                **dataclasses.asdict(decoding),
                "vocabulary_size": arguments.vocabulary_size,
                "channels": CHANNELS,
                "batch_size": arguments.batch_size,
            }
            arrays = {weight.path.split("/", 1)[1]: weight.numpy() for weight in decoder.weights}
            arrays["features"] = captions.features
            peer = TorchProcess(
                python, "decoding", Path(folder), settings, arrays, arguments.threads
            )
            few = min(32, arguments.images)
            parties["PyTorch one by one"] = _torch(peer, "one by one", few, captions_of_ours)
            parties["PyTorch batched"] = _torch(peer, "batched", arguments.images, captions_of_ours)
        rates = _rates(parties, arguments.rounds)
        if python:
            peer.close()
    print(f"{arguments.cell}, attention {arguments.attention}, vocabulary of ", end="")
    print(f"{arguments.vocabulary_size}, beam {decoding.beam_size}, {arguments.words} words, ")
    print(f"batches of {arguments.batch_size}, median of {arguments.rounds}; PyTorch: {version}")
    print(
        f"{'features to token ids':24}{'images/s':>12}{'per CPU s':>12}{'ours: wall':>12}{'CPU':>8}"
    )
    for name, rate in rates.items():
        wall, cpu = rates["ours"] / rate
        print(f"{name:24}{rate[0]:12.2f}{rate[1]:12.2f}{wall:11.1f}x{cpu:7.1f}x")


def _ours(
    decoder: RecurrentDecoder,
    vocabulary: Vocabulary,
    features: np.ndarray,
    batch_size: int,
    decoding: DecodingConfig,
) -> tuple[Party, list[list[int]]]:
    """The search as validation, evaluator and server run it, and the captions of its last round."""
    captioner = Captioner(decoder)
    token_ids: list[list[int]] = []

    def search(inputs: tf.Tensor) -> tf.Tensor:
        encoded = captioner.encode(inputs)
        return beam_search(DecoderSteps(decoder), encoded, decoding, vocabulary).token_ids[:, 0]

    spec = tf.TensorSpec([None, POSITIONS, CHANNELS], tf.float16)
    compiled = tf.function(search, input_signature=[spec], autograph=False)

    def run() -> None:
        parts = range(0, len(features), batch_size)
        rows = [compiled(features[first : first + batch_size]).numpy() for first in parts]
        token_ids[:] = [row[row > END_ID].tolist() for row in np.concatenate(rows)]

    def caption() -> tuple[int, np.ndarray]:
        return len(features), seconds_of(run)

    return caption, token_ids


def _torch(peer: TorchProcess, way: str, number: int, ours: list[list[int]]) -> Party:
    def caption() -> tuple[int, np.ndarray]:
        answer = peer.ask(way=way, number=number)
        pairs = zip(answer["captions"], ours, strict=False)
        same = sum(one == other for one, other in pairs)
        if same < 0.9 * number:
            raise RuntimeError(f"Only {same} of {number} captions of PyTorch are ours.")
        return number, np.array(answer["seconds"])

    return caption


def _notebook(
    config: DecoderConfig, decoding: DecodingConfig, arguments: argparse.Namespace
) -> Party:
    captions = make_captions(1, arguments.vocabulary_size)
    notebook = Notebook(captions, config, arguments.vocabulary_size)
    image = captions.features.astype(np.float32).mean(axis=1)
    width = captions.token_ids.shape[1]

    def run() -> None:
        beam: list[tuple[list[int], float]] = [([START_ID], 0.0)]
        for _ in range(decoding.max_length + 1):
            longer = []
            for words, total in beam:
                prefix = keras.utils.pad_sequences([words], maxlen=width)
                following = notebook.model.predict([image, prefix], verbose=0)[0]
                for word in np.argsort(following)[-decoding.beam_size :]:
                    longer.append(([*words, int(word)], total + float(np.log(following[word]))))
            beam = sorted(longer, key=lambda one: one[1])[-decoding.beam_size :]

    return lambda: (1, seconds_of(run))


def _single_image(
    config: DecoderConfig,
    decoding: DecodingConfig,
    vocabulary: Vocabulary,
    arguments: argparse.Namespace,
) -> None:
    run = RunConfig(
        model_name="bench",
        model=ModelConfig(EncoderConfig(arguments.encoder, None), config),
        text=TextConfig(),
        trainer=TrainerConfig(),
        code_fingerprint="",
        checkpoint_root="",
    )
    encoder = build_encoder(run.model.encoder)
    captioner = build_captioner(run.model, encoder, vocabulary.size)
    _make_talkative(captioner.decoder)
    alone = tf.function(lambda pixels: encoder.model(pixels, training=False), autograph=False)
    pixels = tf.random.uniform([1, encoder.input_size, encoder.input_size, 3], 0.0, 255.0)
    jpeg = tf.constant([noise()])
    with tempfile.TemporaryDirectory() as folder:
        export(folder, TrainedModel(run, encoder, captioner, {}), vocabulary, decoding)
        model = tf.saved_model.load(folder)
        signature = model.signatures["serving_default"]
        words = signature(image_bytes=jpeg)["caption"].numpy()[0].split()
        if len(words) != decoding.max_length:
            raise RuntimeError(f"The caption has {len(words)} words, not {decoding.max_length}.")

        parties: dict[str, Party] = {
            "encoder alone": lambda: (1, seconds_of(lambda: alone(pixels).numpy())),
            "JPEG to caption": lambda: (
                1,
                seconds_of(lambda: signature(image_bytes=jpeg)["caption"].numpy()),
            ),
        }
        rates = _rates(parties, 8 * arguments.rounds)
    print(
        f"\n{'one image, ' + arguments.encoder:24}{'ms':>12}{'CPU ms':>12}{'ratio':>12}{'CPU':>8}"
    )
    for name, rate in rates.items():
        (wall, cpu), ratios = 1e3 / rate, rates["encoder alone"] / rate
        print(f"{name:24}{wall:12.1f}{cpu:12.1f}{ratios[0]:12.2f}{ratios[1]:8.2f}")


def _make_talkative(decoder: RecurrentDecoder) -> None:
    """Makes the end unlikely, and words differ enough that rounding decides nothing."""
    bias = decoder.output_bias.numpy()
    bias[END_ID] = -20.0
    decoder.output_bias.assign(bias)
    kernel = decoder.output_projection.kernel
    kernel.assign(8.0 * kernel)


def _rates(parties: dict[str, Party], rounds: int) -> dict[str, np.ndarray]:
    """Median images per wall and CPU second, measured in turns, so that other load meets all."""
    spent: dict[str, list[np.ndarray]] = {name: [] for name in parties}
    for _ in range(rounds + 1):
        for name, party in parties.items():
            images, seconds = party()
            spent[name].append(seconds / images)
    # In the first round things are compiled.
    return {name: 1 / np.median(rounds_[1:], axis=0) for name, rounds_ in spent.items()}


if __name__ == "__main__":
    main()
