"""Executor of the Exporter."""

from __future__ import annotations

from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import Artifact, artifact_utils
from tfx.utils import path_utils

from tfx_captioner.models.config import DecodingConfig
from tfx_captioner.models.data_config import parse
from tfx_captioner.models.decoding import check_repeatable_words
from tfx_captioner.models.export import export
from tfx_captioner.models.vocabulary import load_vocabulary
from tfx_captioner.models.weights import load_trained


class Executor(BaseExecutor):
    """Rebuilds a trained model and exports it, on one device."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the SavedModel.

        Args:
          input_dict:
            - `weights`: one Model artifact, with what `models.trainer.run_fn` wrote.
            - `transform_graph`: one TransformGraph artifact, with the vocabulary of the training.
          output_dict:
            - `model`: one Model artifact, whose `Format-Serving` becomes the SavedModel.
          exec_properties:
            - `decoding`: JSON of a `DecodingConfig`.
            - `code_fingerprint`: not read; part of the cache key.

        Raises:
          EncoderError: The encoder cannot be built, or the weights file of its frozen part is
            another one than in the training.
          ValueError: The artifact holds no trained weights, the vocabulary is not that of the
            training, or none of the repeatable words is in it.
        """
        weights = artifact_utils.get_single_instance(input_dict["weights"])
        transform_graph = artifact_utils.get_single_instance(input_dict["transform_graph"])
        model = artifact_utils.get_single_instance(output_dict["model"])
        decoding = parse(DecodingConfig, exec_properties["decoding"])
        vocabulary = load_vocabulary(transform_graph.uri)
        check_repeatable_words(decoding, vocabulary, "decoding")
        trained = load_trained(path_utils.serving_model_dir(weights.uri), vocabulary)
        export(path_utils.serving_model_dir(model.uri), trained, vocabulary, decoding)
