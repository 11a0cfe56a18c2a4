"""TensorProto to array and back, as TF Serving reads and writes them."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from tfx_captioner.serving.local.status import StatusError, invalid_argument

# A TensorProto of a few bytes may claim any shape, and repeats its last value to fill it. So what
# counts is what the tensor will take, which is as much as a message of the largest size holds.
_MAX_BYTES = 64 << 20
_STRING_BYTES = 24  # of a string in TensorFlow, without what is in it

# `Tensor::AsProtoField` writes values into typed fields, never into `tensor_content`; clients rely
# on it (`response.outputs["y"].float_val`).
_VALUE_FIELD: dict[tf.DType, str] = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


def from_proto(proto: tensor_pb2.TensorProto, alias: str) -> np.ndarray:
    """Reads a tensor of a request.

    Args:
      proto: The tensor.
      alias: Its name in the signature, for the error.

    Raises:
      StatusError: INVALID_ARGUMENT; the shape, the type and the values do not fit together, or the
        tensor would take more than 64 MiB.
    """
    try:
        dtype = tf.dtypes.as_dtype(proto.dtype)
        shape = [dim.size for dim in proto.tensor_shape.dim]
        elements = math.prod(shape)
        if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
            raise ValueError("a tensor of a request has a fully defined shape")
        if elements * (_STRING_BYTES if dtype == tf.string else dtype.size) > _MAX_BYTES:
            raise ValueError(f"{elements} elements of {dtype.name} are more than {_MAX_BYTES} B")
        field = _VALUE_FIELD.get(dtype)
        if field and not proto.tensor_content and len(getattr(proto, field)) > elements:
            raise ValueError("more values than the shape holds")
        return tf.make_ndarray(proto).astype(dtype.as_numpy_dtype, copy=False)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise parsing_error(alias) from error


def to_proto(array: np.ndarray, proto: tensor_pb2.TensorProto, dtype: tf.DType) -> None:
    """Writes an array into a tensor of a response.

    Args:
      array: Values.
      proto: Empty tensor to fill.
      dtype: The tensor's type.
    """
    field = _VALUE_FIELD.get(dtype)
    if field is None:
        proto.CopyFrom(tf.make_tensor_proto(array, dtype=dtype))
        return
    proto.dtype = dtype.as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, field).extend(array.ravel().tolist())


def dtype_name(dtype: tf.DType) -> str:
    """The name that TensorFlow's C++, and so TF Serving, gives a type: float, not float32."""
    return {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)


def parsing_error(alias: str) -> StatusError:
    """How a tensor that cannot be read is refused.

    Args:
      alias: Its name in the signature.
    """
    return invalid_argument(f"tensor parsing error: {alias}")
