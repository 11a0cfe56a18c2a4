"""An exported model in this process, without a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf


def load_captioner(folder: str) -> Callable[[Sequence[bytes]], list[tuple[str, float]]]:
    """Loads an exported model for use in this process.

    Args:
      folder: Folder of the SavedModel.

    Returns:
      A function from encoded images to their captions and scores.

    Raises:
      ValueError: No captioning model is there.
    """
    if not tf.saved_model.contains_saved_model(folder):
        raise ValueError(f"No SavedModel in {folder}.")
    model = tf.saved_model.load(folder)
    if "serving_default" not in model.signatures:
        raise ValueError(f"The SavedModel in {folder} has no signature `serving_default`.")

    def caption(image_bytes: Sequence[bytes]) -> list[tuple[str, float]]:
        # Through `model` and not its signature alone: variables live no longer than it does.
        signature = model.signatures["serving_default"]
        answer = signature(image_bytes=tf.constant(list(image_bytes), tf.string))
        captions = [caption.decode("utf-8") for caption in answer["caption"].numpy()]
        return list(zip(captions, answer["score"].numpy().tolist(), strict=True))

    return caption
