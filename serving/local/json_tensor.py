"""Predict bodies of the REST API to arrays.

Behaviour and words of tensorflow_serving/util/json_tensor.cc: row form (`instances` in,
`predictions` out) and columnar form (`inputs` in, `outputs` out).
"""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tfx_captioner.serving.local import json_parser, tensors
from tfx_captioner.serving.local.json_parser import DEFAULT_LIMITS, WorkLimits
from tfx_captioner.serving.local.status import Code, StatusError, invalid_argument

Form = Literal["row", "columnar"]
Signature = Mapping[str, meta_graph_pb2.TensorInfo]

# A TensorShape has 254 dimensions at the most, but an array of numpy 32, one of them for the rows.
_MAX_RANK = 31
_PADDING, _BASE64_SPACE = "=.", " \t\n\v\f\r"
_MAX_ECHO = 256  # characters of a value repeated in an error
_INTEGER_RANGE = {
    # int_val holds 32 bits whatever the width of the tensor's type
    tf.int8: (-(2**31), 2**31 - 1),
    tf.uint8: (-(2**31), 2**31 - 1),
    tf.int16: (-(2**31), 2**31 - 1),
    tf.int32: (-(2**31), 2**31 - 1),
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}


@dataclass(frozen=True)
class PredictBody:
    """A predict request of the REST API.

    Attributes:
      signature_name: Empty for the default.
      form: Row or columnar; the answer has the same.
      inputs: Arrays by input alias.
    """

    signature_name: str
    form: Form
    inputs: dict[str, np.ndarray]


def parse_predict(
    body: bytes,
    signature_of: Callable[[str], Signature],
    limits: WorkLimits = DEFAULT_LIMITS,
) -> PredictBody:
    """Reads a predict body.

    Args:
      body: The JSON.
      signature_of: Gives the inputs of the signature of a name, which may be empty.
      limits: Bounds of the work.

    Raises:
      StatusError: The body is refused, in TF Serving's words; or the time is up.
    """
    document = parse_object(body, limits)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {_echo_body(body)} not formatted correctly. 'signature_name' key must be "
            "a string value."
        )
    infos = signature_of(name)
    if not infos:
        raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise _format_error(
            body,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise _format_error(body, "Expecting 'instances' to be an list/array")
        if not instances:
            raise _format_error(body, "No values in 'instances' array")
        return PredictBody(name, "row", _from_instances(instances, infos, limits))
    if "inputs" in document:
        return PredictBody(name, "columnar", _from_inputs(document["inputs"], infos, limits))
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def parse_object(body: bytes, limits: WorkLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Parses a body that must be a JSON object.

    Args:
      body: The JSON.
      limits: Bounds of the work.

    Raises:
      StatusError: It is not; or the time is up.
    """
    document = json_parser.parse(body, limits)
    if not isinstance(document, dict):
        raise _format_error(body, "Is not object")
    return document


def _from_instances(
    instances: list[Any], infos: Signature, limits: WorkLimits
) -> dict[str, np.ndarray]:
    named = _is_plain_object(instances[0])
    if not named and len(infos) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    columns = {alias: _Column(tf.dtypes.as_dtype(info.dtype)) for alias, info in infos.items()}
    for index, element in enumerate(instances):
        where = f"Failed to process element: {index}"
        if named != _is_plain_object(element):
            raise invalid_argument(
                f"Expecting {'object but got list' if named else 'value/list but got object'} at "
                f"item {index} of input list"
            )
        if not named:
            _add_instance(element, next(iter(infos)), columns, where, limits)
            continue
        for key, value in element.items():
            _add_instance(value, key, columns, f"{where} key: {key}", limits)
        if set(element) != set(infos):
            raise invalid_argument(
                f"{where} of 'instances' list. JSON object: {_echo(element)} keys must be equal "
                f"to: {','.join(sorted(infos))}"
            )
    return {alias: column.stack() for alias, column in columns.items()}


@dataclass
class _Column:
    """Values of one input, instance by instance.

    Attributes:
      dtype: Type of the tensor.
      shape: Shape of every instance; that of the first.
      count: Number of instances.
      flat: Their values, one instance after the other.
    """

    dtype: tf.DType
    shape: list[int] = field(default_factory=list)
    count: int = 0
    flat: list[Any] = field(default_factory=list)

    def add(self, value: Any, limits: WorkLimits) -> None:
        shape, before = _shape_of(value), len(self.flat)
        _flatten(value, 0, shape, self.dtype, self.flat, limits)
        size, expected = len(self.flat) - before, math.prod(self.shape)
        if self.count and size != expected:
            raise invalid_argument(f"Expecting tensor size: {expected} but got: {size}")
        if self.count and shape != self.shape:
            raise invalid_argument(f"Expecting shape {_dims(self.shape)} but got: {_dims(shape)}")
        self.shape = shape
        self.count += 1

    def stack(self) -> np.ndarray:
        return _make_array(self.flat, [self.count, *self.shape], self.dtype)


def _add_instance(
    value: Any, alias: str, columns: dict[str, _Column], where: str, limits: WorkLimits
) -> None:
    limits.check_deadline()
    try:
        if alias not in columns:
            raise invalid_argument(f"JSON object: does not have named input: {alias}")
        columns[alias].add(value, limits)
    except StatusError as error:
        raise invalid_argument(f"{where} of 'instances' list. Error: {error}") from error


def _from_inputs(value: Any, infos: Signature, limits: WorkLimits) -> dict[str, np.ndarray]:
    if not _is_plain_object(value):
        if len(infos) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        value = {next(iter(infos)): value}
    arrays = {}
    for alias, info in infos.items():
        if alias not in value:
            raise invalid_argument(f"Missing named input: {alias} in 'inputs' object.")
        arrays[alias] = _to_array(value[alias], tf.dtypes.as_dtype(info.dtype), limits)
    return arrays


def _to_array(value: Any, dtype: tf.DType, limits: WorkLimits) -> np.ndarray:
    """A JSON value, or lists of them nested to the same depth, as an array."""
    shape = _shape_of(value)
    flat: list[Any] = []
    _flatten(value, 0, shape, dtype, flat, limits)
    return _make_array(flat, shape, dtype)


def _shape_of(value: Any) -> list[int]:
    """The shape of nested lists, by the first of each."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > _MAX_RANK:
            raise invalid_argument(f"Lists are nested deeper than {_MAX_RANK} levels")
        if not value:
            break
        value = value[0]
    return shape


def _make_array(flat: list[Any], shape: list[int], dtype: tf.DType) -> np.ndarray:
    if dtype in _INTEGER_RANGE:
        wide = np.array(flat, dtype=np.uint64 if dtype == tf.uint64 else np.int64)
        return wide.astype(dtype.as_numpy_dtype).reshape(shape)
    with np.errstate(over="ignore"):  # what does not fit a float32 becomes infinite
        return np.array(flat, dtype=dtype.as_numpy_dtype).reshape(shape)


def _flatten(
    value: Any,
    level: int,
    shape: list[int],
    dtype: tf.DType,
    flat: list[Any],
    limits: WorkLimits,
) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {_echo(value)} found at incorrect level: {level + 1} in the JSON "
                f"DOM. Expected at level: {len(shape)}"
            )
        flat.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )
    limits.check_deadline()
    for item in value:
        _flatten(item, level + 1, shape, dtype, flat, limits)


