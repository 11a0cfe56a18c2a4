"""Predict answers of the REST API from arrays.

Behaviour and words of tensorflow_serving/util/json_tensor.cc, as `json_tensor` has them for
requests.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfx_captioner.serving.local.json_tensor import Form
from tfx_captioner.serving.local.status import invalid_argument


def format_predict(outputs: Mapping[str, np.ndarray], form: Form) -> bytes:
    """Writes a predict answer.

    Args:
      outputs: Arrays by output alias; strings as object arrays of bytes.
      form: Form of the request.

    Raises:
      StatusError: An output has a type without JSON form, or the rows do not match.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    if form == "columnar":
        columns = {alias: _to_json(array, alias) for alias, array in outputs.items()}
        body = _object(columns) if len(columns) > 1 else next(iter(columns.values()))
        return b'{\n    "outputs": ' + body + b"\n}"
    _check_rows(outputs)
    rows = {alias: [_to_json(row, alias) for row in array] for alias, array in outputs.items()}
    if len(rows) == 1:
        items = next(iter(rows.values()))
    else:
        count = len(next(iter(rows.values())))
        items = [_object({alias: row[i] for alias, row in rows.items()}) for i in range(count)]
    return b'{\n    "predictions": [' + b", ".join(items) + b"]\n}"


def _check_rows(outputs: Mapping[str, np.ndarray]) -> None:
    batch_size = None
    for alias, array in outputs.items():
        if not array.ndim:
            raise invalid_argument(f"Tensor name: {alias} has no shape information ")
        if batch_size not in (None, array.shape[0]):
            raise invalid_argument(
                f"Tensor name: {alias} has inconsistent batch size: {array.shape[0]} expecting: "
                f"{batch_size}"
            )
        batch_size = array.shape[0]


def _to_json(value: Any, alias: str) -> bytes:
    if isinstance(value, np.ndarray) and value.ndim:
        return b"[" + b", ".join(_to_json(item, alias) for item in value) + b"]"
    item = value.item() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(item, bytes):
        if alias.endswith("_bytes"):
            return b'{ "b64": "' + base64.b64encode(item) + b'" }'
        return _string_to_json(item)
    if isinstance(item, (bool, int)):
        return json.dumps(item).encode()
    if isinstance(item, float):
        return _decimal(item, digits=17 if value.dtype == np.float64 else 9).encode()
    raise invalid_argument(
        f"Failed to write JSON value for tensor type: {getattr(value, 'dtype', type(item))}"
    )


def _string_to_json(value: bytes) -> bytes:
    """Strings go out as they are, also those that are no UTF-8."""
    text = value.decode("utf-8", errors="surrogateescape")
    return json.dumps(text, ensure_ascii=False).encode("utf-8", errors="surrogateescape")


def _decimal(value: float, digits: int) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    kind = np.float64 if digits == 17 else np.float32
    text = f"{value:.6g}"
    if kind(text) != kind(value):
        text = f"{value:.{digits}g}"
    return text if "." in text or "e" in text else f"{text}.0"


def _object(members: Mapping[str, bytes]) -> bytes:
    return (
        b"{"
        + b", ".join(json.dumps(name).encode() + b": " + value for name, value in members.items())
        + b"}"
    )
