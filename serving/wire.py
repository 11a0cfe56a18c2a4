"""Captioning requests and answers on the wire: messages of gRPC, bodies and paths of REST.

Nothing here does input or output, so that the synchronous and the asynchronous client share it.
"""

from __future__ import annotations

import array
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tfx_captioner.serving import messages
from tfx_captioner.serving.errors import CODE_BY_HTTP_STATUS, ServingError

# Input of each signature.
_INPUTS = {"serving_examples": "examples"}
_IMAGE_INPUT = "image_bytes"
PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"
METADATA_METHOD = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS_METHOD = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD_METHOD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


@dataclass(frozen=True)
class Target:
    """The model that is asked.

    Attributes:
      model: Name of the model.
      version: Version of it; None for the latest.
      label: Label of a version, instead of `version`.
    """

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError(
                f"Give `version` or `label`, not both. Received: {self.version}, {self.label!r}."
            )


@dataclass(frozen=True)
class Answer:
    """A predict answer.

    Attributes:
      outputs: Nested lists by output alias, one item per image; strings are str.
      version: Version that answered; None over REST, which does not tell.
    """

    outputs: Mapping[str, list[Any]]
    version: int | None = None


@dataclass(frozen=True)
class ModelVersion:
    """A version as the server's status reports it.

    Attributes:
      version: Number.
      state: START, LOADING, AVAILABLE, UNLOADING or END.
      error: Why it ended, empty where all is well.
    """

    version: int
    state: str
    error: str = ""


def input_of(signature: str) -> str:
    """Alias of the input of a signature: encoded images, or serialized Examples of them."""
    return _INPUTS.get(signature, _IMAGE_INPUT)


def predict_request(target: Target, signature: str, images: Sequence[bytes]) -> Any:
    """A PredictRequest of encoded images."""
    request = messages.PredictRequest()
    _fill_spec(request.model_spec, target)
    request.model_spec.signature_name = signature
    tensor = request.inputs[input_of(signature)]
    tensor.dtype = messages.DT_STRING
    tensor.tensor_shape.dim.add(size=len(images))
    tensor.string_val.extend(images)
    return request


def status_request(target: Target) -> Any:
    """A GetModelStatusRequest; the status knows versions, not labels."""
    request = messages.GetModelStatusRequest()
    _fill_spec(request.model_spec, Target(target.model, target.version))
    return request


def metadata_request(target: Target) -> Any:
    """A GetModelMetadataRequest."""
    request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    _fill_spec(request.model_spec, target)
    return request


def read_predict(response: Any) -> Answer:
    """Reads a PredictResponse."""
    outputs = {alias: _to_lists(tensor) for alias, tensor in response.outputs.items()}
    return Answer(outputs, response.model_spec.version.value)


def read_status(response: Any) -> list[ModelVersion]:
    """Reads a GetModelStatusResponse."""
    return [
        ModelVersion(
            status.version,
            messages.STATES.get(status.state, str(status.state)),
            status.status.error_message,
        )
        for status in response.model_version_status
    ]


def to_text(value: Any) -> Any:
    """Nested lists as an answer has them: their bytes read as text."""
    if isinstance(value, list):
        return [to_text(item) for item in value]
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def predict_path(target: Target) -> str:
    """REST path of predict."""
    return f"{_model_path(target)}:predict"


def predict_body(signature: str, images: Sequence[bytes]) -> bytes:
    """REST body of predict, in columnar form."""
    head = json.dumps({"signature_name": signature, "inputs": {input_of(signature): []}}).encode()
    # Base64 needs no escaping, so the JSON encoder need not look at megabytes of it.
    encoded = b", ".join(b'{"b64": "%b"}' % base64.b64encode(image) for image in images)
    return head.replace(b"[]", b"[" + encoded + b"]", 1)


def status_path(target: Target) -> str:
    """REST path of the model status."""
    return _model_path(Target(target.model, target.version))


def metadata_path(target: Target) -> str:
    """REST path of the model metadata."""
    return f"{_model_path(target)}/metadata"


def read_json(status: int, body: bytes) -> dict[str, Any]:
    """Reads a REST answer.

    Raises:
      ServingError: The server answered with an error, or with no JSON.
    """
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and status == 200:
        return document
    told = document.get("error") if isinstance(document, dict) else None
    code = CODE_BY_HTTP_STATUS.get(status, "UNKNOWN")
    raise ServingError(code, str(told or f"HTTP status {status}: {body[:200]!r}"))


def read_predict_json(document: Mapping[str, Any], signature: str) -> Answer:
    """Reads a columnar predict answer.

    Raises:
      ServingError: It is none, or has one output where the signature has several.
    """
    outputs = document.get("outputs")
    if not isinstance(outputs, dict):
        raise ServingError("INTERNAL", f"The answer to `{signature}` has no named outputs.")
    return Answer(outputs)


def read_status_json(document: Mapping[str, Any]) -> list[ModelVersion]:
    """Reads a REST model status."""
    return [
        ModelVersion(int(item["version"]), item["state"], item["status"]["error_message"])
        for item in document["model_version_status"]
    ]


def _fill_spec(spec: Any, target: Target) -> None:
    spec.name = target.model
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label


def _model_path(target: Target) -> str:
    path = f"/v1/models/{quote(target.model, safe='')}"
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    if target.label is not None:
        return f"{path}/labels/{quote(target.label, safe='')}"
    return path


def _to_lists(tensor: Any) -> list[Any]:
    values: list[Any]
    if tensor.dtype == messages.DT_STRING:
        values = [value.decode("utf-8", errors="replace") for value in tensor.string_val]
    elif tensor.dtype == messages.DT_FLOAT:
        content = tensor.tensor_content
        values = list(array.array("f", content) if content else tensor.float_val)
    else:
        raise ServingError(
            "INTERNAL", f"An output has data type {tensor.dtype}, not text or float."
        )
    for dim in reversed(tensor.tensor_shape.dim[1:]):
        size = dim.size
        values = [values[start : start + size] for start in range(0, len(values), size)]
    return values
