"""The gRPC entry point, on the official stubs of tensorflow-serving-api."""

# ruff: noqa: N802 - the methods have the names of the protocol

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfx_captioner.serving.local import tensors
from tfx_captioner.serving.local.predictor import Predictor
from tfx_captioner.serving.local.signatures import read_inputs
from tfx_captioner.serving.local.status import Code, StatusError, invalid_argument

_LOG = logging.getLogger("captioner.serving")

_SERVICES = ("", "PredictionService", "ModelService")
_LONGEST_WAIT = 24 * 3600.0  # seconds, for a call without a deadline


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`tensorflow.serving.PredictionService`; what it raises, `_Answers` tells the client."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def Predict(self, request, context):
        with self._predictor.metrics.request(self._served_name(request), "GRPC"):
            return self._predict(request, context)

    def GetModelMetadata(self, request, context):
        _require_spec(request)
        if not request.metadata_field:
            raise invalid_argument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid_argument(f"Metadata field {name} is not supported")
        version, signatures = self._predictor.signatures(request.model_spec)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        signature_map = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in signatures.items():
            signature_map.signature_def[name].CopyFrom(signature)
        response.metadata["signature_def"].Pack(signature_map)
        return response

    def Classify(self, request, context):
        raise self._predictor.refuse_method(
            request.model_spec, "classification", tf.saved_model.CLASSIFY_METHOD_NAME
        )

    def Regress(self, request, context):
        raise self._predictor.refuse_method(
            request.model_spec, "regression", tf.saved_model.REGRESS_METHOD_NAME
        )

    def MultiInference(self, request, context):
        if not request.tasks:
            raise invalid_argument("Inference request must contain at least one task")
        raise self._predictor.refuse_method(
            request.tasks[0].model_spec, "classification", request.tasks[0].method_name
        )

    def _predict(self, request, context):
        _require_spec(request)

        remaining = context.time_remaining()

        def cancel_with_the_call(cancel: Callable[[], None]) -> None:
            if not context.add_callback(cancel):
                cancel()  # the call is over already

        prediction = self._predictor.predict(
            request.model_spec,
            lambda signature: read_inputs(signature, request.inputs),
            output_filter=request.output_filter,
            timeout=_LONGEST_WAIT if remaining is None else min(remaining, _LONGEST_WAIT),
            on_submit=cancel_with_the_call,
        )
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = prediction.signature_name
        response.model_spec.version.value = prediction.version
        for alias, array in prediction.outputs.items():
            dtype = tf.dtypes.as_dtype(prediction.signature.outputs[alias].dtype)
            tensors.to_proto(array, response.outputs[alias], dtype)
        return response

    def _served_name(self, request) -> str:
        """Names that are not served are not made metrics of: anybody may send any."""
        name = request.model_spec.name
        return name if name in self._predictor.manager.model_names() else ""


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """`tensorflow.serving.ModelService`."""

    def __init__(self, predictor: Predictor, *, enable_reload_config: bool) -> None:
        self._manager = predictor.manager
        self._enable_reload_config = enable_reload_config

    def GetModelStatus(self, request, context):
        _require_spec(request)
        return self._manager.status(request.model_spec)

    def HandleReloadConfigRequest(self, request, context):
        if not self._enable_reload_config:
            raise StatusError(
                Code.PERMISSION_DENIED,
                "This server is reached from outside of its machine, so its configuration is not "
                "replaced by requests; --enable_reload_config allows it to whoever reaches the "
                "port.",
            )
        self._manager.configure(request.config)
        return model_management_pb2.ReloadConfigResponse()


class _Answers(grpc.ServerInterceptor):
    """Turns what a handler raises, and bytes that are no message, into status codes."""

    def intercept_service(self, continuation, handler_call_details):
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        def deserialize(data: bytes):
            try:
                return handler.request_deserializer(data)
            except DecodeError:
                return None

        def answer(request, context):
            if request is None:
                context.abort(Code.INTERNAL, "The request is no message of this method")
            try:
                return handler.unary_unary(request, context)
            except StatusError as error:
                status = error
            except Exception as error:
                _LOG.exception("%s failed inside the server", handler_call_details.method)
                status = StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")
            return context.abort(status.code, status.message)

        return grpc.unary_unary_rpc_method_handler(answer, deserialize, handler.response_serializer)


def _require_spec(request) -> None:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")


def make_server(
    predictor: Predictor,
    *,
    max_message_bytes: int,
    max_concurrent: int,
    enable_reload_config: bool,
) -> tuple[grpc.Server, health.HealthServicer]:
    """A gRPC server with all services, not started.

    Args:
      predictor: What answers.
      max_message_bytes: Larger requests are refused with RESOURCE_EXHAUSTED.
      max_concurrent: Calls at the same time; more are refused with RESOURCE_EXHAUSTED.
      enable_reload_config: Whether HandleReloadConfigRequest is answered.

    Returns:
      The server, and its health service, which says NOT_SERVING until told.
    """
    # Not grpc.aio: a call by it takes the event loop twice the time, and the batch threads need it.
    server = grpc.server(
        ThreadPoolExecutor(max_concurrent, thread_name_prefix="grpc"),
        interceptors=[_Answers()],
        maximum_concurrent_rpcs=max_concurrent,
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a partner
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(predictor), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        ModelService(predictor, enable_reload_config=enable_reload_config), server
    )
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return server, servicer


def set_serving(servicer: health.HealthServicer) -> None:
    """Says SERVING for all services."""
    for service in _SERVICES:
        servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
