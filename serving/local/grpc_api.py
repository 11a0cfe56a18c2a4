"""The gRPC entry point, on the official stubs of tensorflow-serving-api."""

from __future__ import annotations

import asyncio
import logging

import grpc
import tensorflow as tf
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.local import tensors
from serving.local.predictor import Predictor
from serving.local.status import Code, StatusError, invalid_argument

_SERVICES = ("", "PredictionService", "ModelService")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`tensorflow.serving.PredictionService`."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    async def Predict(self, request, context):  # noqa: N802 - the name is the protocol's
        try:
            with self._predictor.metrics.request(self._served_name(request), "GRPC"):
                return await self._predict(request, context.time_remaining())
        except StatusError as error:
            await context.abort(error.code, error.message)

    async def GetModelMetadata(self, request, context):  # noqa: N802
        try:
            return self._metadata(request)
        except StatusError as error:
            await context.abort(error.code, error.message)

    async def Classify(self, request, context):  # noqa: N802
        await self._refuse(request, context, "classification", "tensorflow/serving/classify")

    async def Regress(self, request, context):  # noqa: N802
        await self._refuse(request, context, "regression", "tensorflow/serving/regress")

    async def MultiInference(self, request, context):  # noqa: N802
        if not request.tasks:
            await context.abort(
                Code.INVALID_ARGUMENT, "Inference request must contain at least one task"
            )
        await self._refuse(
            request.tasks[0], context, "classification", request.tasks[0].method_name
        )

    async def _predict(self, request, timeout):
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        inputs = {
            alias: tensors.from_proto(proto, alias) for alias, proto in request.inputs.items()
        }
        prediction = await self._predictor.predict(
            request.model_spec, inputs, output_filter=request.output_filter, timeout=timeout
        )
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = prediction.signature_name
        response.model_spec.version.value = prediction.version
        for alias, array in prediction.outputs.items():
            dtype = tf.dtypes.as_dtype(prediction.signature.outputs[alias].dtype)
            tensors.to_proto(array, response.outputs[alias], dtype)
        return response

    def _metadata(self, request):
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
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

    async def _refuse(self, request, context, kind, method_name):
        try:
            error = self._predictor.refuse_method(request.model_spec, kind, method_name)
        except StatusError as not_served:
            error = not_served
        await context.abort(error.code, error.message)

    def _served_name(self, request) -> str:
        """Names that are not served are not made metrics of: anybody may send any."""
        name = request.model_spec.name
        return name if name in self._predictor.manager.model_names() else ""


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """`tensorflow.serving.ModelService`."""

    def __init__(self, predictor: Predictor) -> None:
        self._manager = predictor.manager

    async def GetModelStatus(self, request, context):  # noqa: N802
        try:
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            return self._manager.status(request.model_spec)
        except StatusError as error:
            await context.abort(error.code, error.message)

    async def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        from tensorflow_serving.apis import model_management_pb2

        try:
            await asyncio.get_running_loop().run_in_executor(
                None, self._manager.configure, request.config
            )
        except StatusError as error:
            await context.abort(error.code, error.message)
        return model_management_pb2.ReloadConfigResponse()


def make_server(
    predictor: Predictor, *, max_message_bytes: int, max_concurrent: int
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """A gRPC server with all services, not started.

    Args:
      predictor: What answers.
      max_message_bytes: Larger requests are refused with RESOURCE_EXHAUSTED.
      max_concurrent: Calls at the same time; more are refused with RESOURCE_EXHAUSTED.

    Returns:
      The server, and its health service, which says NOT_SERVING until told.
    """
    # A request that is no protobuf is the client's fault; grpc logs a traceback for each.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    logging.getLogger("grpc._common").setLevel(logging.CRITICAL)
    server = grpc.aio.server(
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
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(predictor), server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return server, servicer


async def set_serving(servicer: health.aio.HealthServicer) -> None:
    """Says SERVING for all services."""
    for service in _SERVICES:
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
