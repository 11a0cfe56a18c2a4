"""Captions of the evaluated split, asked from the SavedModel that would be shipped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfx_captioner.components.caption_evaluator.images import raw_records

LOG = logging.getLogger("captioner.caption_evaluator")

SIGNATURE = "serving_default"
ATTENTION_SIGNATURE = "attention"
_SECONDS_BETWEEN_PROGRESS_LINES = 15.0

Captioner = Callable[[tf.Tensor], list[str]]
# Words of the caption of one encoded image, and attention float [words, height, width].
Attention = Callable[[bytes], tuple[list[str], np.ndarray]]


class UnusableModelError(ValueError):
    """A SavedModel cannot be loaded, or has not the signature that captions images."""


@dataclass
class Captions:
    """What a model said.

    Attributes:
      texts: Image id to caption; empty where the model gave none.
      refused: Ids of images for which the model raised an error.
      seconds: Time it took, loading not counted.
    """

    texts: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def empty(self) -> list[str]:
        """Ids of images without a caption, those refused included."""
        return [image_id for image_id, text in self.texts.items() if not text.strip()]


def load_captioner(model_path: str) -> Captioner:
    """Loads `serving_default` of a SavedModel.

    Args:
      model_path: Folder of the SavedModel.

    Returns:
      A function from a string tensor [N] of encoded images to N captions.

    Raises:
      UnusableModelError: The model cannot be loaded or lacks the signature or its names.
    """
    try:
        model = tf.saved_model.load(model_path)
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise UnusableModelError(f"{model_path} cannot be loaded: {error}") from error
    signature = model.signatures.get(SIGNATURE)
    if signature is None:
        raise UnusableModelError(
            f"{model_path} must have the signature `{SIGNATURE}`. "
            f"It has: {', '.join(model.signatures) or 'none'}."
        )
    inputs = set(signature.structured_input_signature[1])
    if inputs != {"image_bytes"} or "caption" not in signature.structured_outputs:
        raise UnusableModelError(
            f"`{SIGNATURE}` of {model_path} must map `image_bytes` to `caption`. It maps "
            f"{', '.join(sorted(inputs))} to {', '.join(sorted(signature.structured_outputs))}."
        )

    def captions(image_bytes: tf.Tensor) -> list[str]:
        # `model` is held here: a signature alone does not keep its variables alive.
        texts = model.signatures[SIGNATURE](image_bytes=image_bytes)["caption"]
        return [text.decode("utf-8", errors="replace") for text in texts.numpy()]

    return captions


def load_attention(model_path: str) -> Attention | None:
    """Loads `attention` of a SavedModel; None where it has none.

    Args:
      model_path: Folder of a SavedModel that `load_captioner` accepted.
    """
    model = tf.saved_model.load(model_path)
    if ATTENTION_SIGNATURE not in model.signatures:
        return None

    def attention(encoded: bytes) -> tuple[list[str], np.ndarray]:
        outputs = model.signatures[ATTENTION_SIGNATURE](image_bytes=tf.constant([encoded]))
        tokens = [token.decode("utf-8", errors="replace") for token in outputs["tokens"][0].numpy()]
        words = [row for row, token in enumerate(tokens) if token]
        return [tokens[row] for row in words], outputs["attention"][0].numpy()[words]

    return attention


def caption_split(
    captioner: Captioner, files: Sequence[str], wanted: Sequence[str], *, batch_size: int
) -> Captions:
    """Captions images in batches.

    Args:
      captioner: Made by `load_captioner`.
      files: GZIP TFRecords of raw examples.
      wanted: Ids of the images to caption.
      batch_size: Images per call.
    """
    result = Captions()
    keep = frozenset(wanted)
    batches = (
        raw_records(files)
        .map(lambda record: (record["image/id"], record["image/encoded"]))
        .batch(batch_size)
        .prefetch(2)
    )
    start = last_line = time.monotonic()
    for ids, encoded in batches:
        names = [image_id.decode() for image_id in ids.numpy()]
        rows = [row for row, image_id in enumerate(names) if image_id in keep]
        if rows:
            _caption_batch(
                captioner, [names[row] for row in rows], tf.gather(encoded, rows), result
            )
        now = time.monotonic()
        if now - last_line > _SECONDS_BETWEEN_PROGRESS_LINES:
            last_line = now
            done = len(result.texts)
            LOG.info("captions: %d/%d images, %.1f/s", done, len(keep), done / (now - start))
    result.seconds = time.monotonic() - start
    LOG.info("captions: %d images in %.0f s", len(result.texts), result.seconds)
    return result


def _caption_batch(
    captioner: Captioner, names: Sequence[str], encoded: tf.Tensor, result: Captions
) -> None:
    """Captions a batch; one bad image fails the whole request, so it is found by halving."""
    try:
        result.texts.update(zip(names, captioner(encoded), strict=True))
    except tf.errors.InvalidArgumentError as error:
        if len(names) == 1:
            LOG.warning("%s is refused by the model: %s", names[0], error.message)
            result.texts[names[0]] = ""
            result.refused.append(names[0])
            return
        middle = len(names) // 2
        _caption_batch(captioner, names[:middle], encoded[:middle], result)
        _caption_batch(captioner, names[middle:], encoded[middle:], result)
