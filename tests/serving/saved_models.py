"""Tiny SavedModels with the signatures of the real ones, made on the spot."""

from __future__ import annotations

import atexit
import functools
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from tfx_captioner.models import images
from tfx_captioner.models.export import NO_CAPTION_SCORE

SIZE, GRID, TOKENS, BEAMS = 16, 3, 5, 2
_COLOURS = ("red", "green", "blue", "white")


class TinyCaptioner(tf.Module):
    """Captions an image by its strongest colour; a word of every caption is read from an asset.

    It looks above, left of the middle, alone: no other way up brings the same part there.

    Like the real models: pictures come in by `models.images`, no JPEG or PNG gets an empty caption
    and a score of its own, and what the decoder refuses fails the request.
    """

    def __init__(self, word_file: Path) -> None:
        super().__init__()
        self._word = tf.saved_model.Asset(str(word_file))
        self._colours = tf.constant(_COLOURS)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def caption(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels, known = images.decode_or_black(image_bytes, SIZE)
        seen = pixels[:, : SIZE // 4, SIZE // 4 : SIZE // 2]
        means = tf.reduce_mean(seen, axis=[1, 2])
        whiteness = tf.reduce_min(means, axis=1, keepdims=True) + 64.0
        strongest = tf.argmax(tf.concat([means, whiteness], axis=1), axis=1)
        colour = tf.gather(self._colours, strongest)
        caption = tf.strings.join(
            ["a ", tf.io.read_file(self._word.asset_path), " scene in ", colour]
        )
        score = -tf.reduce_max(means, axis=1) / 255.0
        return {
            "caption": tf.where(known, caption, tf.fill(tf.shape(caption), "")),
            "score": tf.where(known, score, NO_CAPTION_SCORE),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def beams(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        best = self.caption(image_bytes)
        second = tf.strings.join([best["caption"], " again"])
        return {
            "captions": tf.stack([best["caption"], second], axis=1),
            "scores": tf.stack([best["score"], best["score"] - 1.0], axis=1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def attention(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        best = self.caption(image_bytes)
        words = tf.strings.split(best["caption"]).to_tensor("", shape=[None, TOKENS])
        maps = tf.one_hot(tf.range(TOKENS) % (GRID * GRID), GRID * GRID)
        maps = tf.reshape(maps, [1, TOKENS, GRID, GRID])
        return {"tokens": words, "attention": tf.repeat(maps, tf.shape(words)[0], axis=0)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
        return self.caption(tf.io.parse_example(examples, features)["image/encoded"])


class HalfPlusTwo(tf.Module):
    """y = 0.5 x + 2, the model of TF Serving's own tests."""

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 0.5 * x + 2.0}


def save_captioner(base: Path, version: int, word: str | None = None) -> Path:
    """Pushes a tiny captioner whose captions hold a word, its version by default."""

    def finish(path: Path) -> None:
        (path / "assets/word.txt").write_text(word or f"v{version}", encoding="utf-8")

    return _push(_captioner(), base, version, finish)


@functools.cache
def _captioner() -> Path:
    """A tiny captioner saved once; tracing it takes longer than copying it."""
    aside = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, aside)
    (aside / "word.txt").write_text("tiny", encoding="utf-8")
    module = TinyCaptioner(aside / "word.txt")
    signatures = {
        "serving_default": module.caption,
        "beams": module.beams,
        "attention": module.attention,
        "serving_examples": module.examples,
    }
    tf.saved_model.save(module, str(aside / "model"), signatures=signatures)
    _add_captioner_assets(aside / "model")
    return aside / "model"


def save_half_plus_two(base: Path, version: int) -> Path:
    """Pushes half_plus_two."""
    with tempfile.TemporaryDirectory() as aside:
        module = HalfPlusTwo()
        tf.saved_model.save(module, aside, signatures={"serving_default": module.predict})
        return _push(Path(aside), base, version)


def save_broken(base: Path, version: int) -> Path:
    """Pushes a version that does not load."""
    path = base / str(version)
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"this is no SavedModel")
    return path


def image(colour: tuple[int, int, int], size: int = 16, form: str = "PNG") -> bytes:
    """An encoded image of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, form)
    return file.getvalue()


RED, GREEN = (200, 10, 10), (10, 200, 10)


def _push(
    model: Path, base: Path, version: int, finish: Callable[[Path], object] = lambda path: None
) -> Path:
    """Writes aside and renames, as a careful pusher does."""
    base.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=base.parent, prefix=".push"))
    shutil.copytree(model, aside / "model")
    finish(aside / "model")
    path = base / str(version)
    os.replace(aside / "model", path)
    aside.rmdir()
    return path


def _add_captioner_assets(path: Path) -> None:
    extra = path / "assets.extra"
    extra.mkdir()
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = "serving_default"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([image(RED)]))
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    (extra / "captioner.json").write_text(json.dumps({"model": "tiny"}), encoding="utf-8")
