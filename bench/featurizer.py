"""ImageFeaturizer against a bare `encoder.predict` loop over the same pictures, already decoded.

The node also reads, decodes, resizes, builds examples, compresses and writes. Both sides run on
the same cores, in turns, so that other load on the machine meets both.

usage: python -m bench.featurizer [--encoder resnet50] [--images FOLDER] [--number 256] [--rounds 3]
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from tfx_captioner.components.image_featurizer.featurizing import Featurizer, Shard
from tfx_captioner.models import images
from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import encoder_names

BATCH_SIZE = 32


def main() -> None:
    """Prints a table of images per second and their ratio to the baseline."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="resnet50", choices=encoder_names())
    parser.add_argument("--weights", help="as in the configuration; default: random")
    parser.add_argument("--images", type=Path, help="folder of JPEGs; default: generated noise")
    parser.add_argument("--number", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    pictures = read_pictures(arguments.images, arguments.number)
    featurizer = Featurizer(EncoderConfig(arguments.encoder, arguments.weights), BATCH_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        shard = _shard(Path(folder), pictures)
        decoded = images.decode_and_resize(pictures, featurizer.encoder.input_size).numpy()

        def predict() -> None:
            featurizer.encoder.model.predict(decoded, batch_size=BATCH_SIZE, verbose=0)

        def node() -> None:
            featurizer.featurize(shard)

        rates: dict[str, list[float]] = {"predict": [], "node": []}
        for work in (predict, node):
            work()  # compiled before the first clock
        for _ in range(arguments.rounds):
            rates["predict"].append(len(pictures) / _seconds(predict))
            rates["node"].append(len(pictures) / _seconds(node))
    baseline = statistics.median(rates["predict"])
    ratio = statistics.median(
        ours / theirs for ours, theirs in zip(rates["node"], rates["predict"], strict=True)
    )
    print(f"{arguments.encoder}, {len(pictures)} images, median of {arguments.rounds} rounds")
    print(f"{'':<44}{'images/s':>10}{'ratio':>8}")
    print(f"{'encoder.predict, pixels already decoded':<44}{baseline:>10.1f}{1:>8.2f}")
    rate = statistics.median(rates["node"])
    print(f"{'ImageFeaturizer, from TFRecord to TFRecord':<44}{rate:>10.1f}{ratio:>8.2f}")


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_pictures(folder: Path | None, number: int) -> list[bytes]:
    """JPEGs of a folder, or as many of generated noise."""
    if folder is not None:
        paths = sorted(folder.glob("*.jpg"))[:number]
        if not paths:
            raise SystemExit(f"`--images` must be a folder of JPEGs. Received: {folder}.")
        return [path.read_bytes() for path in paths]
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(number):
        # Smooth noise, which has the file size of a photograph of 500 x 375 pixels.
        coarse = Image.fromarray(random.integers(0, 255, (94, 125, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        pictures.append(buffer.getvalue())
    return pictures


def _shard(folder: Path, pictures: list[bytes]) -> Shard:
    source, target = folder / "examples.gz", folder / "featurized.gz"
    with tf.io.TFRecordWriter(str(source), "GZIP") as writer:
        for index, picture in enumerate(pictures):
            example = tf.train.Example()
            feature = example.features.feature
            feature["image/id"].bytes_list.value.append(f"{index}.jpg".encode())
            feature["image/encoded"].bytes_list.value.append(picture)
            writer.write(example.SerializeToString())
    return Shard("train", str(source), str(target), f"{folder}/partial-")


if __name__ == "__main__":
    main()
