"""Requests against the signature they are for, in the words of TF Serving's predict_util.cc."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfx_captioner.serving.local import tensors
from tfx_captioner.serving.local.status import (
    Code,
    StatusError,
    failed_precondition,
    invalid_argument,
)

SignatureDef: TypeAlias = meta_graph_pb2.SignatureDef

DEFAULT_SIGNATURE = "serving_default"
_METHOD_NAMES = (
    tf.saved_model.PREDICT_METHOD_NAME,
    tf.saved_model.CLASSIFY_METHOD_NAME,
    tf.saved_model.REGRESS_METHOD_NAME,
)


def find(signatures: Mapping[str, SignatureDef], name: str) -> tuple[str, SignatureDef]:
    """The signature of a predict request, and its name.

    Args:
      signatures: Those of the model.
      name: The one asked for; empty for the default.

    Raises:
      StatusError: FAILED_PRECONDITION; there is none of that name.
    """
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    return name, signatures[name]


def read_inputs(
    signature: SignatureDef, protos: Mapping[str, tensor_pb2.TensorProto]
) -> dict[str, np.ndarray]:
    """Reads the tensors of a request, those of the signature's aliases and types alone.

    Raises:
      StatusError: Not the aliases or types of the signature, one that is not for predicting, or a
        tensor that cannot be read.
    """
    _check_aliases(signature, protos)
    _check_types(signature, {alias: proto.dtype for alias, proto in protos.items()})
    return {alias: tensors.from_proto(proto, alias) for alias, proto in protos.items()}


def check_inputs(signature: SignatureDef, inputs: Mapping[str, np.ndarray]) -> None:
    """Compares the inputs of a request with its signature.

    Raises:
      StatusError: Not the aliases or types of the signature, or one that is not for predicting.
    """
    _check_aliases(signature, inputs)
    _check_types(
        signature,
        {alias: tf.dtypes.as_dtype(a.dtype).as_datatype_enum for alias, a in inputs.items()},
    )


def _check_aliases(signature: SignatureDef, inputs: Collection[str]) -> None:
    if signature.method_name not in _METHOD_NAMES:
        raise StatusError(
            Code.INTERNAL,
            "Expected prediction signature method_name to be one of "
            f"{{{', '.join(_METHOD_NAMES)}}}. Was: {signature.method_name}",
        )
    if set(inputs) != set(signature.inputs):
        sent, expected = sorted(inputs), sorted(signature.inputs)
        if len(sent) == len(expected):
            unknown = next(alias for alias in sent if alias not in signature.inputs)
            raise invalid_argument(
                f"input tensor alias not found in signature: {unknown}. Inputs expected to be in "
                f"the set {{{','.join(expected)}}}."
            )
        extra = ",".join(sorted(set(sent) - set(expected)))
        missing = ",".join(sorted(set(expected) - set(sent)))
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({{{','.join(sent)}}}) != len({{{','.join(expected)}}}). "
            f"Sent extra: {{{extra}}}. Missing but required: {{{missing}}}."
        )


def _check_types(signature: SignatureDef, types: Mapping[str, int]) -> None:
    for index, alias in enumerate(sorted(types)):
        wanted = tf.dtypes.as_dtype(signature.inputs[alias].dtype)
        try:
            got = tf.dtypes.as_dtype(types[alias])
        except TypeError as error:  # no type at all
            raise tensors.parsing_error(alias) from error
        if got != wanted:
            raise invalid_argument(
                f"Expects arg[{index}] to be {tensors.dtype_name(wanted)} but "
                f"{tensors.dtype_name(got)} is provided"
            )


def select_outputs(signature: SignatureDef, output_filter: list[str]) -> tuple[str, ...]:
    """The output aliases of an answer: those of the filter, or all where it is empty.

    Raises:
      StatusError: The filter names an output twice, or one that there is not.
    """
    for index, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {{{','.join(sorted(signature.outputs))}}}."
            )
        if alias in output_filter[:index]:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
    return tuple(output_filter or sorted(signature.outputs))
