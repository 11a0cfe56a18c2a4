"""An exported captioner in this process, without a server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfx_captioner.serving.bisection import Bisection

# Contract of an exported captioner: signature to its input and its outputs.
INPUTS = {
    "serving_default": "image_bytes",
    "beams": "image_bytes",
    "attention": "image_bytes",
    "serving_examples": "examples",
}
OUTPUTS = {
    "serving_default": ("caption", "score"),
    "beams": ("captions", "scores"),
    "attention": ("tokens", "attention"),
    "serving_examples": ("caption", "score"),
}


class UnusableModelError(ValueError):
    """A SavedModel cannot be loaded, or has not the signatures of a captioner."""


class RefusedImage(NamedTuple):
    """Why a model raised an error for an image."""

    message: str


class SavedCaptioner:
    """A SavedModel with the signatures of a captioner.

    Example:

    ```python
    captioner = SavedCaptioner("runs/sample/serving/captioner/1795870783")
    [(caption, score)] = captioner.captions([Path("photo.jpg").read_bytes()])
    ```
    """

    def __init__(self, folder: str, signatures: Iterable[str] = ("serving_default",)) -> None:
        """Loads a SavedModel.

        Args:
          folder: Folder of the SavedModel; any path that TensorFlow opens.
          signatures: Signatures it must have.

        Raises:
          UnusableModelError: It cannot be loaded, or lacks a signature, its input or its outputs.
        """
        try:
            # Held by this object: a signature alone does not keep its variables alive.
            self._model = tf.saved_model.load(folder)
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            raise UnusableModelError(f"{folder} cannot be loaded: {error}") from error
        for name in signatures:
            self._check(folder, name)

    def has(self, signature: str) -> bool:
        """Whether the model has a signature."""
        return signature in self._model.signatures

    def call(self, signature: str, values: Sequence[bytes]) -> Mapping[str, np.ndarray]:
        """Calls a signature.

        Args:
          signature: Name of a signature of the model.
          values: Encoded images, or serialized Examples, N of them.

        Returns:
          Arrays [N, ...] by name of the output; strings are bytes.

        Raises:
          tf.errors.OpError: The graph refused one of the values.
        """
        function = self._model.signatures[signature]
        outputs = function(**{INPUTS[signature]: tf.constant(list(values), tf.string)})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def captions(self, images: Sequence[bytes]) -> list[tuple[str, float] | RefusedImage]:
        """Caption and score of each image, or why the model refused it.

        One image that is refused fails its batch, so it is found by halving.

        Args:
          images: Encoded images.
        """
        search: Bisection[bytes, tuple[str, float], RefusedImage] = Bisection(images)
        while search.batch:
            try:
                outputs = self.call("serving_default", search.batch)
            except tf.errors.InvalidArgumentError as error:
                search.refuse(RefusedImage(error.message))
                continue
            texts = [text.decode("utf-8", errors="replace") for text in outputs["caption"]]
            search.answer(list(zip(texts, outputs["score"].tolist(), strict=True)))
        return search.results

    def attention(self, image: bytes) -> tuple[list[str], np.ndarray]:
        """Words of the caption of an image, and where the model looked for each.

        Args:
          image: An encoded image.

        Returns:
          The words, and float32 [words, height, width].

        Raises:
          tf.errors.InvalidArgumentError: The model refuses the image.
        """
        outputs = self.call("attention", [image])
        tokens = [token.decode("utf-8", errors="replace") for token in outputs["tokens"][0]]
        words = [row for row, token in enumerate(tokens) if token]
        return [tokens[row] for row in words], outputs["attention"][0][words]

    def _check(self, folder: str, name: str) -> None:
        signature = self._model.signatures.get(name)
        if signature is None:
            raise UnusableModelError(
                f"{folder} must have the signature `{name}`. "
                f"It has: {', '.join(sorted(self._model.signatures)) or 'none'}."
            )
        inputs = set(signature.structured_input_signature[1])
        outputs = set(signature.structured_outputs)
        if inputs != {INPUTS[name]} or not outputs >= set(OUTPUTS[name]):
            raise UnusableModelError(
                f"`{name}` of {folder} must map {INPUTS[name]} to {', '.join(OUTPUTS[name])}. "
                f"It maps {', '.join(sorted(inputs))} to {', '.join(sorted(outputs))}."
            )