def _scalar(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, dict):
            return _decode_base64(value)
        if isinstance(value, str):
            return _to_bytes(value)
    elif dtype in (tf.float32, tf.float64):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _to_double(value)
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif dtype in _INTEGER_RANGE:
        low, high = _INTEGER_RANGE[dtype]
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
    else:
        raise StatusError(
            Code.UNIMPLEMENTED, f"Conversion of JSON Value: {_echo(value)} to type: {dtype.name}"
        )
    raise invalid_argument(
        f"JSON Value: {_echo(value)} Type: {_json_type(value)} is not of expected type: "
        f"{tensors.dtype_name(dtype)}"
    )


def _to_double(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _decode_base64(value: dict[str, Any]) -> bytes:
    if not _is_base64_object(value):
        raise invalid_argument(
            f"JSON Value: {_echo(value)} not formatted correctly for base64 data"
        )
    # absl::Base64Unescape skips white space, takes dots for padding too, and wants all of the
    # padding or none of it.
    text = value["b64"].rstrip(_PADDING + _BASE64_SPACE)
    decoded = _decode_letters(text)
    if decoded is None:
        decoded = _decode_letters(text.translate(dict.fromkeys(map(ord, _BASE64_SPACE))))
    padding = sum(value["b64"].count(letter, len(text)) for letter in _PADDING)
    if decoded is None or padding not in (0, -len(decoded) % 3):
        raise invalid_argument("Unable to base64 decode")
    return decoded


def _decode_letters(text: str) -> bytes | None:
    """Decodes base64 without padding; None where there is anything else in it.

    `binascii` leaves out what it does not know, which the length of its output tells; looking for
    that beforehand takes several times as long as decoding does.
    """
    if len(text) % 4 == 1:
        return None  # no bytes have so many letters
    try:
        decoded = binascii.a2b_base64(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return decoded if len(decoded) == len(text) * 3 // 4 else None


def _to_bytes(value: str) -> bytes:
    try:
        return value.encode("utf-8", errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise invalid_argument(
            "JSON Parse error: The surrogate pair in string is invalid."
        ) from error


def _is_plain_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64_object(value)


def _is_base64_object(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _json_type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "Null" if value is None else str(value)
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def _dims(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _format_error(body: bytes, what: str) -> StatusError:
    return invalid_argument(f"JSON Value: {_echo_body(body)} {what}")


def _echo_body(body: bytes) -> str:
    return _shorten(body[: _MAX_ECHO + 1].decode("utf-8", errors="replace"))


def _echo(value: Any) -> str:
    """The beginning of a value; the rest, which may be megabytes, is not even written."""
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=False).iterencode(value):
        text += piece
        if len(text) > _MAX_ECHO:
            break
    return _shorten(text)


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_ECHO else f"{text[:_MAX_ECHO]}..."
