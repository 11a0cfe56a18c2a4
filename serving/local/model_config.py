"""Configurations that are refused before anything of them is in force."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from tfx_captioner.serving.local.status import invalid_argument

_PLATFORM = "tensorflow"  # the only one here


def check_models(
    models: list[config_pb2.ModelConfig], served: Mapping[str, config_pb2.ModelConfig]
) -> None:
    """Refuses what server_core.cc of TF Serving refuses, in its words.

    Args:
      models: The new configuration.
      served: Models that are served now, by name.

    Raises:
      StatusError: INVALID_ARGUMENT.
    """
    names = set()
    for model in models:
        if not model.name:
            raise invalid_argument("Invalid ModelConfig: a model has no name.")
        if model.name in names:
            raise invalid_argument(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        names.add(model.name)
    for model in models:
        if not Path(model.base_path).is_absolute():
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()="
                f"{model.base_path}"
            )
    for model in models:
        platform = _platform(model)
        if platform == _PLATFORM:
            continue
        if model.name in served:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {model.name} platform was "
                f"{_PLATFORM} and new platform requested is {platform}"
            )
        raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")


def _platform(model: config_pb2.ModelConfig) -> str:
    if model.model_type == config_pb2.MODEL_TYPE_UNSPECIFIED:
        if not model.model_platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        return model.model_platform
    if model.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform."
        )
    if model.model_type != config_pb2.TENSORFLOW:
        raise invalid_argument(
            f"ModelServerConfig::model_type choice {model.model_type} not supported."
        )
    return _PLATFORM
