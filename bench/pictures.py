"""From bytes to pixels in the graph, against bare decoding and resizing of the same bytes.

The graph looks at a picture's size, stands it upright and lays it on white; the bare side does none
of that. Picture by picture in turns, by the processor's time, which other load on the machine
changes least.

usage: python -m bench.pictures [--images FOLDER] [--number 100] [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf
from PIL import Image

from bench.featurizer import read_pictures
from tfx_captioner.models import images

SIZE = 224
_ORIENTATION = 0x0112


def main() -> None:
    """Prints a table of milliseconds per picture and their ratio to the baseline."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of JPEGs; default: generated noise")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    pictures = read_pictures(arguments.images, arguments.number)
    print(f"{len(pictures)} pictures, median of {arguments.rounds} rounds, one at a time")
    print(f"{'':<32}{'bare ms':>10}{'ours ms':>10}{'ratio':>8}")
    for name, variants in _variants(pictures):
        bare, ours = _compare([tf.constant(one) for one in variants], arguments.rounds)
        print(f"{name:<32}{1000 * bare:>10.2f}{1000 * ours:>10.2f}{ours / bare:>8.3f}")


def _variants(pictures: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    opened = [Image.open(io.BytesIO(picture)) for picture in pictures]
    yield "JPEG", pictures
    for name, orientation in (("JPEG, upright by EXIF", 1), ("JPEG, turned by EXIF", 6)):
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        yield name, [_encoded(image, "JPEG", exif=exif, quality="keep") for image in opened]
    yield "PNG", [_encoded(image, "PNG", compress_level=1) for image in opened]
    for image in opened:
        image.putalpha(128)
    yield "PNG with transparency", [_encoded(image, "PNG", compress_level=1) for image in opened]


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _bare(image_bytes: tf.Tensor) -> tf.Tensor:
    pixels = tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.image.resize(pixels, (SIZE, SIZE), method="bilinear", antialias=True)


def _compare(pictures: list[tf.Tensor], rounds: int) -> tuple[float, float]:
    """Seconds of processor time per picture of both sides."""
    spec = [tf.TensorSpec([], tf.string)]
    sides = [
        tf.function(work, input_signature=spec, autograph=False)
        for work in (_bare, lambda one: images.decode_or_black(one, SIZE))
    ]
    for side in sides:
        side(pictures[0])  # traced before the first clock
    spent: list[list[float]] = [[], []]
    for _ in range(rounds):
        totals = [0.0, 0.0]
        for picture in pictures:
            for index, side in enumerate(sides):
                totals[index] += _seconds(side, picture)
        for index, total in enumerate(totals):
            spent[index].append(total / len(pictures))
    bare, ours = (statistics.median(times) for times in spent)
    return bare, ours


def _seconds(work: Callable[[tf.Tensor], object], picture: tf.Tensor) -> float:
    start = time.process_time()
    work(picture)
    return time.process_time() - start


if __name__ == "__main__":
    main()
