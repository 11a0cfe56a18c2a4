"""An exported captioner in this process, without a server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from tfx_captioner.serving.bisection import Bisection
from tfx_captioner.serving.versions import GRAPH

SignatureDef: TypeAlias = meta_graph_pb2.SignatureDef
TensorInfo: TypeAlias = meta_graph_pb2.TensorInfo

# Contract of an exported captioner: signature to its input and its outputs.
INPUTS = {
    "serving_default": "image_bytes",
    "beams": "image_bytes",
    "attention": "image_bytes",
    "serving_examples": "examples",
}
# Each output has its type and rank.
OUTPUTS = {
    "serving_default": {"caption": (tf.string, 1), "score": (tf.float32, 1)},
    "beams": {"captions": (tf.string, 2), "scores": (tf.float32, 2)},
    "attention": {"tokens": (tf.string, 2), "attention": (tf.float32, 4)},
    "serving_examples": {"caption": (tf.string, 1), "score": (tf.float32, 1)},
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
          UnusableModelError: It cannot be loaded, or a signature, its input or one of its outputs
            is missing, or is of another type or rank.
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
        inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
        if set(inputs) != {INPUTS[name]} or not set(outputs) >= set(OUTPUTS[name]):
            raise UnusableModelError(
                f"`{name}` of {folder} must map {INPUTS[name]} to {', '.join(OUTPUTS[name])}. "
                f"It maps {', '.join(sorted(inputs))} to {', '.join(sorted(outputs))}."
            )
        forms = {INPUTS[name]: (tf.string, 1)} | OUTPUTS[name]
        for alias, (dtype, rank) in forms.items():
            spec = (inputs | outputs)[alias]
            if spec.dtype != dtype or spec.shape.rank not in (None, rank):
                raise UnusableModelError(
                    f"`{alias}` of `{name}` of {folder} must be {dtype.name} of rank {rank}. "
                    f"Received: {spec.dtype.name} {spec.shape}."
                )


def signatures_on_disk(folder: str) -> dict[str, SignatureDef]:
    """The signatures that a SavedModel says it has, without loading it.

    Args:
      folder: Folder of the SavedModel; any path that TensorFlow opens.

    Raises:
      UnusableModelError: It cannot be read.
    """
    path = f"{folder}/{GRAPH}"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            saved = saved_model_pb2.SavedModel.FromString(file.read())
    except (DecodeError, tf.errors.OpError) as error:
        raise UnusableModelError(f"{path} is no SavedModel: {error}") from error
    for graph in saved.meta_graphs:
        if tf.saved_model.SERVING in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise UnusableModelError(f"{path} has no graph with the tag `{tf.saved_model.SERVING}`.")


def broken_promises(
    before: Mapping[str, SignatureDef], after: Mapping[str, SignatureDef]
) -> list[str]:
    """What clients of one version would miss in another, in words; more than before is no loss.

    Args:
      before: Signatures of the version that clients know.
      after: Signatures of the one they would be given.

    Returns:
      Signatures, inputs and outputs that are missing, or are of another type or rank.
    """
    problems = []
    for name, known in sorted(before.items()):
        if name.startswith("__"):  # TensorFlow's own
            continue
        if name not in after:
            problems.append(f"signature `{name}` is missing")
            continue
        if set(after[name].inputs) != set(known.inputs):
            problems.append(
                f"`{name}` takes {', '.join(sorted(after[name].inputs))}, "
                f"not {', '.join(sorted(known.inputs))}"
            )
            continue
        for old, new in ((known.inputs, after[name].inputs), (known.outputs, after[name].outputs)):
            for alias, info in sorted(old.items()):
                if alias not in new:
                    problems.append(f"`{name}` gives no `{alias}`")
                elif _form(new[alias]) != _form(info):
                    problems.append(
                        f"`{alias}` of `{name}` is {_form(new[alias])}, not {_form(info)}"
                    )
    return problems


def _form(info: TensorInfo) -> str:
    shape = tf.TensorShape(info.tensor_shape)
    return f"{tf.dtypes.as_dtype(info.dtype).name} of rank {shape.rank}"
