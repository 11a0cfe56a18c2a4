"""The REST entry point: TF Serving's paths, bodies and status codes, as an ASGI application."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
import tensorflow as tf
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_status_pb2, model_pb2

from tfx_captioner.serving.local import json_answer, json_tensor
from tfx_captioner.serving.local.bodies import BodyReader, Decoder, SlowBodyError
from tfx_captioner.serving.local.json_parser import WorkLimits
from tfx_captioner.serving.local.predictor import Predictor
from tfx_captioner.serving.local.signatures import DEFAULT_SIGNATURE, SignatureDef, check_inputs
from tfx_captioner.serving.local.status import (
    CODE_BY_NUMBER,
    HTTP_STATUS,
    Code,
    StatusError,
    invalid_argument,
)

_LOG = logging.getLogger("captioner.serving")

_MAX_VERSION = 2**63 - 1
_ANY = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_CHOICE = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_INFERENCE = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_CHOICE}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_STATUS = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_CHOICE}(?:/(?P<metadata>metadata))?", re.IGNORECASE
)
# libevent's page, which is what TF Serving shows outside of /v1.
_NOT_FOUND_PAGE = (
    "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n"
    "<H1>Not Found</H1>\n</BODY></HTML>\n"
)
_CLASSIFY_OR_REGRESS = {
    "classify": ("classification", tf.saved_model.CLASSIFY_METHOD_NAME),
    "regress": ("regression", tf.saved_model.REGRESS_METHOD_NAME),
}


@dataclass(frozen=True)
class RestLimits:
    """Bounds of the REST API.

    Attributes:
      timeout: Seconds a request may take, its body's arrival and its answer each; the server's
        protocol bounds the rest.
      max_body_bytes: Largest body, before and after decompression.
      max_concurrent: Requests at the same time; one counts when its body is there.
      metrics_path: Path of the Prometheus page; empty for none.
    """

    timeout: float
    max_body_bytes: int
    max_concurrent: int
    metrics_path: str = ""


class RestApi:
    """ASGI application."""

    def __init__(self, predictor: Predictor, limits: RestLimits) -> None:
        self._predictor = predictor
        self._limits = limits
        self._active = 0
        self._bodies = BodyReader(limits.max_body_bytes)
        self._decoder = Decoder(limits.max_body_bytes)
        # Megabytes of JSON are read and written, and the model is waited for, off the event loop.
        self._workers = ThreadPoolExecutor(limits.max_concurrent, thread_name_prefix="rest")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            response = await self._respond(Request(scope, receive))
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("latin-1")
        if self._limits.metrics_path and path == self._limits.metrics_path:
            return Response(self._predictor.metrics.page(), headers={"Content-Type": "text/plain"})
        if not _ANY.fullmatch(path):
            return Response(_NOT_FOUND_PAGE, status_code=404, media_type="text/html")
        try:
            body = await self._dispatch(request, path)
        except SlowBodyError as error:
            return _error_response(error, {"Connection": "close"})
        except StatusError as error:
            return _error_response(error)
        except ClientDisconnect:
            raise
        except Exception as error:
            _LOG.exception("%s %s failed inside the server", request.method, path)
            return _error_response(StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
        return Response(body, media_type="application/json")

    async def _dispatch(self, request: Request, path: str) -> bytes:
        malformed = invalid_argument(f"Malformed request: {request.method} {path}")
        inference = _INFERENCE.fullmatch(path) if request.method == "POST" else None
        if inference:
            # The path may be written in any case, but TF Serving knows the method in this one only.
            if inference["method"] not in ("predict", *_CLASSIFY_OR_REGRESS):
                raise malformed
            spec = _model_spec(inference)
            is_gzip = request.headers.get("content-encoding", "").lower() == "gzip"
            async with self._bodies.body(request, self._limits.timeout) as body:
                return await self._work(self._infer, inference["method"], spec, body, is_gzip)
        status = _STATUS.fullmatch(path) if request.method == "GET" else None
        if not status:
            raise malformed
        if not status["name"]:
            raise invalid_argument("Missing model name in request.")
        spec = _model_spec(status)
        return self._metadata(spec) if status["metadata"] == "metadata" else self._status(spec)

    async def _work(self, function: Callable[..., bytes], *arguments: Any) -> bytes:
        """Runs a function in a thread, and gives it the deadline of the answer."""
        if self._active >= self._limits.max_concurrent:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"More than {self._limits.max_concurrent} requests at the same time",
            )
        timeout = self._limits.timeout
        call = functools.partial(function, *arguments, time.monotonic() + timeout)
        self._active += 1
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._workers, call)
            return await asyncio.wait_for(answer, timeout)
        except asyncio.TimeoutError as error:
            # The thread has the same deadline, and looks at it; nobody waits for it here.
            raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded") from error
        finally:
            self._active -= 1

    def _infer(
        self, method: str, spec: model_pb2.ModelSpec, body: bytes, is_gzip: bool, deadline: float
    ) -> bytes:
        limits = WorkLimits(deadline)
        if method == "predict":
            return self._predict(spec, body, is_gzip, limits)
        with self._decoder.json(body, is_gzip=is_gzip, limits=limits) as text:
            name = json_tensor.parse_object(text, limits).get("signature_name", "")
        spec.signature_name = name if isinstance(name, str) else ""
        kind, method_name = _CLASSIFY_OR_REGRESS[method]
        raise self._predictor.refuse_method(spec, kind, method_name)

    def _predict(
        self, spec: model_pb2.ModelSpec, body: bytes, is_gzip: bool, limits: WorkLimits
    ) -> bytes:
        served = spec.name in self._predictor.manager.model_names()
        with self._predictor.metrics.request(spec.name if served else "", "REST"):
            with self._decoder.json(body, is_gzip=is_gzip, limits=limits) as text:
                request = json_tensor.parse_predict(
                    text, lambda name: self._inputs(spec, name), limits
                )
            spec.signature_name = request.signature_name
            timeout = max(0.0, limits.deadline - time.monotonic())

            def read_inputs(signature: SignatureDef) -> dict[str, np.ndarray]:
                # Meanwhile a new version may answer, which may have another signature.
                check_inputs(signature, request.inputs)
                return request.inputs

            prediction = self._predictor.predict(spec, read_inputs, timeout=timeout)
            return json_answer.format_predict(prediction.outputs, request.form)

    def _inputs(self, spec: model_pb2.ModelSpec, name: str) -> json_tensor.Signature:
        name = name or DEFAULT_SIGNATURE
        _, signatures = self._predictor.signatures(spec)
        if name not in signatures:
            raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
        return dict(sorted(signatures[name].inputs.items()))

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        if spec.WhichOneof("version_choice") == "version_label":
            spec.ClearField("version_label")  # TF Serving's status looks at the version alone
        response = self._predictor.manager.status(spec)
        return _pretty(
            {"model_version_status": [*map(_version_json, response.model_version_status)]}
        )

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        version, signatures = self._predictor.signatures(spec)
        signature_def = {
            name: _signature_json(signature) for name, signature in sorted(signatures.items())
        }
        return _pretty(
            {
                "model_spec": {"name": spec.name, "signature_name": "", "version": str(version)},
                "metadata": {"signature_def": {"signature_def": signature_def}},
            }
        )


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    if match["version"]:
        digits = match["version"].lstrip("0") or "0"
        # The length first: Python refuses to convert thousands of digits.
        if len(digits) > len(str(_MAX_VERSION)) or int(digits) > _MAX_VERSION:
            raise invalid_argument(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(digits)
    elif match["label"]:
        spec.version_label = unquote(match["label"])
    return spec


def _error_response(error: StatusError, headers: dict[str, str] | None = None) -> Response:
    message = json.dumps(error.message, ensure_ascii=False)
    return Response(
        f'{{ "error": {message} }}'.encode("utf-8", errors="replace"),
        status_code=HTTP_STATUS[error.code],
        headers=headers,
        media_type="application/json",
    )


def _version_json(version: get_model_status_pb2.ModelVersionStatus) -> dict[str, Any]:
    return {
        "version": str(version.version),
        "state": get_model_status_pb2.ModelVersionStatus.State.Name(version.state),
        "status": {
            "error_code": CODE_BY_NUMBER[version.status.error_code].name,
            "error_message": version.status.error_message,
        },
    }


def _signature_json(signature: meta_graph_pb2.SignatureDef) -> dict[str, Any]:
    return {
        "inputs": _tensor_infos_json(signature.inputs),
        "outputs": _tensor_infos_json(signature.outputs),
        "method_name": signature.method_name,
        "defaults": {},
    }


def _tensor_infos_json(infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, Any]:
    return {
        alias: {
            "dtype": types_pb2.DataType.Name(info.dtype),
            "tensor_shape": {
                "dim": [{"size": str(dim.size), "name": dim.name} for dim in info.tensor_shape.dim],
                "unknown_rank": info.tensor_shape.unknown_rank,
            },
            "name": info.name,
        }
        for alias, info in sorted(infos.items())
    }


def _pretty(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"
